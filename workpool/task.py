"""``Task``: the future of one task.

A ``concurrent.futures.Future`` that costs a fraction of one: its lock and condition are
made only when somebody asks for them, and waiting threads gather results themselves.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from workpool._core import OUTCOME_CANCELLED, OUTCOME_ERROR, OUTCOME_OK, TaskCore
from workpool.identity import stays_here
from workpool.options import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from workpool.gather import Gatherer
    from workpool.supervisor import Worker

R = TypeVar("R")

# Of all futures: heard of, on standard error, where logging is not set up.
_log = logging.getLogger("concurrent.futures")

# Guards the lists of watchers of all tasks: held for a few instructions at a time. Reentrant, as
# all locks here that submitting takes: a signal's handler or a finalizer that submits may come
# between any two instructions.
_registry = threading.RLock()
os.register_at_fork(after_in_child=_registry._at_fork_reinit)  # type: ignore[attr-defined]

_CLAIMED, _RUNNING = 3, 4  # enum wp_phase
_FUTURE_STATES = {OUTCOME_OK: "FINISHED", OUTCOME_CANCELLED: "CANCELLED_AND_NOTIFIED"}

# Coroutines that await tasks which are done already go on without the loop's others for so long.
_TURN_SECONDS = 0.0002


class _Turns(threading.local):
    """One thread's event loop: when awaits that wait for nothing are to let others go on.

    Tasks of microseconds are often done before they are awaited. A coroutine that submits and
    awaits one after another would keep the loop to itself.
    """

    ends = 0.0
    due_in: weakref.ref[Any] | None = None  # the loop whose next turn begins a new count

    def give(self) -> Generator[Any, None, None]:
        """Let the loop's others go on once."""
        import asyncio

        loop = asyncio.get_running_loop()
        if self.due_in is None or self.due_in() is not loop:  # a loop may have ended before that turn
            self.due_in = weakref.ref(loop)
            loop.call_soon(self._begin)
        yield

    def _begin(self) -> None:
        self.due_in = None
        self.ends = time.monotonic() + _TURN_SECONDS


_turns = _Turns()


class Task(TaskCore, Future[R], Generic[R]):
    """A task on its way: wait for it, await it, or be called back.

    Attributes:
        id: Its number, counted by the process that submitted it.
        argument: What ``add_task`` was given; None for ``submit``.
        key, meta: As given.
        task_cost, pre_task_cost: Measured seconds of the function and of the ``pre_task``
            hook; None before it has run.
    """

    @property
    def _gatherer(self) -> Gatherer:
        gatherer: Gatherer = self.seat.gatherer
        return gatherer

    def _wait(self, timeout: float | None) -> None:
        self._gatherer.wait(self, timeout)

    # ---- concurrent.futures.Future ---------------------------------------------------

    def done(self) -> bool:
        """Whether the task has an outcome."""
        if not self.outcome_code:
            self._gatherer.look()
        return self.outcome_code != 0

    def running(self) -> bool:
        """Whether a worker runs it now, or the parent."""
        return self.slot_phase in (_CLAIMED, _RUNNING) or (self.in_parent and not self.done())

    def cancel(self, force: bool = False, grace: float | None = None) -> bool:
        """Cancel the task, and what waits of its descendants.

        One that nobody has begun never runs. One that runs is told: ``client.cancelled`` is
        true from now on, and a coroutine gets ``asyncio.CancelledError`` where it awaits.

        Args:
            force: End a running task too: ``TaskInterrupt`` is raised in its Python code, and
                after ``grace`` its worker is killed and replaced.
            grace: Seconds, at least 0; by default the pool's.

        Returns:
            Whether its outcome is, or will be, ``CancelledError``.
        """
        return self._gatherer.cancel(self, force, None if grace is None else seconds("grace", grace))

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call ``fn(task)`` when the task is done: at once if it is, else in a thread that gathers."""
        if not self._watch(fn):
            _call(fn, self)
        else:
            self._gatherer.attend_in_thread()

    def _watch(self, watcher: Callable[[Any], object]) -> bool:
        """Have ``watcher(task)`` called once, at the outcome; False: it is there already."""
        gatherer, mine = self._gatherer, [watcher]
        with _registry:
            # Before the look: who settles the task sets the outcome, then looks at this.
            self.watched = True
            if self.outcome_code:
                return False
            # Since that look nothing is called or made: a signal's handler or a finalizer, which may
            # settle the task in this very thread, would find nobody to tell.
            if self.watchers is None:
                self.watchers = mine
                gatherer.watched += 1
            else:
                self.watchers.append(watcher)
        return True

    def _notify(self) -> None:
        """Tell whoever watches; called by the gatherer after the outcome is set."""
        with _registry:
            watchers, self.watchers = self.watchers, None
            if watchers is not None:
                self._gatherer.watched -= 1
            settling, self.settling = self.settling, None
        if settling is not None:
            settling(self)
        for watcher in watchers or ():
            _call(watcher, self)

    # What concurrent.futures.wait and as_completed reach into.

    @property
    def _state(self) -> str:  # type: ignore[override]
        code = self.outcome_code
        extras: _Extras | None = self.__dict__.get("_future_extras")
        if code and (extras is None or extras.told):
            return _FUTURE_STATES.get(code, "FINISHED")
        return "RUNNING" if code or self.running() else "PENDING"

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        return self._extras().condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        return self._extras().waiters

    def _extras(self) -> _Extras:
        extras: _Extras | None = self.__dict__.get("_future_extras")
        if extras is None:
            extras = self.__dict__.setdefault("_future_extras", _Extras(self._gatherer.waiter_list()))
            if extras.begin():
                if self._watch(extras.settled):
                    # Not attend_in_thread(): concurrent.futures.wait holds the conditions of other
                    # tasks, and to settle some third task here would take its condition too.
                    self._gatherer.rouse()
                else:
                    extras.settled(self)  # another thread may have put a waiter here
        return extras

    def set_running_or_notify_cancel(self) -> bool:
        """Part of ``Future``, for executors; the pool has done it."""
        return not self.cancelled()

    def set_result(self, result: Any) -> None:
        """Part of ``Future``, for executors: the pool alone gives a task its outcome."""
        self._set(OUTCOME_OK, result)

    def set_exception(self, exception: BaseException | None) -> None:
        """Part of ``Future``, for executors: the pool alone gives a task its outcome."""
        self._set(OUTCOME_ERROR, exception)

    def _set(self, outcome: int, value: Any) -> None:
        from concurrent.futures import InvalidStateError

        if self.slot_phase != -1 or not self._gatherer.settle(self, outcome, value):
            raise InvalidStateError("the pool gives this task its outcome")

    # ---- asyncio ---------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, R]:
        waits = not self.done()
        if waits:
            import asyncio

            future = self._gatherer.attend_in_loop(self, asyncio.get_running_loop())
            waits = not future.done()
            try:
                yield from future
            except asyncio.CancelledError:
                self.cancel()
                raise
        if not waits and time.monotonic() > _turns.ends:
            yield from _turns.give()
        result: R = self.result(0)
        return result

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        stays_here("a task", "send its result(), or what it was made of")

    def __repr__(self) -> str:
        key = "" if self.key is None else f" key={self.key!r}"
        return f"<Task {self.id}{key} {self._state.split('_')[0].lower()}>"

    if TYPE_CHECKING:

        def result(self, timeout: float | None = None) -> R: ...

        @property
        def worker(self) -> Worker | None: ...

    else:

        @property
        def worker(self):
            """The worker that runs or ran it; None before it is claimed, or in a worker."""
            seat = self.worker_id
            return None if seat < 1 else self._gatherer.worker(seat)


class _Extras:
    """The parts of a ``Future`` that only waits over many futures need.

    Such a wait looks at ``_state`` and leaves its waiter in one step, under the condition; so
    the state becomes final (``told``) in one step with telling the waiters, else a task that
    ends meanwhile would count twice.
    """

    def __init__(self, waiters: list[Any]) -> None:
        self.condition = threading.Condition()
        self.waiters = waiters
        self.told = False
        self._begun = False

    def begin(self) -> bool:
        with _registry:
            first, self._begun = not self._begun, True
        return first

    def settled(self, task: Task[Any]) -> None:
        with self.condition:
            self.told = True
            for waiter in self.waiters:
                if task.outcome_code == OUTCOME_OK:
                    waiter.add_result(task)
                elif task.outcome_code == OUTCOME_CANCELLED:
                    waiter.add_cancelled(task)
                else:
                    waiter.add_exception(task)
            self.condition.notify_all()


def _call(fn: Callable[[Any], object], task: Task[Any]) -> None:
    try:
        fn(task)
    except KeyboardInterrupt:
        raise
    except BaseException:  # SystemExit too: it would end the pool's own thread
        _log.exception("exception calling callback for %r", task)
