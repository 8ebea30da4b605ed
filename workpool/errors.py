"""What can go wrong, by name.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from workpool.death import WorkerDied as WorkerDied

__all__ = [
    "ArenaFull",
    "EntrypointError",
    "ForkedPool",
    "PoolClosed",
    "QueueFull",
    "RemoteError",
    "TaskInterrupt",
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


class TaskInterrupt(BaseException):
    """Raised inside a task that is to end: cancelled with force, or past its ``timeout``.

    Like ``KeyboardInterrupt`` no ``Exception``, so that only code that means it holds it up.
    The outcome is not this: it is ``CancelledError`` or ``TaskTimeout``.
    """


class ArenaFull(WorkpoolError, MemoryError):
    """A payload or array does not fit into the pool's shared memory.

    Attributes:
        asked, budget, free: Bytes.
        no_memory: Whether it is the system's shared memory that is full, and not the budget.
    """

    def __init__(self, asked: int, no_memory: bool, budget: int, free: int) -> None:
        super().__init__(asked, no_memory, budget, free)
        self.asked = asked
        self.no_memory = no_memory
        self.budget = budget
        self.free = free

    def __str__(self) -> str:
        if self.no_memory:
            return (
                f"a payload of {self.asked:,} bytes does not fit: the system's shared memory (/dev/shm) "
                f"is full, though {self.free:,} of the {self.budget:,} bytes that WorkerPool(memory=...) "
                f"allows are free; enlarge it, or free what else is kept there"
            )
        return (
            f"a payload of {self.asked:,} bytes does not fit into the pool's {self.budget:,} bytes of "
            f"shared memory, of which {self.free:,} are free; raise WorkerPool(memory=...), let go of "
            f"results and shared arrays sooner, or give map() a smaller chunksize="
        )

    def __reduce__(self) -> Any:
        return type(self), self.args  # alone: a task's slot must have room for it

    @property
    def never(self) -> bool:
        """Whether it would not fit into an empty arena either, or all of the system's shared memory."""
        if not self.no_memory:
            return self.asked > self.budget
        import os

        try:
            status = os.statvfs("/dev/shm")
        except OSError:  # nobody tells what there is
            return False
        return 0 < status.f_blocks * status.f_frsize < self.asked  # 0: it has no limit


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
    """The worker's traceback, as the ``__cause__`` of a task's exception.

    Attributes:
        tb: Its text; called as in ``concurrent.futures``, for those who look for it there.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.tb = text

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'


def __getattr__(name: str) -> Any:
    # It is a concurrent.futures error, and importing that costs a worker 6 ms it has no use for.
    if name == "WorkerDied":
        from workpool.death import WorkerDied

        return WorkerDied
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
