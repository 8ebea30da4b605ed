"""``WorkerClient``: what an entrypoint is given, and what any code in a worker can ask for.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

from contextvars import ContextVar
from types import SimpleNamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from workpool._core import Seat

# (slot index, key, meta) of the coroutine task of this context; a plain task is in
# WorkerClient._running, which costs less to set.
_in_context: ContextVar[tuple[int, Any, Any] | None] = ContextVar("workpool_task", default=None)


class TaskInfo:
    """The task that runs now.

    Attributes:
        id: Its handle in the pool: unique among unfinished tasks.
        key, meta: As given to ``add_task``.
        attempt: 1, or more when a worker died before.
    """

    def __init__(self, id: int, key: Any, meta: Any, attempt: int) -> None:  # noqa: A002
        self.id = id
        self.key = key
        self.meta = meta
        self.attempt = attempt

    def __repr__(self) -> str:
        return f"TaskInfo(id={self.id}, key={self.key!r}, meta={self.meta!r}, attempt={self.attempt})"


class WorkerClient:
    """A worker's own view of its pool.

    Attributes:
        worker_id: The worker's seat, from 1 on; a replacement inherits it.
        state: A namespace of the worker's own, for caches and connections.
    """

    def __init__(self, seat: Seat) -> None:
        self.worker_id = seat.index
        self.state = SimpleNamespace()
        self._seat = seat
        self._running: tuple[int, Any, Any] | None = None

    @property
    def task(self) -> TaskInfo | None:
        """The task that runs now; None in hooks."""
        running = _in_context.get() or self._running
        if running is None:
            return None
        index, key, meta = running
        return TaskInfo(self._seat.task_handle(index), key, meta, self._seat.attempt(index))

    def __repr__(self) -> str:
        return f"<WorkerClient of worker {self.worker_id}>"


_current: WorkerClient | None = None


def current_client() -> WorkerClient:
    """The client of this worker.

    Raises:
        RuntimeError: This process is not a worker.
    """
    if _current is None:
        raise RuntimeError("current_client() is for code that runs in a workpool worker")
    return _current


def set_current(client: WorkerClient | None) -> None:
    """Make ``client`` this process's; called once, by the worker's main."""
    global _current
    _current = client
