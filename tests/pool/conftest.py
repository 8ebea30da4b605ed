"""Fixtures of the pool's tests.

SPDX-License-Identifier: BSD-3-Clause
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pool_support import Gate, script_environment

from workpool import WorkerPool


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path)
    yield gate
    gate.open()


@pytest.fixture
def pool() -> Iterator[WorkerPool[Any, Any]]:
    """A pool of two workers, both launched at once."""
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        yield pool


@pytest.fixture(scope="module")
def lasting_pool() -> Iterator[WorkerPool[Any, Any]]:
    """One for all tests of a module that see what comes back, many times over, and no more of the pool."""
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready(30)  # else its workers would be new in the first test
        yield pool


Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Run text as a script of its own, in an empty folder."""

    def run(text: str, *, stdin: bool = False, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "script.py"
        path.write_text(text)
        command = [sys.executable, "-"] if stdin else [sys.executable, str(path)]
        return subprocess.run(
            command, input=text if stdin else None, capture_output=True, text=True, timeout=timeout,
            cwd=tmp_path, env=script_environment(),
        )  # fmt: skip

    return run
