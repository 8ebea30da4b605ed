"""A worker's main: claim, run, finish, until the parent says stop.

What a fresh worker imports is kept short, because every import is paid before the first
result: this module, the core, pickle. NumPy, asyncio and cloudpickle come with the first
task that needs them.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import sys
import time
from itertools import starmap
from types import CoroutineType

from workpool import _core, payload
from workpool.client import WorkerClient, _in_context, set_current
from workpool.errors import ArenaFull, EntrypointError, RemoteError
from workpool.loading import is_coroutine_function, load, takes_client

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from typing import Any

    from workpool.loading import EntrypointSpec

# The worker could not start: its start hook raised, or its entrypoint cannot be loaded.
EXIT_START = 70

# Functions a worker keeps; one that was dropped is read again from the arena.
_KEPT_FUNCTIONS = 1024

# The hot path looks these up once a task: as names of this module.
CALL_ONE, CALL_MANY, CALL_OBJECT = _core.CALL_ONE, _core.CALL_MANY, _core.CALL_OBJECT
CALL_CHUNK, CALL_STARCHUNK = _core.CALL_CHUNK, _core.CALL_STARCHUNK
OUTCOME_OK = _core.OUTCOME_OK


class WorkerConfig:
    """What every worker of a pool is told.

    Attributes:
        control_fd, arena_fd, parent_pidfd, eventfds: Descriptors, as they are numbered
            in the worker.
        work: Pickled ``(EntrypointSpec, initializer, initargs)``: needs ``sys_path`` first.
    """

    def __init__(
        self,
        *,
        control_fd: int,
        arena_fd: int,
        control_bytes: int,
        arena_bytes: int,
        parent_pidfd: int,
        eventfds: tuple[int, ...],
        sys_path: tuple[str, ...],
        spin: float,
        concurrency: int,
        work: bytes,
    ) -> None:
        self.control_fd = control_fd
        self.arena_fd = arena_fd
        self.control_bytes = control_bytes
        self.arena_bytes = arena_bytes
        self.parent_pidfd = parent_pidfd
        self.eventfds = eventfds
        self.sys_path = sys_path
        self.spin = spin
        self.concurrency = concurrency
        self.work = work

    @property
    def fds(self) -> list[int]:
        """All descriptors a worker needs."""
        return [self.control_fd, self.arena_fd, self.parent_pidfd, *self.eventfds]

    def with_fds(self, fds: list[int]) -> WorkerConfig:
        """The same with other descriptors, in the order of ``fds``."""
        told = vars(self) | {"control_fd": fds[0], "arena_fd": fds[1], "parent_pidfd": fds[2]}
        return WorkerConfig(**told | {"eventfds": tuple(fds[3:])})


def main() -> None:
    """Entry of a worker started by ``exec``: argv is seat, incarnation, config fd, report fd."""
    seat, incarnation, config_fd, report_fd = map(int, sys.argv[1:5])
    sys.argv[1:] = []
    data = os.pread(config_fd, os.fstat(config_fd).st_size, 0)
    os.close(config_fd)
    code = run(pickle.loads(data), seat, incarnation, report_fd)
    sys.exit(code)


def main_multiprocessing(
    config: WorkerConfig, handles: Any, seat: int, incarnation: int, report_fd: int
) -> None:
    """Entry of a worker started through a multiprocessing context.

    Args:
        config: What every worker is told; with ``handles``, its descriptors are replaced.
        handles: What brings the descriptors into this process, in the order of
            ``WorkerConfig.fds`` with ``report_fd`` last; None if it inherited them.
        seat: Which seat it is for.
        incarnation: How many processes sat there before it, and itself.
        report_fd: Where to say why it cannot start.
    """
    if handles is not None:
        *fds, report_fd = [handle.detach() for handle in handles]
        config = config.with_fds(fds)
    code = run(config, seat, incarnation, report_fd)
    if code:
        sys.exit(code)


def run(config: WorkerConfig, index: int, incarnation: int, report_fd: int) -> int:
    """Be a worker; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _core.watch_parent(config.parent_pidfd)
    sys.path[:] = config.sys_path
    control = mmap.mmap(config.control_fd, config.control_bytes)
    arena = mmap.mmap(config.arena_fd, config.arena_bytes)
    for mapping in (control, arena):
        _core.dont_fork(mapping)
    seat = _core.Seat(control, arena, config.arena_fd, index)
    os.register_at_fork(after_in_child=seat.abandon)
    for other, fd in enumerate(config.eventfds):
        seat.eventfd(other, fd)
    seat.spin(config.spin)
    worker = _Worker(seat, config)
    try:
        worker.start()
    except BaseException as error:
        os.write(report_fd, payload.pack_exception(error)[:60_000])
        return EXIT_START
    os.close(report_fd)
    seat.ready(incarnation)
    worker.serve()
    worker.end()
    return 0


class _Worker:
    def __init__(self, seat: _core.Seat, config: WorkerConfig) -> None:
        self.seat = seat
        self.client = WorkerClient(seat)
        self.eventfd = config.eventfds[seat.index]
        self.concurrency = config.concurrency
        self.work = config.work
        # By id: the function and whether it is async. -1 stands for one in the payload.
        self.functions: dict[int, tuple[Callable[..., Any], bool]] = {-1: (_identity, False)}
        self.pre_task: Callable[[Any], Any] | None = None
        self.exit_hook: Callable[[], Any] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.inflight: set[asyncio.Task[None]] = set()

    # ---- beginning and end -----------------------------------------------------------

    def start(self) -> None:
        """Load the entrypoint and run the start hooks."""
        spec: EntrypointSpec
        spec, initializer, initargs = pickle.loads(self.work)
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
        self.exit_hook = bind("on_worker_exit", 0)
        start_hook = bind("on_worker_start", 0)
        if initializer is not None:
            self._finish_hook(initializer(*initargs))
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

    def _finish_hook(self, value: Any) -> None:
        if type(value) is CoroutineType:
            self._event_loop().run_until_complete(value)

    # ---- plain tasks -----------------------------------------------------------------

    def serve(self) -> None:
        """Run tasks until the parent says stop."""
        claim, begin = self.seat.next, self._begin
        while True:
            index = claim(True)
            if index >= 0:
                coroutine = begin(index)
                if coroutine is not None:
                    self._event_loop().run_until_complete(self._serve_coroutines(index, coroutine))
            elif index == _core.NEXT_STOP:
                return
            elif index == _core.NEXT_HARVEST:
                self.seat.harvest()

    def _begin(self, index: int) -> Coroutine[Any, Any, Any] | None:
        """Run a claimed task to its end; or return its coroutine, not yet entered."""
        seat = self.seat
        client = self.client
        client._running = (index, None, None)
        try:
            number, call, arg = seat.open(index)
            function, is_coroutine = self.functions.get(number) or self._load_function(index, number)
            if call & _core.CALL_TAGGED:
                key, meta, arg = arg
                client._running = (index, key, meta)
                call &= ~_core.CALL_TAGGED
        except BaseException as error:
            client._running = None
            self._finish_error(index, error)
            return None
        if is_coroutine or (call == CALL_OBJECT and is_coroutine_function(arg[0])):
            return self._as_coroutine(index, function, call, arg, client._running, entry=number == 0)
        partial: list[Any] | None = None
        try:
            if number == 0 and self.pre_task is not None:
                begun = time.perf_counter()
                pre = self.pre_task(arg)
                if type(pre) is CoroutineType:
                    return self._as_coroutine(
                        index, function, call, arg, client._running, entry=True, pre=pre
                    )
                seat.enter(index, time.perf_counter() - begun)
            else:
                seat.enter(index)
            if call == CALL_MANY:
                result = function(*arg)
            elif call == CALL_ONE:
                result = function(arg)
            elif call in (CALL_CHUNK, CALL_STARCHUNK):
                result = partial = []
                partial.extend(map(function, arg) if call == CALL_CHUNK else starmap(function, arg))
            else:
                result = _apply(function, call, arg)
            if type(result) is CoroutineType:  # a plain function that returned one
                return self._as_coroutine(index, _identity, CALL_ONE, result, client._running, entered=True)
        except BaseException as error:
            self._finish_error(index, error, partial)
        else:
            self._finish(index, result)
        client._running = None
        return None

    def _load_function(self, index: int, number: int) -> tuple[Callable[..., Any], bool]:
        if number == 0:
            raise EntrypointError(
                "this pool has no entrypoint: use submit() or map(), or give WorkerPool one"
            )
        function = pickle.loads(self.seat.function_bytes(index))
        known = function, is_coroutine_function(function)
        if len(self.functions) >= _KEPT_FUNCTIONS:
            del self.functions[next(number for number in self.functions if number > 0)]
        self.functions[number] = known
        return known

    def _finish(self, index: int, result: Any) -> None:
        try:
            self.seat.finish(index, OUTCOME_OK, result)
        except ArenaFull as error:
            self._finish_error(index, error)
        except BaseException as error:
            import traceback

            text = "".join(traceback.format_exception(error))
            kind = payload._qualified(type(error))
            told = f"the result, of type {payload._qualified(type(result))}, cannot be pickled: {error}"
            self._finish_error(index, RemoteError(kind, told, text))

    def _finish_error(self, index: int, error: BaseException, partial: list[Any] | None = None) -> None:
        try:
            self.seat.finish(index, _core.OUTCOME_ERROR, payload.pack_exception(error, partial))
        except ArenaFull as full:
            # No room for the traceback: the bare error fits into the slot.
            small = pickle.dumps((pickle.dumps(ArenaFull(full.asked, full.no_memory, full.budget)), "", None))
            self.seat.finish(index, _core.OUTCOME_ERROR, small)

    # ---- coroutine tasks -------------------------------------------------------------

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self.loop is None:
            import asyncio

            self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)
        return self.loop

    async def _as_coroutine(
        self, index: int, function: Callable[..., Any], call: int, arg: Any, running: Any, *,
        entry: bool = False, pre: Any = None, entered: bool = False,
    ) -> None:  # fmt: skip
        """A coroutine task from its pre_task hook to its outcome."""
        _in_context.set(running)
        self.client._running = None
        partial: list[Any] | None = None
        try:
            begun = time.perf_counter()
            if entry and pre is None and self.pre_task is not None:
                pre = self.pre_task(arg)
            if type(pre) is CoroutineType:
                await pre
            if not entered:
                self.seat.enter(index, time.perf_counter() - begun if entry else 0.0)
            if call in (CALL_CHUNK, CALL_STARCHUNK):
                result = partial = []
                for item in arg:
                    partial.append(await (function(item) if call == CALL_CHUNK else function(*item)))
            else:
                result = _apply(function, call, arg)
                if type(result) is CoroutineType:
                    result = await result
        except BaseException as error:
            self._finish_error(index, error, partial)
        else:
            self._finish(index, result)

    async def _serve_coroutines(self, index: int, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Keep up to ``worker_concurrency`` coroutine tasks in flight, until none is left."""
        import asyncio

        loop = asyncio.get_running_loop()
        stir = asyncio.Event()  # something happened: a task ended, or we were woken

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
            while self.inflight:
                stir.clear()
                if len(self.inflight) >= self.concurrency:
                    await stir.wait()
                    continue
                index = self.seat.next(False)
                if index >= 0:
                    started = self._begin(index)
                    if started is not None:
                        launch(started)
                    await asyncio.sleep(0)
                elif index == _core.NEXT_STOP:
                    await asyncio.wait(self.inflight)
                elif index == _core.NEXT_HARVEST:
                    self.seat.harvest()
                elif self.seat.park_eventfd():
                    await stir.wait()
                    self.seat.unpark_eventfd()
        finally:
            loop.remove_reader(self.eventfd)


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
