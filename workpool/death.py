"""``WorkerDied``: a worker's death, as the error of the task it ran.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import signal
from concurrent.futures import BrokenExecutor

from workpool.errors import WorkpoolError


class WorkerDied(WorkpoolError, BrokenExecutor):
    """The worker died while it ran this task. The pool goes on.

    Attributes:
        worker_id: The worker's seat.
        pid: Its process.
        exitcode: Its exit code, or minus the signal's number, as in ``subprocess``.
        task_id, key: Which task it was.
        deaths: Not 0 if the task was not run, since so many workers died in tasks with its key.
    """

    def __init__(
        self,
        worker_id: int,
        pid: int,
        exitcode: int,
        task_id: int | None = None,
        key: object = None,
        doing: str = "",
        deaths: int = 0,
    ) -> None:
        super().__init__(worker_id, pid, exitcode, task_id, key, doing, deaths)
        self.worker_id = worker_id
        self.pid = pid
        self.exitcode = exitcode
        self.task_id = task_id
        self.key = key
        self.doing = doing
        self.deaths = deaths

    def __str__(self) -> str:
        which = "" if self.task_id is None else f" task {self.task_id}"
        if self.key is not None:
            which += f" (key {self.key!r})"
        if self.deaths:
            return (
                f"{which.strip()} is not run: {self.deaths} workers died in tasks with this key, the last, "
                f"worker {self.worker_id} (pid {self.pid}), {_how(self.exitcode)}; once the cause is gone, "
                f"use another key or a new pool"
            )
        doing = self.doing or "ran"
        return f"worker {self.worker_id} (pid {self.pid}) {_how(self.exitcode)} while it {doing}{which}"


def _how(exitcode: int) -> str:
    """How a process ended, in words."""
    if exitcode >= 0:
        return f"exited with code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"was killed by {name}"


WorkerDied.__module__ = "workpool.errors"  # where users find it
