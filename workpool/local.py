"""Tasks of the parent: ``worker_affinity="main"``. They are called here, and never pickled.

Who runs them, in this order: a thread that waits for a task of the pool; an event loop in
which somebody has awaited one; and when nobody has begun one after a moment, a thread of
its own, so that none waits for ever. A task that waits for another runs that one in its
place if nobody has begun it, and no unrelated one.

One that runs can be asked to end: functions are interrupted (_interrupt.pyx), coroutines
cancelled in their loop. No process is killed for it, so that what does not listen goes on.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import collections
import math
import threading
import time
from contextlib import contextmanager
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from workpool import payload
from workpool._core import (
    CANCEL_ASKED,
    CANCEL_FORCE,
    CANCEL_TIME,
    OUTCOME_CANCELLED,
    OUTCOME_ERROR,
    OUTCOME_OK,
)
from workpool.client import in_parent
from workpool.errors import EntrypointError
from workpool.loading import Loaded, load, takes_client
from workpool.local_limits import Call, LocalLimits
from workpool.messages import MainClient, running_loop
from workpool.once import start_first

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from workpool.gather import Gatherer
    from workpool.loading import EntrypointSpec
    from workpool.task import Task

# Between submitting a task and waiting for it passes less, and nobody who has to be
# helped minds that much.
_GRACE_SECONDS = 0.02


class Local:
    """The parent's own tasks of one pool."""

    def __init__(
        self, gatherer: Gatherer, spec: EntrypointSpec, client: MainClient, name: str, grace: float
    ) -> None:
        self._gatherer = gatherer
        self._spec = spec
        self._client = client
        self._name = name
        self._grace = grace
        self._queue: collections.deque[Call] = collections.deque()
        self._begun: dict[int, Call] = {}  # and not settled, by the task's id
        self._active = 0  # threads that run what is queued, and wait for nothing meanwhile
        self._changed = threading.Condition()
        self._here = threading.local()
        self._thread: threading.Thread | None = None
        self._loading = threading.RLock()
        self._loaded: Loaded | None = None
        self._coroutines: set[asyncio.Task[None]] = set()
        self._closed = False
        self._limits = LocalLimits(self._look, f"{name}-main-limits")

    @property
    def unfinished(self) -> int:
        """Tasks without an outcome."""
        return len(self._queue) + len(self._begun)

    def pending(self) -> list[Task[Any]]:
        """Those that nobody has begun."""
        return [call.task for call in list(self._queue)]

    def add(self, task: Task[Any], fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Have ``fn(*args, **kwargs)`` called; without ``fn`` the entrypoint."""
        with self._changed:
            self._queue.append(Call(task, fn, args, kwargs, self._client, self._grace))
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._serve, name=f"{self._name}-main", daemon=True)
                start_first(self, thread)
            self._changed.notify_all()
        self._gatherer.call_for_help(self.run_in_loop)

    def cancel(self, task: Task[Any]) -> bool:
        """Take a task out that nobody has begun; the caller announces it."""
        return self._find(task) is not None and task.settle(OUTCOME_CANCELLED, None)

    def ask(self, task: Task[Any], force: bool, grace: float | None) -> bool:
        """Ask one that runs to end. False: there is none."""
        call = self._begun.get(task.id)
        if call is None or call.task is not task:
            return False
        if not force:
            asked = call.ask(CANCEL_ASKED)
            call.stop()
            return asked
        if grace is not None:
            call.grace = grace
        if not call.force(CANCEL_ASKED | CANCEL_FORCE):
            return False
        self._limits.note(call.again)
        self._gatherer.stir()  # its thread may wait there
        return True

    def cancel_running(self, grace: float) -> None:
        """Cancel with force what runs."""
        for call in list(self._begun.values()):
            self.ask(call.task, True, grace)

    def _look(self, now: float) -> float:
        due = min((call.look(now) for call in list(self._begun.values())), default=math.inf)
        self._gatherer.stir()
        return due

    def _find(self, task: Task[Any]) -> Call | None:
        """Take the task's call off the queue, if it is there."""
        with self._changed:
            for call in self._queue:
                if call.task is task:
                    self._queue.remove(call)
                    return call
        return None

    def _next(self) -> Call | None:
        with self._changed:
            return self._begin(self._queue.popleft()) if self._queue else None

    def _begin(self, call: Call) -> Call:
        """Count it as running. Called with the lock held."""
        self._begun[call.task.id] = call
        return call

    # ---- threads that wait -----------------------------------------------------------

    def has_work(self) -> bool:
        """Whether this thread, which waits, should run something first."""
        return bool(self._queue) and not self._is_inside() and running_loop() is None

    def run_until(self, task: Task[Any]) -> None:
        """Run what is queued, until it is empty or ``task`` is done."""
        if not self._queue:
            return
        call: Call | None
        if self._is_inside():  # under a task that waits: only what it waits for
            with self._changed:
                call = self._find(task)
                if call is not None:
                    self._begin(call)
            if call is not None:
                self._run(call)
            return
        if running_loop() is not None:  # a loop would be blocked, and could run no coroutine
            return
        with self._working():
            while not task.done() and (call := self._next()) is not None:
                self._run(call)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While this thread waits under a task that it runs, others may run the rest."""
        if not self._is_inside():
            yield
            return
        self._count_active(-1)
        try:
            yield
        finally:
            self._count_active(+1)

    def _is_inside(self) -> bool:
        return getattr(self._here, "depth", 0) > 0

    @contextmanager
    def _working(self) -> Iterator[None]:
        self._count_active(+1)
        try:
            yield
        finally:
            self._count_active(-1)

    def _count_active(self, by: int) -> None:
        with self._changed:
            self._active += by
            self._changed.notify_all()

    # ---- event loops, and the thread for when nobody waits ---------------------------

    def run_in_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run what is queued, in this loop's thread."""
        with self._working():
            while (call := self._next()) is not None:
                self._run(call, loop)

    def _serve(self) -> None:
        while True:
            with self._changed:
                while (left := self._left_to_others()) is None or left > 0:
                    if self._closed and not self._queue:
                        return
                    self._changed.wait(left)
                call = self._begin(self._queue.popleft())
            try:
                with self._working():
                    self._run(call)
            except BaseException:  # SystemExit of a task: it is its outcome already
                continue

    def _left_to_others(self) -> float | None:
        """Seconds for which the next is left to who waits; None while there is none, or they are at it."""
        if not self._queue or self._active:
            return None
        return self._queue[0].added + _GRACE_SECONDS - time.monotonic()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._limits.close()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # ---- running one -----------------------------------------------------------------

    def _run(self, call: Call, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Run a call that was counted as running to its outcome; a coroutine goes to ``loop``."""
        task = call.task
        task.in_parent = True
        token = in_parent.set(call)
        self._here.depth = getattr(self._here, "depth", 0) + 1
        begun = time.monotonic()
        try:
            function, hook = self._resolve(call)
            pre = None if hook is None else hook(*call.args)
            begun, before = time.monotonic(), begun
            value = None if type(pre) is CoroutineType else self._call(call, function)
            if type(pre) is CoroutineType or type(value) is CoroutineType:
                steps = self._finish_later(call, function, pre, value, begun - before)
                if loop is not None:
                    coroutine = loop.create_task(steps)
                    self._coroutines.add(coroutine)
                    coroutine.add_done_callback(self._coroutines.discard)
                else:
                    import asyncio

                    asyncio.run(steps)
                return
        except BaseException as error:
            self._settle(call, OUTCOME_ERROR, error, begun, 0.0)
            if not (isinstance(error, Exception) or payload.is_cancellation(error, call.asked)):
                raise
        else:
            self._settle(call, OUTCOME_OK, value, begun, begun - before)
        finally:
            self._here.depth -= 1
            in_parent.reset(token)

    def _call(self, call: Call, function: Callable[..., Any]) -> Any:
        """Call the function, which can be interrupted from here on and no longer than it runs."""
        self._limits.note(call.begin_clock())
        return call.run(function, call.args, call.kwargs)

    async def _finish_later(
        self, call: Call, function: Callable[..., Any], pre: Any, value: Any, pre_seconds: float
    ) -> None:
        import asyncio

        begun = time.monotonic()
        try:
            call.coroutine = asyncio.current_task()
            if call.asked:  # before it was known here
                call.tell()
            if pre is not None and type(pre) is CoroutineType:
                await pre
                begun, before = time.monotonic(), begun
                pre_seconds += begun - before
                value = self._call(call, function)
            if type(value) is CoroutineType:
                value = await value
        except BaseException as error:
            self._settle(call, OUTCOME_ERROR, error, begun, pre_seconds)
            if not isinstance(error, Exception):
                raise
        else:
            self._settle(call, OUTCOME_OK, value, begun, pre_seconds)

    def _settle(self, call: Call, outcome: int, value: Any, begun: float, pre_seconds: float) -> None:
        """Give the task its outcome, unless it has one: what is asked of it decides, as in a worker."""
        asked = call.end()
        with self._changed:
            if self._begun.pop(call.task.id, None) is None:
                return  # a coroutine's, which has told asyncio.run() too
        call.task.ran_in_parent(begun, time.monotonic(), pre_seconds)
        cancelled = outcome == OUTCOME_ERROR and payload.is_cancellation(value, asked)
        if asked & CANCEL_FORCE or (cancelled and not asked & CANCEL_TIME):
            outcome, value = OUTCOME_CANCELLED, None
        elif asked & CANCEL_TIME:
            cause = value if outcome == OUTCOME_ERROR else None
            outcome, value = OUTCOME_ERROR, payload.timed_out(cause, call.task)
        self._gatherer.settle_local(call.task, outcome, value)

    def _resolve(self, call: Call) -> tuple[Callable[..., Any], Callable[..., Any] | None]:
        """The function to call, and the hook before it."""
        if call.fn is not None:
            return call.fn, None
        with self._loading:
            if self._loaded is None:
                self._loaded = load(self._spec)
            loaded = self._loaded
        function, client = loaded.function, self._client
        if function is None:
            raise EntrypointError(
                "this pool has no entrypoint: use submit() or map(), or give WorkerPool one"
            )
        hook = loaded.hooks.get("pre_task")
        if hook is not None and takes_client(hook, 1):
            given = hook
            hook = lambda arg: given(arg, client)  # noqa: E731
        return ((lambda arg: function(arg, client)) if loaded.takes_client else function), hook
