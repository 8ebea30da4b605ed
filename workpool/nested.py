"""Tasks from inside tasks: a worker as a home of its own, which helps while it waits.

Imported with the first nested task, never before. The worker's main thread runs what it
waits for in its own place, or helps with what that waits for (csrc/wp_help.h); in an
event loop a waiting coroutine gives its place to another task.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workpool import _core
from workpool._core import NO_HANDLE, OUTCOME_ERROR
from workpool.client import in_context
from workpool.errors import ArenaFull
from workpool.gather import Gatherer
from workpool.loading import is_coroutine_function
from workpool.mapping import Chunks, ItemCosts, Mapping, apply_chunk
from workpool.options import FORCE, MAIN, NONE, PLAIN, Options
from workpool.payload import Functions
from workpool.pressure import when_it_fits
from workpool.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator

    from workpool._core import Block
    from workpool.runner import Runner

# A task waits in its worker's stack for the one it runs in its place. Python's own frames
# take some 1 KiB of C stack for each of these; 8 MiB is the usual bound.
_MOST_NESTED = 1500
_FRAMES_EACH = 12

# Threads of a worker other than its main one do not run tasks: they look, so often.
_LOOK_SECONDS = 0.0005


class NestedGatherer(Gatherer):
    """The gathering of a worker's own tasks."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner.seat, runner.eventfd, lambda seat: None)
        self._runner = runner
        self._main = threading.main_thread().ident
        runner.seat.waiter = self._main or 0
        self._mark = 0
        self._marked: object = None  # the running task whose mark it is
        self._depth = 0
        self._deepest = -1  # the depth that the recursion limit allows for
        self._ask_at = runner.grow_at
        self._recursion_limit = sys.getrecursionlimit()

    # ---- the frame that submits or waits ---------------------------------------------

    def _frame(self) -> tuple[int, int]:
        """The running task's handle, and the mark of its part of the deque."""
        running = in_context.get()
        if running is not None:  # coroutines share the deque: nothing above the mark
            return self.seat.task_handle(running[0]), self.seat.mark()
        running = self._runner.client.running
        if running is None:
            return NO_HANDLE, self.seat.mark()
        if self._marked is not running:
            self._marked, self._mark = running, self.seat.mark()
        return self.seat.task_handle(running[0]), self._mark

    def _is_main(self) -> bool:
        return threading.get_ident() == self._main

    def _run(self, index: int) -> None:
        """Run a claimed task under the frame that waits."""
        if self._depth >= _MOST_NESTED:
            error = RecursionError(f"more than {_MOST_NESTED} tasks wait for one another in one worker")
            self._runner.finish_error(index, error)
            return
        runner = self._runner
        client = runner.client
        running, marked, mark = client.running, self._marked, self._mark
        if running is not None:
            runner.waiting.append(running)
        self._depth += 1
        if self._depth > self._deepest:
            self._allow_deeper()
        try:
            coroutine = runner.begin(index)
            if coroutine is not None:
                self._run_coroutine(coroutine)
        finally:
            self._depth -= 1
            client.running, self._marked, self._mark = running, marked, mark
            if running is not None:
                runner.waiting.pop()
                self.seat.resume(running[0])

    def _allow_deeper(self) -> None:
        """Have room for the frames of 50 more tasks in this one's place."""
        self._deepest = self._depth + 50
        needed = self._recursion_limit + self._deepest * _FRAMES_EACH
        if needed > sys.getrecursionlimit():
            sys.setrecursionlimit(needed)

    def _run_coroutine(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._runner.run_coroutine(coroutine)
            return
        # The loop below waits for us, so it cannot run this one: another must.
        thread = threading.Thread(target=asyncio.run, args=(coroutine,), name="workpool-nested")
        thread.start()
        while thread.is_alive():
            self.collect()
            thread.join(_LOOK_SECONDS)

    # ---- what Gatherer does otherwise ------------------------------------------------

    def start(self, task: Task[Any], block: Block | None, call: int, payload: Any, attempts: int = 1) -> None:
        """Offer a task to this worker and to thieves; out of slots, run own tasks first."""
        parent, _ = self._frame()
        seat = self.seat
        try:
            try:
                while not seat.start(task, block, call, payload, attempts, parent):
                    self._make_room()
            except ArenaFull as full:
                if full.never:
                    raise
                while not when_it_fits(
                    lambda: seat.start(task, block, call, payload, attempts, parent),
                    self._make_memory,
                    lambda: seat.outstanding > 0,
                    None,
                ):
                    self._make_room()
        except Exception as error:  # it cannot be encoded: that is its outcome
            if not task.settle(OUTCOME_ERROR, error):
                raise
        if seat.outstanding > self._ask_at:
            self._ask_at = 2 * seat.outstanding  # the parent looks at all tasks: seldom is enough
            os.eventfd_write(self._runner.hungry_fd, 1)

    def _make_memory(self) -> None:
        """The arena is full: run own tasks, whose arguments take room there."""
        if self.seat.outstanding:
            self._make_room()

    def _make_room(self) -> None:
        if not self._is_main():
            time.sleep(_LOOK_SECONDS)
        else:
            with self._uninterrupted() as check:
                check()
                index = self.seat.help(None, NO_HANDLE, 0, None)
                if index >= 0:
                    self._run(index)
        self.collect()

    def collect(self) -> None:
        """Settle what is done, and notify who watches: a worker's tasks do not wait for slots."""
        self._harvest()

    def wait(self, task: Task[Any], timeout: float | None) -> None:
        """Return when ``task`` has an outcome; run it, or help, meanwhile.

        Raises:
            TimeoutError: It has none after ``timeout`` seconds, and nothing runs here.
        """
        if timeout is None and self._is_main():
            self._help(task)
            return
        self.collect()
        if not task.done():
            self.help_until(task.done, task, timeout)
        if not task.done():
            raise TimeoutError

    def _help(self, task: Task[Any]) -> None:
        """help_until() for the usual: fork and join pays for every step here."""
        seat, handle, runner = self.seat, task.handle, self._runner
        _, mark = self._frame()
        running, runner.interruptible = runner.interruptible, None  # as in _uninterrupted()
        runner.shields += 1
        try:
            while not task.outcome_code:
                runner.check(running)
                index = seat.help(task, handle, mark, None)
                if index >= 0:
                    self._run(index)
                self.collect()
        finally:
            runner.shields -= 1
            runner.interruptible = running
            seat.trim(mark)

    def help_until(self, done: Any, task: Task[Any] | None, timeout: float | None) -> None:
        """Help until ``done()``, or until the time is up."""
        end = None if timeout is None else time.monotonic() + timeout
        if not self._is_main():
            while not done() and (end is None or time.monotonic() < end):
                time.sleep(_LOOK_SECONDS)
                self.collect()
            return
        frame, mark = self._frame()
        ancestor = frame if task is None else task.handle
        with self._uninterrupted() as check:
            try:
                while not done():
                    check()
                    left = None if end is None else end - time.monotonic()
                    if left is not None and left <= 0:
                        return
                    index = self.seat.help(task, ancestor, mark, left)
                    if index >= 0:
                        self._run(index)
                    self.collect()
            finally:
                self.seat.trim(mark)

    def _wake_leader(self) -> None:
        """Another thread did what the main one may sleep for."""
        if not self._is_main():
            self.seat.wake()

    @contextmanager
    def _uninterrupted(self) -> Iterator[Callable[[], None]]:
        """Interrupt the task that waits only in ``check()``: one claimed meanwhile is not dropped."""
        runner = self._runner
        running, runner.interruptible = runner.interruptible, None
        runner.shields += 1
        try:
            yield lambda: runner.check(running)
        finally:
            runner.shields -= 1
            runner.interruptible = running

    def interrupt(self, handle: int, grace: float | None) -> None:
        """The parent signals its worker, and kills it after the pool's own grace."""
        self.ask_parent()

    def ask_parent(self) -> None:
        """Have the supervisor look: what is asked of tasks, their time limits, whom they are bound to."""
        os.eventfd_write(self._runner.hungry_fd, 1)

    def waiter_list(self) -> list[Any]:
        """A list for the waiters of ``concurrent.futures.wait``, which then help as well."""
        return _HelpingWaiters(self)

    def attend(self) -> None:
        """Nothing to arm: the main thread gathers between tasks, while it waits, and idle."""

    def rouse(self) -> None:
        """As attend()."""

    def attend_in_thread(self) -> None:
        """No thread: it would take the eventfd's signals from the worker's event loop."""

    def attend_in_loop(self, task: Task[Any], loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """A future of ``loop`` that is done when ``task`` is; meanwhile another task may run."""
        future = loop.create_future()

        def settled(_: object) -> None:
            if loop is self._runner.loop:
                _set_done(future)
            else:
                loop.call_soon_threadsafe(_set_done, future)

        if not task._watch(settled):
            future.set_result(None)
        elif loop is self._runner.loop:
            self._runner.block()
            future.add_done_callback(self._runner.unblock)
        return future

    def close(self) -> None:
        """Nothing to end."""


class Submitter:
    """What ``WorkerClient`` submits through."""

    def __init__(self, runner: Runner) -> None:
        self._seat = runner.seat
        self._gatherer = runner.nest()
        self._functions = Functions(runner.seat, runner.incarnation)
        self._item_costs = ItemCosts()
        self._last: tuple[object, Block | None] = (None, None)

    def add_task(self, arg: Any, options: Options = PLAIN) -> Task[Any]:
        """Run the pool's entrypoint on ``arg``."""
        task: Task[Any] = Task(self._seat)
        task.argument = arg
        self._start(task, None, _core.CALL_ONE, arg, options)
        return task

    def submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options = PLAIN
    ) -> Task[Any]:
        """Run ``fn(*args, **kwargs)``."""
        task: Task[Any] = Task(self._seat)
        last, block = self._last
        if fn is not last:
            block = self._find(fn, task)
        if block is not None and not kwargs and options is PLAIN:
            self._gatherer.start(task, block, _core.CALL_MANY, args)
        elif block is None:
            self._start(task, None, _core.CALL_OBJECT, (fn, args, kwargs), options)
        elif kwargs:
            self._start(task, block, _core.CALL_KEYWORDS, (args, kwargs), options)
        else:
            self._start(task, block, _core.CALL_MANY, args, options)
        return task

    def map(
        self,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        chunksize: int | None,
        workers: int,
        options: Options = PLAIN,
    ) -> Iterator[Any]:
        """``fn`` of each item, or of each tuple of items; the options are those of each chunk."""
        star = len(iterables) != 1
        items = list(zip(*iterables, strict=False)) if star else list(iterables[0])
        call = _core.CALL_STARCHUNK if star else _core.CALL_CHUNK

        def submit(chunk: list[Any]) -> Task[Any]:
            task: Task[Any] = Task(self._seat)
            block = self._find(fn, task)
            if block is None:
                self._start(task, None, _core.CALL_OBJECT, (apply_chunk, (fn, chunk, star), {}), options)
            else:
                self._start(task, block, call, chunk, options)
            return task

        if chunksize is None and is_coroutine_function(fn):
            chunksize = 1
        chunks = Chunks(items, chunksize, workers, self._item_costs.of(fn))
        mapping: Mapping[Any] = Mapping(submit, chunks, window=2 * workers + 1, buffered=False)
        return mapping.results(True, None)

    def _find(self, fn: Callable[..., Any], task: Task[Any]) -> Block | None:
        try:
            block = self._functions.find(fn)
        except Exception as error:  # it cannot be pickled: the task's outcome
            self._gatherer.settle(task, OUTCOME_ERROR, error)
            return None
        if block is not None:
            self._last = (fn, block)
        return block

    def _start(self, task: Task[Any], block: Block | None, call: int, payload: Any, options: Options) -> None:
        if options.seat == MAIN:
            raise ValueError("worker_affinity='main' is for tasks that the parent submits")
        if options.key is not None or options.meta is not None:
            task.key, task.meta = options.key, options.meta
            call |= _core.CALL_TAGGED
            payload = (options.key, options.meta, payload)
        if options.strength != NONE or options.priority:
            task.bind(options.seat, options.strength, options.priority, options.cost or 0.0)
        if options.timeout is not None:
            task.limit = options.timeout
        if task.outcome_code == 0:
            self._gatherer.start(task, block, call, payload, options.retries + 1)
            if options.timeout is not None or options.strength == FORCE:
                self._gatherer.ask_parent()


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _HelpingWaiters(list[Any]):
    """Gives each waiter that is appended an event that helps while it waits."""

    def __init__(self, gatherer: NestedGatherer) -> None:
        super().__init__()
        self._gatherer = gatherer

    def append(self, waiter: Any) -> None:
        if not isinstance(waiter.event, _HelpingEvent):
            waiter.event = _HelpingEvent(waiter.event, self._gatherer)
        super().append(waiter)


class _HelpingEvent:
    """A ``threading.Event`` whose wait() runs tasks."""

    def __init__(self, event: threading.Event, gatherer: NestedGatherer) -> None:
        self._event = event
        self._gatherer = gatherer
        self.clear = event.clear
        self.is_set = event.is_set

    def set(self) -> None:
        self._event.set()
        self._gatherer._wake_leader()

    def wait(self, timeout: float | None = None) -> bool:
        self._gatherer.collect()
        self._gatherer.help_until(self._event.is_set, None, timeout)
        return self._event.is_set()
