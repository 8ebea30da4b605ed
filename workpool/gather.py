"""Gathering: how outcomes get from shared memory to whoever wants them.

No dispatcher thread stands on the latency path. The thread that waits in ``result()``
leads: it sleeps on the seat's parker, without the GIL, and settles outcomes for everybody.
Others follow: each sleeps on a lock of its own until its task is settled or it is told to
lead. Tasks that are awaited in an event loop, or watched by callbacks, while no thread
leads, are served through the seat's eventfd: by the loops' readers, or by one gather
thread, started when first needed.

    armed    the eventfd is signalled at the next completion: while somebody watches
             and nobody leads
    arm, then look again: a completion before that would be missed

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import collections
import os
import select
import threading
import time
from typing import TYPE_CHECKING, Any

from workpool._core import OUTCOME_CANCELLED, OUTCOME_ERROR, OUTCOME_OK, Block, Seat

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from workpool.task import Task

# A waiting main thread looks for signals this often: one that arrives between the last
# look and the sleep would else be seen only at the next completion.
_SIGNAL_CHECK_SECONDS = 0.5


class Gatherer:
    """One home's gathering, for all its threads and event loops."""

    def __init__(self, seat: Seat, eventfd: int, worker: Callable[[int], Any]) -> None:
        self.seat = seat
        self.eventfd = eventfd
        self.worker = worker
        self.watched = 0  # unsettled tasks that somebody watches
        self._lead = threading.Lock()
        self._followers: collections.deque[threading.Lock] = collections.deque()
        self._backlog: collections.deque[tuple[Task[Any], Block | None, int, Any, int]] = collections.deque()
        self._to_notify: collections.deque[Task[Any]] = collections.deque()
        self._conditions: list[tuple[Callable[[], bool], Task[None]]] = []
        self._loops: dict[asyncio.AbstractEventLoop, _LoopReader] = {}
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closed = False

    # ---- tasks -----------------------------------------------------------------------

    @property
    def unfinished(self) -> int:
        """Tasks of this home without an outcome."""
        return self.seat.outstanding + len(self._backlog)

    def start(self, task: Task[Any], block: Block | None, call: int, payload: Any, attempts: int = 1) -> None:
        """Offer a task to the workers; past the last slot it waits here for one."""
        try:
            if not self._backlog and self.seat.start(task, block, call, payload, attempts):
                return
        except Exception as error:  # it cannot be encoded: that is its outcome
            if not task.settle(OUTCOME_ERROR, error):
                raise
            return
        self._backlog.append((task, block, call, payload, attempts))
        self.collect()
        if self._backlog:
            self.attend_in_thread()

    def cancel(self, task: Task[Any]) -> bool:
        """Cancel a task that no worker has claimed."""
        if task.cancelled():
            return True
        if not self.seat.cancel(task):
            waiting = next((entry for entry in self._backlog if entry[0] is task), None)
            if waiting is None or not task.settle(OUTCOME_CANCELLED, None):
                return False
            try:
                self._backlog.remove(waiting)
            except ValueError:
                pass  # refilled meanwhile: that passes over a task with an outcome
        self._announce([task])
        if self._conditions:
            self._check_conditions()
        return True

    def cancel_queued(self, error: BaseException | None = None) -> None:
        """Cancel what no worker has claimed; with ``error``, that is its outcome instead."""
        outcome = OUTCOME_CANCELLED if error is None else OUTCOME_ERROR
        while self._backlog:
            self.settle(self._backlog.popleft()[0], outcome, error)
        for task in self.seat.unfinished():
            if self.seat.cancel(task, error):
                self._announce([task])
        if self._conditions:
            self._check_conditions()

    def poke(self) -> None:
        """Something happened that conditions depend on: whoever gathers shall look."""
        if self._conditions or self._backlog:
            self.seat.wake()
            os.eventfd_write(self.eventfd, 1)

    def settle(self, task: Task[Any], outcome: int, value: Any) -> bool:
        """Give a task that is in no slot its outcome."""
        if not task.settle(outcome, value):
            return False
        self._announce([task])
        return True

    def when(self, condition: Callable[[], bool], task: Task[None]) -> Task[None]:
        """Settle ``task`` once ``condition()``, which is asked whenever something happened."""
        self._conditions.append((condition, task))
        # Tasks of workers end without the parent: a worker that goes idle shall tell it.
        self.seat.watch_idle(True)
        self._check_conditions()
        return task

    def _check_conditions(self) -> None:
        for entry in list(self._conditions):
            if entry[0]():
                try:
                    self._conditions.remove(entry)
                except ValueError:
                    continue  # another thread settles it
                self.settle(entry[1], OUTCOME_OK, None)
        if not self._conditions:
            self.seat.watch_idle(False)
            if self._conditions:  # another thread's, meanwhile
                self.seat.watch_idle(True)

    # ---- settling --------------------------------------------------------------------

    def collect(self) -> None:
        """Settle what is done, notify who watches, and use the slots that came free."""
        watched = self.seat.harvest()
        if watched is not None:
            self._announce(watched)
        if self._backlog:
            self._refill()
        if self._conditions:
            self._check_conditions()

    def _announce(self, tasks: list[Task[Any]]) -> None:
        # Through a queue: an interrupt in a callback leaves the rest to the next round.
        self._to_notify.extend(tasks)
        while self._to_notify:
            task = self._to_notify.popleft()
            if task.watched:
                task._notify()

    def _refill(self) -> None:
        while self._backlog:
            entry = self._backlog.popleft()
            task, block, call, payload, attempts = entry
            if task.done():
                continue
            try:
                if not self.seat.start(task, block, call, payload, attempts):
                    self._backlog.appendleft(entry)
                    return
            except Exception as error:
                self.settle(task, OUTCOME_ERROR, error)

    def waiter_list(self) -> list[Any]:
        """Where ``concurrent.futures.wait`` puts its waiters."""
        return []

    # ---- waiting threads -------------------------------------------------------------

    def wait(self, task: Task[Any], timeout: float | None) -> None:
        """Return when ``task`` has an outcome.

        Raises:
            TimeoutError: It has none after ``timeout`` seconds.
        """
        self.collect()
        if task.done():
            return
        end = None if timeout is None else time.monotonic() + timeout
        turn: threading.Lock | None = None
        while True:
            if self._lead.acquire(False):
                try:
                    self._lead_until(task, end)
                finally:
                    self._lead.release()
                    self._resign()
            else:
                if turn is None:
                    turn = threading.Lock()
                    turn.acquire()
                    task._watch(_Releaser(turn))
                self._follow(task, end, turn)
            if task.done():
                return
            if end is not None and time.monotonic() >= end:
                raise TimeoutError

    def _lead_until(self, task: Task[Any], end: float | None) -> None:
        seat = self.seat
        if self.watched:
            seat.disarm()
        while not task.done():
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            nap = _SIGNAL_CHECK_SECONDS if left is None or left > _SIGNAL_CHECK_SECONDS else left
            # Alone, this thread need not be woken for the outcomes of other tasks.
            alone = not (self._followers or self._backlog or self.watched or self._conditions)
            seat.wait(task if alone else None, nap)
            self.collect()

    def _resign(self) -> None:
        """Hand the lead on, or have the eventfd watch."""
        while self._followers:
            try:
                self._followers.popleft().release()
                return
            except (RuntimeError, IndexError):
                pass  # it is awake already
        if self._needs_watch():
            self._arm()

    def _follow(self, task: Task[Any], end: float | None, turn: threading.Lock) -> None:
        """Sleep on ``turn``, which is locked, until the task is done or the lead is ours to take."""
        self._followers.append(turn)
        try:
            if self._lead.acquire(False):  # the leader left before it could see us
                self._lead.release()
            elif not task.done():
                self.seat.wake()  # the leader may sleep for its own task alone
                turn.acquire(timeout=-1 if end is None else max(0.0, end - time.monotonic()))
        except BaseException:
            self._unfollow(turn, leaving=True)
            raise
        self._unfollow(turn, leaving=task.done())

    def _unfollow(self, turn: threading.Lock, leaving: bool) -> None:
        try:
            self._followers.remove(turn)
        except ValueError:  # we were told to lead: if we will not, somebody else must
            if leaving and not self._lead.locked():
                self._resign()

    # ---- event loops and callbacks ---------------------------------------------------

    def _needs_watch(self) -> bool:
        return bool(self.watched or self._backlog or self._conditions)

    def _arm(self) -> None:
        while not self.seat.arm():
            self.collect()
            if not self._needs_watch():
                return

    def attend(self) -> None:
        """Somebody watches now: unless a thread leads, the eventfd must."""
        if self._lead.locked():
            self.seat.wake()
        else:
            self._arm()

    def attend_in_thread(self) -> None:
        """Have a gather thread serve what is watched."""
        if self._thread is None:
            with self._starting:
                started = self._thread is not None  # by another thread, meanwhile
                if not started and not self._closed:
                    thread = threading.Thread(target=self._serve, name="workpool-gather", daemon=True)
                    thread.start()
                    self._thread = thread
        self.attend()

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self.eventfd, select.POLLIN)
        while not self._closed:
            poll.poll()
            self.on_event()

    def on_event(self) -> None:
        """The eventfd was signalled, or may have been."""
        try:
            os.eventfd_read(self.eventfd)
        except BlockingIOError:
            pass  # another reader was quicker; there may still be something for us
        self.collect()
        if self._needs_watch() and not self._lead.locked():
            self._arm()

    def attend_in_loop(self, task: Task[Any], loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """A future of ``loop`` that is done when ``task`` is."""
        reader = self._loops.get(loop)
        if reader is None:
            for old in [other for other in self._loops if other.is_closed()]:
                self._loops.pop(old).close()
            reader = self._loops[loop] = _LoopReader(self, loop)
        future = loop.create_future()
        if task._watch(lambda _: reader.settle(future)):
            self.attend()
        else:
            future.set_result(None)
        return future

    def close(self) -> None:
        """End the gather thread and let go of the loops."""
        self._closed = True
        os.eventfd_write(self.eventfd, 1)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        for reader in list(self._loops.values()):
            reader.close()
        self._loops.clear()


class _LoopReader:
    """One event loop's ear at the eventfd."""

    def __init__(self, gatherer: Gatherer, loop: asyncio.AbstractEventLoop) -> None:
        # A descriptor of its own: closing the pool's must not confuse the loop's selector.
        self._fd = os.dup(gatherer.eventfd)
        self._loop = loop
        self._thread = threading.get_ident()
        loop.add_reader(self._fd, gatherer.on_event)

    def settle(self, future: asyncio.Future[None]) -> None:
        if threading.get_ident() == self._thread:
            _set_done(future)
            return
        try:
            self._loop.call_soon_threadsafe(_set_done, future)
        except RuntimeError:
            pass  # the loop is closed: nobody awaits there

    def close(self) -> None:
        if threading.get_ident() == self._thread or self._loop.is_closed():
            self._remove()
            return
        try:
            self._loop.call_soon_threadsafe(self._remove)
        except RuntimeError:
            self._remove()

    def _remove(self) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        os.close(self._fd)


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Releaser:
    """Wakes a follower when its task is done."""

    def __init__(self, turn: threading.Lock) -> None:
        self._turn = turn

    def __call__(self, task: Task[Any]) -> None:
        try:
            self._turn.release()
        except RuntimeError:
            pass  # it was told to lead at the same moment
