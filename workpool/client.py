"""``WorkerClient``: what an entrypoint is given, and what any code in a worker can ask for.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

from contextvars import ContextVar
from types import SimpleNamespace

from workpool.errors import TaskInterrupt
from workpool.identity import stays_here
from workpool.messages import WorkerMessages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, NoReturn

    from numpy.typing import DTypeLike, NDArray

    from workpool.nested import Submitter
    from workpool.runner import Runner
    from workpool.task import Task

# (slot index, key, meta) of the coroutine task of this context; a plain task is in
# WorkerClient.running, which costs less to set.
in_context: ContextVar[tuple[int, Any, Any] | None] = ContextVar("workpool_task", default=None)


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

    def __init__(self, runner: Runner) -> None:
        self.worker_id = runner.seat.index
        self.state = SimpleNamespace()
        self._runner = runner
        self._seat = runner.seat
        self._submitter: Submitter | None = None
        self.messages = WorkerMessages(runner)
        self._post = runner.seat.post
        self.running: tuple[int, Any, Any] | None = None

    @property
    def task(self) -> TaskInfo | None:
        """The task that runs now; None in hooks."""
        running = in_context.get() or self.running
        if running is None:
            return None
        index, key, meta = running
        return TaskInfo(self._seat.task_handle(index), key, meta, self._seat.attempt(index))

    @property
    def cancelled(self) -> bool:
        """Whether the task that runs now is to end: it was cancelled, or its time is up."""
        running = in_context.get() or self.running
        return running is not None and self._seat.asked(running[0]) != 0

    def check_cancelled(self) -> None:
        """Raise ``TaskInterrupt`` if the task that runs now is to end."""
        if self.cancelled:
            raise TaskInterrupt

    @property
    def cancel_flag_address(self) -> int:
        """Where C code finds the same without the GIL: the address of a byte, not 0 if the task is to end.

        Read it as ``volatile const unsigned char *``, while this task runs. 0 in hooks.
        """
        running = in_context.get() or self.running
        return 0 if running is None else self._seat.cancel_address(running[0])

    def add_task(
        self, arg: Any, *, worker_affinity: int | None = None, affinity_strength: str | None = None,
        key: Any = None, meta: Any = None, cost: float | None = None, priority: int = 0,
        timeout: float | None = None, retries: int = 0,
    ) -> Task[Any]:  # fmt: skip
        """Run the pool's entrypoint on ``arg``: here when this task waits for it, or in another worker.

        The options are those of ``WorkerPool.add_task``, but that no task of a worker's runs
        in the parent. Without ``worker_affinity`` the task is this worker's, lightly.
        """
        if (
            worker_affinity is None and affinity_strength is None and key is None and meta is None
            and cost is None and priority == 0 and timeout is None and retries == 0
        ):  # fmt: skip
            return self._submit_through().add_task(arg)
        from workpool.options import Options  # with typing, which few workers need

        options = Options(
            self._runner.workers, worker_affinity=worker_affinity, affinity_strength=affinity_strength,
            key=key, meta=meta, cost=cost, priority=priority, timeout=timeout, retries=retries,
        )  # fmt: skip
        return self._submit_through().add_task(arg, options)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Run ``fn(*args, **kwargs)``: here when this task waits for it, or in another worker."""
        return (self._submitter or self._submit_through()).submit(fn, args, kwargs)

    def map(
        self, fn: Callable[..., Any], *iterables: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """``fn`` of each item, or of each tuple of items, as an iterator of results in order.

        Args:
            fn: Called in this worker or others.
            *iterables: As for the builtin ``map``; read at once.
            chunksize: Items per task; by default it follows their measured cost.
        """
        return self._submit_through().map(fn, iterables, chunksize, self._runner.workers)

    def empty(self, shape: int | Sequence[int], dtype: DTypeLike = float) -> NDArray[Any]:
        """A NumPy array in the pool's shared memory: returning it, or a view, copies nothing.

        Args:
            shape: Its dimensions.
            dtype: Any without Python objects.

        Raises:
            TypeError: Its items would be Python objects.
            ArenaFull: There is no room; see ``WorkerPool(memory=...)``.
        """
        from workpool import arrays

        return arrays.empty(self._seat, shape, dtype)

    def on_message(self, type: str, handler: Callable[[Any, WorkerClient], Any]) -> None:  # noqa: A002
        """Have ``handler(contents, client)`` called for each message of ``type`` to this worker.

        Messages are handled between tasks, while the worker is idle, at ``await`` and in
        ``poll_messages()``. Usually called in ``on_worker_start``: messages that came before
        wait until it has run. Several handlers of a type are called in the order in which
        they were added; adding the same again changes nothing. A handler may be a coroutine
        function. One that raises is logged.
        """
        self.messages.add(type, handler)

    def post_message_to_pool(self, type: str, contents: Any = None) -> None:  # noqa: A002
        """Send a message to the pool's listeners; waits while 64 KiB of messages are unread.

        Args:
            type: Which listeners get it.
            contents: Anything that can be pickled, of any size.
        """
        if not self._post(0, 0, type, contents):
            self.messages.dropped(type)

    def poll_messages(self) -> int:
        """Handle the messages that are there now; returns how many."""
        return self.messages.poll(self)

    def _submit_through(self) -> Submitter:
        if self._submitter is None:
            from workpool.nested import Submitter

            self._submitter = Submitter(self._runner)
        return self._submitter

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        stays_here("a client", "ask for workpool.current_client() where it is needed")

    def __repr__(self) -> str:
        return f"<WorkerClient of worker {self.worker_id}>"


_current: WorkerClient | None = None


# In a task that runs in the parent: its call, which knows the main client and what is asked of it.
in_parent: ContextVar[Any] = ContextVar("workpool_parent", default=None)


def current_client() -> WorkerClient:
    """The client of this worker; in a task that runs in the parent, the main client.

    Raises:
        RuntimeError: This is no task, and this process not a worker.
    """
    if _current is None:
        call = in_parent.get()
        if call is None:
            raise RuntimeError("current_client() is for code that runs in a workpool worker")
        return call.client  # type: ignore[no-any-return]
    return _current


def set_current(client: WorkerClient | None) -> None:
    """Make ``client`` this process's; called once, by the worker's main."""
    global _current
    _current = client
