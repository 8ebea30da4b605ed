"""What the pool's tests share: ``from pool_support import Gate``.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import sys
from pathlib import Path
from typing import Any

import pool_tasks as tasks
from helpers import wait_until

from workpool import Task, WorkerPool


class Gate:
    """Keeps tasks running until it is opened."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "gate")
        self._folder = folder

    def hold(self, pool: WorkerPool[Any, Any], value: Any = None) -> Task[Any]:
        """Submit a task that stays, and wait until it runs."""
        before = self.entered
        task = pool.submit(tasks.enter, self.path, value)
        wait_until(lambda: self.entered > before, timeout=20.0)
        return task

    @property
    def entered(self) -> int:
        return len(list(self._folder.glob("gate.*.entered")))

    def open(self) -> None:
        Path(f"{self.path}.open").touch()


def script_environment() -> dict[str, str]:
    """The environment of a script: this process's paths, so that it finds what we find."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
