"""The worker's loop: claim, run, finish, until the parent says stop.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from itertools import starmap
from types import CoroutineType

from workpool import _core, initialized, payload
from workpool.bound import Bound
from workpool.client import WorkerClient, in_context, set_current
from workpool.errors import ArenaFull, EntrypointError, RemoteError, TaskInterrupt, TaskTimeout
from workpool.loading import is_coroutine_function, load, takes_client

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from typing import Any, NoReturn

    from workpool.loading import EntrypointSpec
    from workpool.nested import NestedGatherer
    from workpool.worker import WorkerConfig

# Functions a worker keeps; one that was dropped is read again from the arena.
_KEPT_FUNCTIONS = 1024

# The hot path looks these up once a task: as names of this module.
CALL_ONE, CALL_MANY, CALL_OBJECT = _core.CALL_ONE, _core.CALL_MANY, _core.CALL_OBJECT
CALL_CHUNK, CALL_STARCHUNK = _core.CALL_CHUNK, _core.CALL_STARCHUNK
OUTCOME_OK = _core.OUTCOME_OK
# Of what is asked of a task: what it must not outlive.
INTERRUPT = _core.CANCEL_FORCE | _core.CANCEL_TIME

# A coroutine that was told to end, and still runs without a pause, is interrupted after so long.
_COROUTINE_SECONDS = 0.01


class Runner:
    """One worker's hooks, functions, plain tasks and coroutine tasks."""

    def __init__(self, seat: _core.Seat, config: WorkerConfig, incarnation: int) -> None:
        self.seat = seat
        self.incarnation = incarnation
        self.workers = len(config.eventfds) - 1
        self.client = WorkerClient(self)
        self.eventfd = config.eventfds[seat.index]
        self.concurrency = config.concurrency
        self.hungry_fd = config.hungry_fd
        self.grow_at = config.grow_at
        self.work = config.work
        self.bound = Bound(seat, config.max_tasks, config.max_memory)
        # By id: the function and whether it is async. -1 stands for one in the payload.
        self.functions: dict[int, tuple[Callable[..., Any], bool]] = {-1: (_identity, False)}
        self.passing: tuple[int, tuple[Callable[..., Any], bool]] = 0, self.functions[-1]  # of the last map
        self.pre_task: Callable[[Any], Any] | None = None
        self.exit_hook: Callable[[], Any] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.inflight: set[asyncio.Task[None]] = set()
        self.handling: set[asyncio.Task[None]] = set()  # message handlers that are coroutines
        self.blocked = 0  # coroutine tasks that await tasks of theirs, and leave their place
        self.stir: asyncio.Event | None = None  # in the loop: something happened
        self.gatherer: NestedGatherer | None = None  # made with the first nested task
        # What TaskInterrupt may be raised in: the plain task whose function runs now, on top
        # of the stack. Set and cleared inside the `try` that catches it.
        self.interruptible: tuple[int, Any, Any] | None = None
        self.waiting: list[tuple[int, Any, Any]] = []  # the plain tasks below it, that wait
        self.shields = 0  # frames that may hold a claimed task: nothing is raised in them
        self.coroutines: dict[int, asyncio.Task[Any]] = {}  # of the coroutine tasks, by slot
        self._told: dict[int, float] = {}  # when each was cancelled
        self._raised: tuple[object, float] = (None, 0.0)  # in which task, and when
        self._again_seconds = config.grace / 2

    # ---- beginning and end -----------------------------------------------------------

    def start(self, inherited: tuple[Any, tuple[Any, ...]] | None) -> None:
        """Load the entrypoint and run the start hooks.

        Args:
            inherited: ``(initializer, initargs)``, if they are not in ``work``.
        """
        spec: EntrypointSpec
        spec, initializer, initargs = pickle.loads(self.work)
        if inherited is not None:
            initializer, initargs = inherited
        set_current(self.client)
        loaded = load(spec)
        if loaded.function is not None:
            function, client = loaded.function, self.client
            coroutine = is_coroutine_function(function)
            if loaded.takes_client:
                self.functions[0] = (lambda arg: function(arg, client)), coroutine
            else:
                self.functions[0] = function, coroutine

        def bind(name: str, before: int) -> Callable[..., Any] | None:
            hook = loaded.hooks.get(name)
            if hook is None or not takes_client(hook, before):
                return hook
            return lambda *args: hook(*args, self.client)

        self.pre_task = bind("pre_task", 1)
        self.seat.has_hook = self.pre_task is not None
        self.exit_hook = bind("on_worker_exit", 0)
        start_hook = bind("on_worker_start", 0)
        if initializer is not None:
            self._finish_hook(initialized.run(initializer, initargs))
        if start_hook is not None:
            self._finish_hook(start_hook())

    def end(self) -> None:
        """Run the exit hook and close the event loop."""
        try:
            if self.exit_hook is not None:
                self._finish_hook(self.exit_hook())
        except Exception:
            import traceback

            sys.stderr.write(f"workpool: on_worker_exit of worker {self.seat.index} raised\n")
            traceback.print_exc()
        if self.loop is not None:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def forked(self) -> None:
        """This is a fork that a task has made: its pool is its parent's."""
        self.seat.abandon()
        self.client.running = None
        in_context.set(None)
        self._finish = self.finish_error = _end_fork  # type: ignore[method-assign, assignment]

    def _finish_hook(self, value: Any) -> None:
        if type(value) is CoroutineType:
            self.run_coroutine(value)

    # ---- tasks that are to end -------------------------------------------------------

    def listen(self) -> None:
        """Have interrupt() called when something is asked of a task here."""
        signal.signal(signal.SIGURG, self.interrupt)

    def interrupt(self, *_: object) -> None:
        """Something may be asked of a task here: the handler of SIGURG, in the main thread."""
        if self.coroutines:
            self._interrupt_coroutines()
        running = self.interruptible
        if running is None or not self._must_end(running):
            return
        task, at = self._raised
        now = time.monotonic()
        if task is running and now - at < self._again_seconds:
            return  # it has its time to clean up; after half of it, once more
        self._raised = running, now
        raise TaskInterrupt

    def _must_end(self, running: tuple[int, Any, Any]) -> bool:
        seat = self.seat
        if seat.asked(running[0]) & INTERRUPT:
            return True
        return any(
            seat.asked(below[0]) & INTERRUPT and seat.descends(running[0], seat.task_handle(below[0]))
            for below in self.waiting
        )

    def check(self, running: tuple[int, Any, Any] | None) -> None:
        """Raise in a task that waits, and that interrupt() leaves alone meanwhile, if it is to end."""
        if running is not None and self.seat.asked(running[0]) & INTERRUPT:
            raise TaskInterrupt

    def _interrupt_coroutines(self) -> None:
        import asyncio

        now = time.monotonic()
        current = None if self.loop is None else asyncio.current_task(self.loop)
        for index, task in list(self.coroutines.items()):
            asked = self.seat.asked(index)
            if not asked:
                continue
            told = self._told.get(index)
            if told is None or now - told >= self._again_seconds:
                self._told[index] = now
                task.get_loop().call_soon_threadsafe(task.cancel)
            # Between its steps nothing but the loop runs; in a step nothing but its code.
            stuck = told is not None and now - told >= _COROUTINE_SECONDS
            if stuck and task is current and asked & INTERRUPT and not (self.interruptible or self.shields):
                raise TaskInterrupt

    # ---- plain tasks -----------------------------------------------------------------

    def serve(self) -> bool:
        """Run tasks until the parent says stop; True: until the process was to be replaced."""
        claim, begin = self.seat.next, self.begin
        is_bound, is_spent = self.bound.is_set, self.bound.is_spent
        while True:
            index = claim(True)
            if index >= 0:
                coroutine = begin(index)
                if coroutine is not None:
                    self.run_coroutine(coroutine)
                if is_bound and is_spent():
                    self.client.poll_messages()  # those that were sent to this process
                    return True
            elif index == _core.NEXT_STOP:
                return False
            elif index == _core.NEXT_HARVEST:
                self.harvest()
            elif index == _core.NEXT_MESSAGE:
                self.client.poll_messages()

    def harvest(self) -> None:
        """Gather outcomes of this worker's own tasks."""
        if self.gatherer is not None:
            self.gatherer.collect()
        else:
            self.seat.harvest()  # left over from a former incarnation of the seat

    def nest(self) -> NestedGatherer:
        """The gatherer of this worker's own tasks."""
        if self.gatherer is None:
            from workpool.nested import NestedGatherer

            self.seat.on_outcome(payload.unpack_outcome)
            self.gatherer = self.seat.gatherer = NestedGatherer(self)
        return self.gatherer

    def begin(self, index: int) -> Coroutine[Any, Any, Any] | None:
        """Run a claimed task to its end; or return its coroutine, not yet entered."""
        seat = self.seat
        client = self.client
        running = client.running = (index, None, None)
        try:
            number, call, arg = seat.open(index)
            function, is_coroutine = self.functions.get(number) or self._load_function(index, number)
            if call & _core.CALL_TAGGED:
                key, meta, arg = arg
                running = client.running = (index, key, meta)
                call &= ~_core.CALL_TAGGED
        except BaseException as error:
            client.running = None
            self.finish_error(index, error)
            return None
        if is_coroutine or (call == CALL_OBJECT and is_coroutine_function(arg[0])):
            return self._as_coroutine(index, function, call, arg, client.running, entry=number == 0)
        partial: list[Any] | None = None
        try:
            if number == 0 and self.pre_task is not None:
                begun = time.perf_counter()
                pre = self.pre_task(arg)
                if type(pre) is CoroutineType:
                    return self._as_coroutine(index, function, call, arg, client.running, entry=True, pre=pre)
                asked = seat.enter(index, time.perf_counter() - begun)
            else:
                asked = seat.enter(index)
            if asked and asked & INTERRUPT:
                raise TaskInterrupt
            self.interruptible = running
            if call == CALL_MANY:
                result = function(*arg)
            elif call == CALL_ONE:
                result = function(arg)
            elif call in (CALL_CHUNK, CALL_STARCHUNK):
                result = partial = []
                partial.extend(map(function, arg) if call == CALL_CHUNK else starmap(function, arg))
            else:
                result = _apply(function, call, arg)
            self.interruptible = None
            arg = None  # arrays that look at its block let go of it before the outcome is told
            if type(result) is CoroutineType:  # a plain function that returned one
                return self._as_coroutine(index, _identity, CALL_ONE, result, client.running, entered=True)
        except BaseException as error:
            self.interruptible = None  # before anything that is looked at between signals
            self.finish_error(index, error, partial)
        else:
            self._finish(index, result)
        client.running = None
        return None

    def _load_function(self, index: int, number: int) -> tuple[Callable[..., Any], bool]:
        if number == 0:
            raise EntrypointError(
                "this pool has no entrypoint: use submit() or map(), or give WorkerPool one"
            )
        if number == self.passing[0]:
            return self.passing[1]
        function = pickle.loads(self.seat.function_bytes(index))
        known = function, is_coroutine_function(function)
        if number & payload.PASSING:
            self.passing = number, known
            return known
        if len(self.functions) >= _KEPT_FUNCTIONS:
            del self.functions[next(number for number in self.functions if number > 0)]
        self.functions[number] = known
        return known

    def _finish(self, index: int, result: Any) -> None:
        try:
            self.seat.finish(index, OUTCOME_OK, result)
        except ArenaFull as error:
            self._finish_when_it_fits(index, result, error)
        except BaseException as error:
            import traceback

            text = "".join(traceback.format_exception(error))
            kind = payload._qualified(type(error))
            told = f"the result, of type {payload._qualified(type(result))}, cannot be pickled: {error}"
            self.finish_error(index, RemoteError(kind, told, text))

    def _finish_when_it_fits(self, index: int, result: Any, full: ArenaFull) -> None:
        if not full.never:
            from workpool.pressure import RESULT_SECONDS, when_it_fits

            try:
                when_it_fits(
                    lambda: self.seat.finish(index, OUTCOME_OK, result),
                    self.harvest,
                    lambda: True,
                    RESULT_SECONDS,
                )
            except ArenaFull as error:
                full = error
            else:
                return
        self.finish_error(index, full)

    def finish_error(self, index: int, error: BaseException, partial: list[Any] | None = None) -> None:
        asked = self.seat.asked(index)
        ends = payload.is_cancellation(error, asked)
        if asked and self.gatherer is not None:  # those it has submitted since it was asked
            self.seat.cancel_descendants(self.seat.task_handle(index), asked | _core.CANCEL_ASKED)
        if ends and asked & _core.CANCEL_TIME:
            error = TaskTimeout("it ran longer than its timeout").with_traceback(error.__traceback__)
        elif ends:
            self.seat.finish(index, _core.OUTCOME_CANCELLED, None)
            return
        try:
            self.seat.finish(index, _core.OUTCOME_ERROR, payload.pack_exception(error, partial))
        except ArenaFull as full:
            # No room for the traceback: the bare error fits into the slot, in the argument's place.
            self.seat.give_up(index)
            bare = ArenaFull(full.asked, full.no_memory, full.budget, full.free)
            small = pickle.dumps((pickle.dumps(bare), "", None))
            self.seat.finish(index, _core.OUTCOME_ERROR, small)

    # ---- coroutine tasks -------------------------------------------------------------

    def run_coroutine(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end on the worker's loop, and other tasks beside it."""
        if self.loop is None:
            import asyncio

            self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve_coroutines(coroutine))

    def run_handler(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a message handler beside what the loop runs; if it does not run, to its end."""
        if self.loop is None or not self.loop.is_running():
            self.run_coroutine(coroutine)
            return
        task = self.loop.create_task(coroutine)
        self.handling.add(task)
        task.add_done_callback(self._handled)

    def _handled(self, task: asyncio.Task[None]) -> None:
        self.handling.discard(task)
        if self.stir is not None:
            self.stir.set()

    def block(self) -> None:
        """A coroutine task begins to await a task of its own."""
        self.blocked += 1
        if self.stir is not None:
            self.stir.set()

    def unblock(self, _: object) -> None:
        """It goes on."""
        self.blocked -= 1

    async def _as_coroutine(
        self, index: int, function: Callable[..., Any], call: int, arg: Any, running: Any, *,
        entry: bool = False, pre: Any = None, entered: bool = False,
    ) -> None:  # fmt: skip
        """A coroutine task from its pre_task hook to its outcome."""
        import asyncio

        in_context.set(running)
        self.client.running = None
        partial: list[Any] | None = None
        try:
            task = asyncio.current_task()
            assert task is not None
            self.coroutines[index] = task
            begun = time.perf_counter()
            if entry and pre is None and self.pre_task is not None:
                pre = self.pre_task(arg)
            if type(pre) is CoroutineType:
                await pre
            if not entered:
                asked = self.seat.enter(index, time.perf_counter() - begun if entry else 0.0)
                if asked & INTERRUPT:
                    raise TaskInterrupt
            if call in (CALL_CHUNK, CALL_STARCHUNK):
                result = partial = []
                for item in arg:
                    partial.append(await (function(item) if call == CALL_CHUNK else function(*item)))
            else:
                result = _apply(function, call, arg)
                if type(result) is CoroutineType:
                    result = await result
            self.coroutines.pop(index)
        except BaseException as error:
            self.coroutines.pop(index, None)
            self._told.pop(index, None)
            self.finish_error(index, error, partial)
        else:
            arg = None  # as in begin()
            self._finish(index, result)

    async def _serve_coroutines(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Keep up to ``worker_concurrency`` coroutine tasks in flight, until none is left."""
        import asyncio

        loop = asyncio.get_running_loop()
        # Something happened: a task ended, or awaits another, or we were woken.
        stir = self.stir = asyncio.Event()

        def ended(task: asyncio.Task[None]) -> None:
            self.inflight.discard(task)
            stir.set()

        def launch(coroutine: Coroutine[Any, Any, Any]) -> None:
            task = loop.create_task(coroutine)
            self.inflight.add(task)
            task.add_done_callback(ended)

        def woken() -> None:
            try:
                os.eventfd_read(self.eventfd)
            except BlockingIOError:
                pass
            stir.set()

        launch(coroutine)
        loop.add_reader(self.eventfd, woken)
        try:
            while self.inflight or self.handling:
                stir.clear()
                if len(self.inflight) - self.blocked >= self.concurrency:
                    await self._attend(stir)
                    continue
                # Spent: it ends when what is in flight has.
                spent = self.bound.is_set and self.bound.is_spent()
                index = _core.NEXT_STOP if spent else self.seat.next(False)
                if index >= 0:
                    started = self.begin(index)
                    if started is not None:
                        launch(started)
                    await asyncio.sleep(0)
                elif index == _core.NEXT_STOP:  # only what is in flight, and what that awaits
                    await self._attend(stir)
                elif index == _core.NEXT_HARVEST:
                    self.harvest()
                elif index == _core.NEXT_MESSAGE:
                    self.client.poll_messages()
                    await asyncio.sleep(0)
                elif self.seat.park_eventfd():
                    seconds = self.seat.watch_seconds()
                    timer = None if seconds is None else loop.call_later(seconds, stir.set)
                    await stir.wait()
                    if timer is not None:
                        timer.cancel()
                    self.seat.unpark_eventfd()
        finally:
            self.stir = None
            loop.remove_reader(self.eventfd)

    async def _attend(self, stir: asyncio.Event) -> None:
        """Wait until something happens, while no task may be begun: gather and handle messages."""
        if self.seat.arm():
            await stir.wait()
            return
        self.harvest()
        self.client.poll_messages()
        import asyncio

        await asyncio.sleep(0)


def _end_fork(index: int, outcome: object, *_: object) -> NoReturn:
    """A fork comes back from the task that has made it, which goes on in the worker: it ends here."""
    sys.stderr.write(f"workpool: process {os.getpid()}, a fork, has left the task that made it, and ends\n")
    if isinstance(outcome, BaseException):
        import traceback

        traceback.print_exception(outcome)
    for stream in sys.stdout, sys.stderr:
        stream.flush()
    os._exit(1)


def _identity(value: Any) -> Any:
    return value


def _apply(function: Callable[..., Any], call: int, arg: Any) -> Any:
    if call == CALL_MANY:
        return function(*arg)
    if call == CALL_ONE:
        return function(arg)
    if call == CALL_OBJECT:
        function, args, keywords = arg
    else:
        args, keywords = arg
    return function(*args, **keywords)
