"""What can go wrong, by name.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import signal
from concurrent.futures import BrokenExecutor

__all__ = [
    "ArenaFull",
    "EntrypointError",
    "ForkedPool",
    "PoolClosed",
    "QueueFull",
    "RemoteError",
    "TaskTimeout",
    "WorkerDied",
    "WorkpoolError",
]


class WorkpoolError(Exception):
    """Base of all errors that workpool raises of its own."""


class PoolClosed(WorkpoolError, RuntimeError):
    """Work was offered to a pool that is shut down."""


class ForkedPool(WorkpoolError, RuntimeError):
    """The pool was used in a process forked from the one that made it."""


class EntrypointError(WorkpoolError, TypeError):
    """No such entrypoint: the module, file or symbol is missing, or not callable."""


class QueueFull(WorkpoolError, RuntimeError):
    """``max_pending`` tasks are unfinished, and the pool was told to raise then."""


class TaskTimeout(WorkpoolError, TimeoutError):
    """The task ran longer than its own ``timeout``."""


class WorkerDied(WorkpoolError, BrokenExecutor):
    """The worker died while it ran this task. The pool goes on.

    Attributes:
        worker_id: The worker's seat.
        pid: Its process.
        exitcode: Its exit code, or minus the signal's number, as in ``subprocess``.
        task_id, key: Which task it was.
    """

    def __init__(
        self,
        worker_id: int,
        pid: int,
        exitcode: int,
        task_id: int | None = None,
        key: object = None,
        doing: str = "",
    ) -> None:
        super().__init__(worker_id, pid, exitcode, task_id, key, doing)
        self.worker_id = worker_id
        self.pid = pid
        self.exitcode = exitcode
        self.task_id = task_id
        self.key = key
        self.doing = doing

    def __str__(self) -> str:
        which = "" if self.task_id is None else f" task {self.task_id}"
        if self.key is not None:
            which += f" (key {self.key!r})"
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


class ArenaFull(WorkpoolError, MemoryError):
    """A payload does not fit into the pool's shared memory.

    Attributes:
        asked, budget: Bytes.
    """

    def __init__(self, asked: int, no_memory: bool, budget: int) -> None:
        super().__init__(asked, no_memory, budget)
        self.asked = asked
        self.no_memory = no_memory
        self.budget = budget

    def __str__(self) -> str:
        if self.no_memory:
            return (
                f"a payload of {self.asked:,} bytes does not fit: the system's shared memory "
                f"(/dev/shm) is full; enlarge it, or free what else is kept there"
            )
        return (
            f"a payload of {self.asked:,} bytes does not fit into the pool's {self.budget:,} bytes "
            f"of shared memory; raise WorkerPool(memory=...), or gather results sooner"
        )


class RemoteError(WorkpoolError):
    """The task's exception or result could not be pickled: its type, text and traceback.

    Attributes:
        type_name: The qualified name of the original's type.
        text: What ``str()`` said of it.
        traceback: The worker's traceback, formatted.
    """

    def __init__(self, type_name: str, text: str, traceback: str = "") -> None:
        super().__init__(type_name, text, traceback)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}"


class RemoteTraceback(Exception):
    """The worker's traceback, as the ``__cause__`` of a task's exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'
