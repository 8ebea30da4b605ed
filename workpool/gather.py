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
import logging
import os
import select
import threading
import time
import weakref
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from workpool._core import (
    CANCEL_ASKED,
    CANCEL_FORCE,
    OUTCOME_CANCELLED,
    OUTCOME_ERROR,
    OUTCOME_OK,
    REST_SECONDS,
    Block,
    Seat,
)
from workpool._interrupt import RUNNING, SHIELD
from workpool.errors import ArenaFull, ForkedPool, PoolClosed
from workpool.messages import running_loop
from workpool.once import start_first
from workpool.pressure import when_it_fits

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable

    from workpool.local import Local
    from workpool.task import Task

_log = logging.getLogger("workpool.gather")

# A waiting main thread looks for signals this often: one that arrives between the last
# look and the sleep would else be seen only at the next completion.
_SIGNAL_CHECK_SECONDS = 0.5

# So many coroutines go on in one turn of an event loop, then its timers and others have theirs.
_MOST_WOKEN = 32


if TYPE_CHECKING:
    # A task past the last slot, with the arguments of Seat.start().
    _Waiting = tuple[Task[Any], Block | None, int, Any, int]


class Gatherer:
    """One home's gathering, for all its threads and event loops."""

    def __init__(self, seat: Seat, eventfd: int, worker: Callable[[int], Any]) -> None:
        self.seat = seat
        self.eventfd = eventfd
        self.worker = worker
        self.watched = 0  # unsettled tasks that somebody watches
        self.listening = False  # somebody wants messages
        self.read_messages: Callable[[], object] = lambda: None
        self.local: Local | None = None  # the tasks of this process, once there was one
        self.on_ask: Callable[[int, float | None], object] = lambda handle, grace: None
        self.on_limit: Callable[[float], object] = lambda seconds: None
        self._lead: dict[None, int] = {}  # the thread that leads, while one does
        self._followers: collections.deque[threading.Lock] = collections.deque()
        # Tasks past the last slot, by id: those of a high priority go first.
        self.urgent: collections.OrderedDict[int, _Waiting] = collections.OrderedDict()
        self.backlog: collections.OrderedDict[int, _Waiting] = collections.OrderedDict()
        self.to_notify: collections.deque[Task[Any]] = collections.deque()
        self._conditions: list[tuple[Callable[[], bool], Task[None]]] = []
        self._loops: dict[asyncio.AbstractEventLoop, _LoopReader] = {}
        self._ended: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()
        self._closed = False

    # ---- tasks -----------------------------------------------------------------------

    @property
    def unfinished(self) -> int:
        """Tasks of this home without an outcome."""
        return self.queued + (0 if self.local is None else self.local.unfinished)

    @property
    def queued(self) -> int:
        """Those of them that are for the workers."""
        return self.seat.outstanding + len(self.urgent) + len(self.backlog)

    def pending(self) -> list[Task[Any]]:
        """The tasks without an outcome, but for those that this process runs now."""
        here = [] if self.local is None else self.local.pending()
        waiting = [*self.urgent.values(), *self.backlog.values()]
        return [*self.seat.unfinished(), *(entry[0] for entry in waiting), *here]

    def start(self, task: Task[Any], block: Block | None, call: int, payload: Any, attempts: int = 1) -> None:
        """Offer a task to the workers; past the last slot it waits here for one."""
        try:
            first = not (self.backlog or self.urgent) or (task.is_urgent and not self.urgent)
            if first and self.seat.start(task, block, call, payload, attempts):
                return
        except (PoolClosed, ForkedPool):
            raise
        except ArenaFull as full:
            if self._start_when_it_fits(full, task, block, call, payload, attempts):
                return
        except Exception as error:  # it cannot be encoded: that is its outcome
            if not self.settle(task, OUTCOME_ERROR, error):
                raise
            return
        self._put_back((task, block, call, payload, attempts))
        self.collect()
        if self._waits():
            self.attend_in_thread()

    def _start_when_it_fits(self, full: ArenaFull, task: Task[Any], *rest: Any) -> bool:
        """Wait for memory and offer a task; False: it has to wait for a slot as well."""
        if not full.never:
            try:
                return when_it_fits(
                    lambda: task.outcome_code != 0 or self.seat.start(task, *rest),
                    self.collect,
                    lambda: self.seat.outstanding > 0 or self.seat.is_busy(),
                    None,
                )
            except ArenaFull as error:
                full = error
        if not self.settle(task, OUTCOME_ERROR, full):
            raise full
        return True

    def _waits(self) -> bool:
        """Whether a task waits for a slot."""
        return bool(self.backlog or self.urgent)

    def _put_back(self, entry: _Waiting, first: bool = False) -> None:
        """Have a task wait for a slot: behind its like, or before them."""
        backlog = self.urgent if entry[0].is_urgent else self.backlog
        backlog[entry[0].id] = entry
        if first:
            backlog.move_to_end(entry[0].id, last=False)

    def _take_next(self) -> _Waiting | None:
        """Who waits for a slot first; None if another thread has it, this instant."""
        try:
            return (self.urgent or self.backlog).popitem(last=False)[1]
        except KeyError:
            return None

    def cancel(self, task: Task[Any], force: bool = False, grace: float | None = None) -> bool:
        """Cancel a task, or ask a running one to end. True: it is, or will be, cancelled."""
        if task.cancelled():
            return True
        here = self.local is not None and self.local.cancel(task)
        if not (here or self.seat.cancel(task)):
            waiting = self.urgent.pop(task.id, None) or self.backlog.pop(task.id, None)
            if waiting is None:
                return self._ask(task, force, grace)
            if not task.settle(OUTCOME_CANCELLED, None):
                return False
        self._announce([task])
        self._wake_leader()
        if self._conditions:
            self._check_conditions()
        return True

    def fail(self, task: Task[Any], error: BaseException) -> bool:
        """Give a task that nobody has begun ``error`` as its outcome."""
        if not self.seat.cancel(task, error):
            waiting = self.urgent.pop(task.id, None) or self.backlog.pop(task.id, None)
            if waiting is None or not task.settle(OUTCOME_ERROR, error):
                return False
        self._announce([task])
        self._wake_leader()
        return True

    def _ask(self, task: Task[Any], force: bool, grace: float | None) -> bool:
        """Ask a running task to end; its descendants that wait never run."""
        flags = CANCEL_ASKED | CANCEL_FORCE if force else CANCEL_ASKED
        if self.local is not None and self.local.ask(task, force, grace):
            return force
        if not self.seat.ask(task, flags):
            return False
        self.seat.cancel_descendants(task.handle, flags)
        self.interrupt(task.handle, grace)
        return force

    def interrupt(self, handle: int, grace: float | None) -> None:
        """Something was asked of a running task: have its worker look."""
        self.on_ask(handle, grace)

    def cancel_queued(self, error: BaseException | None = None) -> None:
        """Cancel what no worker has claimed; with ``error``, that is its outcome instead."""
        outcome = OUTCOME_CANCELLED if error is None else OUTCOME_ERROR
        while self._waits():
            entry = self._take_next()
            if entry is not None:
                self.settle(entry[0], outcome, error)
        if self.local is not None and error is None:  # a pool without workers still has its parent
            for task in self.local.pending():
                if self.local.cancel(task):
                    self._announce([task])
        for task in self.seat.unfinished():
            if self.seat.cancel(task, error):
                self._announce([task])
        self._wake_leader()
        if self._conditions:
            self._check_conditions()

    def cancel_running(self, grace: float) -> None:
        """Cancel with force what is left after cancel_queued()."""
        if self.local is not None:
            self.local.cancel_running(grace)
        for task in self.seat.unfinished():
            self._ask(task, True, grace)

    def poke(self) -> None:
        """Something happened that conditions depend on: whoever gathers shall look."""
        if self._conditions or self._waits() or self.seat.has_mail:
            self.stir()

    def stir(self) -> None:
        """Have whoever gathers, or would, look at everything."""
        self.seat.wake()
        if not self._closed:
            os.eventfd_write(self.eventfd, 1)

    def settle(self, task: Task[Any], outcome: int, value: Any) -> bool:
        """Give a task that is in no slot its outcome."""
        if not task.settle(outcome, value):
            return False
        self._announce([task])
        self._wake_leader()
        return True

    def settle_local(self, task: Task[Any], outcome: int, value: Any) -> None:
        """Give a task that this process has run its outcome."""
        self.settle(task, outcome, value)
        if self._conditions:
            self._check_conditions()

    def call_for_help(self, run_in_loop: Callable[[asyncio.AbstractEventLoop], object]) -> None:
        """There is a task for this process: tell who waits, or an event loop that has waited."""
        if self._lead:
            self.seat.wake()
            return
        for loop in list(self._loops):
            if loop.is_running():
                loop.call_soon_threadsafe(run_in_loop, loop)
                return

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
        if self._harvest() and self.seat.has_mail:
            if RUNNING:
                with SHIELD:
                    self.read_messages()
            else:
                self.read_messages()
        if self._waits():
            self._refill()
        if self._conditions:
            self._check_conditions()

    def _harvest(self) -> bool:
        """Settle what is done, and notify who watches; False: nobody does, and no message came."""
        watched = self.seat.harvest()
        if watched is not None:
            self._announce(watched)
        elif self.to_notify:  # left by one who was interrupted
            self._announce([])
        return watched is not None

    def _announce(self, tasks: list[Task[Any]]) -> None:
        # Through a queue: an interrupt in a callback leaves the rest to the next round.
        self.to_notify.extend(tasks)
        while True:
            try:
                task = self.to_notify.popleft()
            except IndexError:
                return  # done, or another thread does the rest
            if task.watched:
                if RUNNING:  # under a task of this process: its interrupt is not for them
                    with SHIELD:
                        task._notify()
                else:
                    task._notify()

    def _refill(self) -> None:
        while self._waits():
            entry = self._take_next()
            if entry is None or entry[0].outcome_code:
                continue
            try:
                if not self.seat.start(*entry):
                    self._put_back(entry, first=True)
                    return
                if entry[0].limit:
                    self.on_limit(entry[0].limit)
            except (PoolClosed, ForkedPool):
                return
            except ArenaFull as full:
                if not full.never and self.seat.outstanding:  # the next outcome may make room
                    self._put_back(entry, first=True)
                    return
                self.settle(entry[0], OUTCOME_ERROR, full)
            except Exception as error:
                self.settle(entry[0], OUTCOME_ERROR, error)

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
        if task.outcome_code:
            return
        if self.local is None and not RUNNING:
            self._wait(task, timeout)
        else:
            with SHIELD, nullcontext() if self.local is None else self.local.waiting():
                self._wait(task, timeout)

    def _wait(self, task: Task[Any], timeout: float | None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        me = threading.get_ident()
        if self._lead.get(None) == me:  # a callback, called by this thread as it leads, waits itself
            self._lead_until(task, end, me, yields=False)
        else:
            turn: threading.Lock | None = None
            try:
                while not (_is_settled(task) or (end is not None and time.monotonic() >= end)):
                    if self.local is not None and timeout != 0:
                        self.local.run_until(task)
                        if _is_settled(task):
                            break
                    # One step for who leads and for saying so: an interrupt finds both or none.
                    if self._lead.setdefault(None, me) == me:
                        self._lead_until(task, end, me)
                        if self.local is not None and self.local.has_work():
                            del self._lead[None]  # a task of this process comes first: others may lead
                            self._resign()
                        continue
                    if turn is None:
                        turn = threading.Lock()
                        turn.acquire()
                        task._watch(_Releaser(turn))
                    self._follow(task, end, turn)
                    if RUNNING:
                        SHIELD.check()
            finally:
                # Whoever leaves, for whatever reason, sees to it that somebody leads:
                # it may have been told to, at the moment its own time was up.
                if self._lead.get(None) == me:
                    del self._lead[None]
                if not self._lead:
                    self._resign()
        if not task.outcome_code:
            raise TimeoutError

    def _lead_until(self, task: Task[Any], end: float | None, me: int, yields: bool = True) -> None:
        seat = self.seat
        if self.watched or self.listening:
            seat.disarm()
        # Before the look at the outcome: from now on another thread that settles tasks wakes this one.
        before, seat.waiter = seat.waiter, me
        try:
            while not (task.outcome_code or (yields and self.local is not None and self.local.has_work())):
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return
                nap = _SIGNAL_CHECK_SECONDS if left is None or left > _SIGNAL_CHECK_SECONDS else left
                # Alone, this thread need not be woken for the outcomes of other tasks.
                alone = not (
                    self._followers or self._waits() or self.watched or self._conditions or self.listening
                )
                seat.wait(task if alone else None, nap)
                self.collect()
                if RUNNING:
                    SHIELD.check()
        finally:
            seat.waiter = before

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
        """Sleep on ``turn``, which is locked, until the task is done or the lead may be ours."""
        self._followers.append(turn)
        try:
            if self._lead and not task.outcome_code:  # else the leader left before it could see us
                self.seat.wake()  # it may sleep for its own task alone
                left = _SIGNAL_CHECK_SECONDS if end is None else end - time.monotonic()
                turn.acquire(timeout=max(0.0, min(left, _SIGNAL_CHECK_SECONDS)))
        finally:
            try:
                self._followers.remove(turn)
            except ValueError:
                pass  # told to lead

    def _wake_leader(self) -> None:
        """An outcome came that is no completion: the leader may sleep for it."""
        if self._lead and self._lead.get(None) != threading.get_ident():
            self.seat.wake()

    def look(self) -> None:
        """Settle what is done, if there is anything."""
        if self.seat.has_completions():
            self.collect()

    # ---- event loops and callbacks ---------------------------------------------------

    def _needs_watch(self) -> bool:
        return bool(self.watched or self._waits() or self._conditions or self.listening)

    def _arm(self) -> None:
        while not self.seat.arm():
            self.collect()
            if not self._needs_watch():
                break
        if self._lead:  # by now; the token that arm() took may have been for it
            self.seat.wake()

    def attend(self) -> None:
        """Somebody watches now: unless a thread leads, the eventfd must."""
        if self._lead:
            self.seat.wake()
        else:
            self._arm()

    def attend_in_thread(self) -> None:
        """Have a gather thread serve what is watched."""
        self._start_thread()
        self.attend()

    def rouse(self) -> None:
        """As attend_in_thread(), but settles nothing in this thread."""
        self._start_thread()
        if self._lead:
            self.seat.wake()
        else:
            os.eventfd_write(self.eventfd, 1)

    def _start_thread(self) -> None:
        if self._thread is None:
            with self._starting:
                started = self._thread is not None  # by another thread, meanwhile
                if not started and not self._closed:
                    thread = threading.Thread(target=self._serve, name="workpool-gather", daemon=True)
                    try:
                        start_first(self, thread)
                    except RuntimeError:
                        return  # the interpreter ends: whoever finishes the pool gathers

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self.eventfd, select.POLLIN)
        while not self._closed:
            poll.poll()
            if self._closed:
                return  # type: ignore[unreachable]
            try:
                self._take_event(self.eventfd)
                # A loop has other things to do; this thread can come back when it pays.
                while not (self._lead or self._closed) and self.seat.may_rest():
                    time.sleep(REST_SECONDS)
                    self.collect()
                self._watch_on()
                if self.listening:
                    self._stay_hot()
            except BaseException:  # of a callback: the others depend on this thread
                _log.exception("a callback ended with what no callback should")

    def _stay_hot(self) -> None:
        """Lead, without a task to wait for, while messages come as fast as from another CPU."""
        me = threading.get_ident()
        try:
            if self._lead.setdefault(None, me) != me:
                return
            self.seat.disarm()
            while not (self._followers or self._closed) and self.seat.look():
                self.collect()
        finally:
            if self._lead.get(None) == me:
                del self._lead[None]
                self._resign()

    def listen(self, on: bool) -> None:
        """Have messages read as they come, or no longer."""
        self.listening = on
        if not on or self._closed:
            return
        loop = running_loop()
        if loop is None:
            self.attend_in_thread()
        else:
            self._reader(loop)
            self.attend()

    def on_event(self, fd: int) -> None:
        """The eventfd was signalled, or may have been; ``fd`` is it, by the caller's own descriptor."""
        if self._closed:
            return
        self._take_event(fd)
        self._watch_on()

    def _take_event(self, fd: int) -> None:
        try:
            os.eventfd_read(fd)
        except BlockingIOError:
            pass  # another reader was quicker; there may still be something for us
        self.collect()

    def _watch_on(self) -> None:
        if self._needs_watch() and not self._lead:
            self._arm()

    def attend_in_loop(self, task: Task[Any], loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """A future of ``loop`` that is done when ``task`` is."""
        reader = self._reader(loop)
        future = loop.create_future()
        if task._watch(lambda _: reader.settle(future)):
            self.attend()
        else:
            future.set_result(None)
        if self.local is not None and self.local.unfinished:
            loop.call_soon(self.local.run_in_loop, loop)
        return future

    def _reader(self, loop: asyncio.AbstractEventLoop) -> _LoopReader:
        reader = self._loops.get(loop)
        if reader is None:
            for old in [other for other in self._loops if other.is_closed()]:
                self._loops.pop(old).close()
            reader = self._loops[loop] = _LoopReader(self, loop)
            if loop not in self._ended:
                reader.end_with_loop(self._loop_ends)
        return reader

    def _loop_ends(self, loop: asyncio.AbstractEventLoop) -> None:
        """A loop shuts down: the messages that it would have read are for the gather thread."""
        self._ended.add(loop)
        reader = self._loops.pop(loop, None)
        if reader is not None:
            reader.close()
        if self.listening and not self._closed:
            self.attend_in_thread()

    def close(self) -> None:
        """End the gather thread and let go of the loops."""
        self._closed = True
        os.eventfd_write(self.eventfd, 1)
        with self._starting:
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
        self._life: AsyncGenerator[None, None] | None = None
        self._ends: Callable[[asyncio.AbstractEventLoop], None] | None = None
        self._held: collections.deque[asyncio.Future[None]] = collections.deque()
        self._may_wake = _MOST_WOKEN  # in this turn of the loop
        self._counts = False
        loop.add_reader(self._fd, gatherer.on_event, self._fd)

    def end_with_loop(self, ends: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        """Have ``ends(loop)`` called when the loop, which runs in this thread, shuts down.

        A loop tells nobody that it ends, but it closes the asynchronous generators that were
        begun in it (``loop.shutdown_asyncgens``, which ``asyncio.run`` calls).
        """
        self._ends = ends
        self._life = self._live()
        _step(self._life.asend(None))

    async def _live(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if self._ends is not None:
                self._life = None
                self._ends(self._loop)

    def settle(self, future: asyncio.Future[None]) -> None:
        """Set it done, in the loop; beyond ``_MOST_WOKEN`` in one turn of the loop, in a later one."""
        if running_loop() is self._loop:
            self._settle(future)
            return
        try:
            self._loop.call_soon_threadsafe(self._settle, future)
        except RuntimeError:
            pass  # the loop is closed: nobody awaits there

    def _settle(self, future: asyncio.Future[None]) -> None:
        if self._may_wake > 0 and not self._held:
            self._may_wake -= 1
            _set_done(future)
        else:
            self._held.append(future)
        if not self._counts:
            self._counts = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """A turn of the loop begins."""
        woken = min(len(self._held), _MOST_WOKEN)
        self._may_wake = _MOST_WOKEN - woken
        self._counts = woken > 0
        if woken:
            self._loop.call_soon(self._turn)
        for _ in range(woken):
            _set_done(self._held.popleft())

    def close(self) -> None:
        self._ends = None
        life, self._life = self._life, None
        if life is not None:
            _step(life.aclose())
        if running_loop() is self._loop or self._loop.is_closed():
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


def _step(awaitable: Any) -> None:
    """Run an awaitable that waits for nothing."""
    try:
        awaitable.send(None)
    except (StopIteration, RuntimeError):
        pass  # it is done; or the loop closes the generator at this moment


def _is_settled(task: Task[Any]) -> bool:
    return bool(task.outcome_code)


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
