"""``WorkerPool``: what users hold.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import sys
from concurrent.futures import Executor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TextIO, TypeVar, Unpack, overload

from workpool import _core, client
from workpool.admission import Admission
from workpool.entrypoints import find
from workpool.errors import ForkedPool, PoolClosed
from workpool.identity import stays_here
from workpool.mapped import PoolMap
from workpool.options import MAIN, Options, OptionsView, PoolOptions, TaskOptions
from workpool.results import Results
from workpool.runtime import Runtime, abandon
from workpool.settings import Settings
from workpool.statistics import PoolStatistics, snapshot
from workpool.task import Task

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
    from collections.abc import Mapping as MappingOf
    from contextlib import AbstractContextManager
    from multiprocessing.context import BaseContext
    from types import ModuleType, TracebackType

    from numpy.typing import DTypeLike, NDArray

    from workpool._core import Block
    from workpool.blocks import PoolBlocks
    from workpool.messages import MainClient
    from workpool.options import MapOptions
    from workpool.supervisor import Worker

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")
A1 = TypeVar("A1")
A2 = TypeVar("A2")
A3 = TypeVar("A3")
P = ParamSpec("P")


class WorkerPool(Executor, Generic[A, R]):
    """Worker processes that take tasks from shared memory.

    Made inside a worker it starts none: it stands for the pool that the worker is of.

    Args:
        entrypoint: What ``add_task`` runs: a callable, a module, a dotted name or the path
            of a ``.py`` file. It is called as ``fn(arg)`` or ``fn(arg, client)``, and may be
            ``async def``.
        max_workers: Upper bound; by default the CPUs this process may use.
        entrypoint_name: The symbol looked up in a module or file.
        tasks_per_worker: A further worker is launched when unfinished tasks per worker
            exceed this; 0 launches all at once.
        worker_concurrency: Coroutine tasks that one worker keeps in flight.
        start_method: ``"exec"`` (a fresh interpreter that never imports ``__main__``),
            ``"spawn"``, ``"forkserver"`` or ``"fork"``.
        mp_context: A multiprocessing context instead.
        initializer, initargs: Called in each worker when it starts, before the start hook.
        memory: Bytes of shared memory for payloads; by default half of what is free.
        spin: Seconds an idle side looks before it sleeps, at most; None adapts, 0 sleeps at once.
        inner_threads: BLAS and OpenMP threads in each worker; None leaves them alone.
        grace: Seconds that a running task has to clean up, when it is cancelled with force or
            its time is up, before its worker is killed and replaced; by default 1.
        max_pending: Tasks that may be unfinished; past it ``add_task`` and ``submit`` wait.
        when_full: ``"raise"``: they raise ``QueueFull`` instead.
        max_tasks_per_child: Tasks after which a worker is replaced, between two of them.
        max_memory_per_child: Bytes of its own, without shared memory, above which it is.
        name: Shown in logs and thread names.
        inherent_cost: ``f(task)``: seconds the task is thought to take anywhere, for tasks
            without ``cost=`` whose key is not known. ``task.argument`` is a map's item, and
            for ``submit`` the tuple of arguments.
        worker_cost: ``f(task, worker)``: seconds more on that worker.

    Raises:
        ValueError: A number is out of its range, or an unknown start method.
        EntrypointError: No such entrypoint.
        ArenaFull: The system's shared memory cannot hold the pool.
    """

    def __new__(cls, *args: Any, **options: Any) -> WorkerPool[A, R]:
        """Inside a worker: its own pool, unless each worker is to be initialized for this one."""
        if cls is WorkerPool and client._current is not None and options.get("initializer") is None:
            from workpool.inner import InnerPool

            cls = InnerPool
        return object.__new__(cls)

    # What is typed of the entrypoint is typed of add_task; a file or module may do anything.
    @overload
    def __init__(
        self: WorkerPool[Any, Any], entrypoint: ModuleType | str | os.PathLike[str] | None = None,
        max_workers: int | None = None, **options: Unpack[PoolOptions],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self, entrypoint: Callable[[A], Coroutine[Any, Any, R]] | Callable[[A, Any], Coroutine[Any, Any, R]],
        max_workers: int | None = None, **options: Unpack[PoolOptions],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self, entrypoint: Callable[[A], R] | Callable[[A, Any], R],
        max_workers: int | None = None, **options: Unpack[PoolOptions],
    ) -> None: ...  # fmt: skip

    def __init__(
        self,
        entrypoint: Callable[..., Any] | ModuleType | str | os.PathLike[str] | None = None,
        max_workers: int | None = None,
        *,
        entrypoint_name: str = "worker_entrypoint",
        tasks_per_worker: float = 3,
        worker_concurrency: int = 2,
        start_method: str | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        memory: int | None = None,
        spin: float | None = None,
        inner_threads: int | None = 1,
        grace: float | None = None,
        max_pending: int | None = None,
        when_full: str = "block",
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        name: str | None = None,
        inherent_cost: Callable[[Task[Any]], float] | None = None,
        worker_cost: Callable[[Task[Any], Worker], float] | None = None,
    ) -> None:
        settings = Settings(
            max_workers=max_workers, tasks_per_worker=tasks_per_worker, worker_concurrency=worker_concurrency,
            start_method=start_method, mp_context=mp_context, initializer=initializer, initargs=initargs,
            memory=memory, spin=spin, inner_threads=inner_threads, grace=grace, max_pending=max_pending,
            when_full=when_full, max_tasks_per_child=max_tasks_per_child,
            max_memory_per_child=max_memory_per_child, name=name, inherent_cost=inherent_cost,
            worker_cost=worker_cost,
        )  # fmt: skip
        self.name = settings.name
        self._max_workers = settings.max_workers
        self._closed = self._cancelled = False
        self._runtime = runtime = Runtime(settings, find(entrypoint, entrypoint_name))
        self._seat = runtime.seat
        self._gatherer = gatherer = runtime.gatherer
        self._supervisor = runtime.supervisor
        self._sizing = runtime.sizing
        self._admission: Admission | None = None
        if settings.max_pending is not None:
            self._admission = Admission(
                settings.max_pending, when_full == "raise", lambda: gatherer.unfinished
            )
        self._placement = runtime.placement
        self._note_placing(self._placement.active)
        self._last: tuple[object, Block | None] = (None, None)
        self._keep_running = abandon(self, runtime)
        if tasks_per_worker == 0:
            self._sizing.grow()

    # ---- tasks -----------------------------------------------------------------------

    def add_task(
        self, arg: A, *, worker_affinity: int | str | None = None, affinity_strength: str | None = None,
        key: Any = None, meta: Any = None, cost: float | None = None, priority: int = 0,
        timeout: float | None = None, retries: int = 0,
    ) -> Task[R]:  # fmt: skip
        """Run the entrypoint on ``arg`` in a worker.

        Args:
            arg: Pickled if it is more than numbers, text, bytes and tuples or a list of them.
            worker_affinity: The id of the worker that shall run it, or ``"main"``: it is
                called in this process, by the thread or event loop that waits, and ``arg``
                is not pickled.
            affinity_strength: ``"light"``, the default: that worker first, but anyone may
                take it; ``"strong"``: another only when loads are clearly unbalanced;
                ``"force"``: that worker alone, or its replacement.
            key: Names the task in errors, and to the worker as ``client.task.key``. What
                tasks with this key took is remembered, and decides where the next is put.
            meta: Anything the worker shall see as ``client.task.meta``.
            cost: Seconds it is thought to take.
            priority: From -8 to 7; higher ones go first, and waiting raises it.
            timeout: Seconds it may run, from its start; then it is ended as by
                ``cancel(force=True)``, and raises ``TaskTimeout``.
            retries: Times the task may be run again when its worker died in it.

        Raises:
            ValueError: No such worker, or one that was retired; a number out of its range.
            PoolClosed: The pool is shut down.
            WorkerDied: The pool is broken: no worker can start.
        """
        options = None
        if not (
            worker_affinity is None and affinity_strength is None and key is None and meta is None
            and cost is None and priority == 0 and timeout is None and retries == 0
        ):  # fmt: skip
            options = Options(
                self._max_workers, worker_affinity=worker_affinity, affinity_strength=affinity_strength,
                key=key, meta=meta, cost=cost, priority=priority, timeout=timeout, retries=retries,
            )  # fmt: skip
        else:
            task: Task[R] | None = self._start_plain(None, _core.CALL_ONE, arg)
            if task is not None:
                task.argument = arg
                return task
        return self._add_task(arg, options)

    def _add_task(self, arg: A, options: Options | None) -> Task[R]:
        task: Task[R] = Task(self._seat)
        task.argument = arg
        if options is not None and options.seat == MAIN:
            self._start_here(task, None, (arg,), {}, options)
        else:
            self._start(task, None, _core.CALL_ONE, arg, options)
        return task

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Run ``fn(*args, **kwargs)`` in a worker.

        Functions, builtins and classes are sent to a worker once, not with each task.

        Raises:
            PoolClosed: The pool is shut down.
            WorkerDied: The pool is broken: no worker can start.
        """
        last, block = self._last
        if block is not None and fn is last and not kwargs:
            task = self._start_plain(block, _core.CALL_MANY, args)
            if task is not None:
                return task
        return self._submit(fn, args, kwargs, None)

    def _submit(
        self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options | None
    ) -> Task[T]:
        task: Task[T] = Task(self._seat)
        if options is not None and options.seat == MAIN:
            self._start_here(task, fn, args, kwargs, options)
            return task
        last, block = self._last
        if fn is not last:
            block = self._find(fn, task)
        payload: Any
        if block is None:
            call, payload = _core.CALL_OBJECT, (fn, args, kwargs)
        elif kwargs:
            call, payload = _core.CALL_KEYWORDS, (args, kwargs)
        else:
            call, payload = _core.CALL_MANY, args
        self._start(task, block, call, payload, options)
        return task

    def _find(self, fn: Callable[..., Any], task: Task[Any]) -> Block | None:
        try:
            block = self._runtime.functions.find(fn)
        except (PoolClosed, ForkedPool):  # finished at exit, without a shutdown() that said so
            raise
        except Exception as error:  # it cannot be pickled: the task's outcome, as in the standard library
            self._gatherer.settle(task, _core.OUTCOME_ERROR, error)
            return None
        if block is not None:
            self._last = (fn, block)
        return block

    def _start_plain(self, block: Block | None, call: int, payload: Any) -> Task[Any] | None:
        """Start a task that asks for nothing, in one step; None: it takes _start()."""
        if not self._is_plain:
            return None
        gatherer, supervisor, seat = self._gatherer, self._supervisor, self._seat
        if supervisor.broken is not None or gatherer.backlog or gatherer.urgent:
            return None
        task: Task[Any] | None = seat.submit(Task, block, call, payload)
        if task is not None and (
            seat.outstanding > self._sizing.grow_at or self._supervisor.broken is not None or self._closed
        ):
            self._see_to_workers()
            self._check_accepted(task)
        return task

    def _start(
        self, task: Task[Any], block: Block | None, call: int, payload: Any, options: Options | None
    ) -> None:
        self._check_open()
        if self._admission is None:
            self._start_accepted(task, block, call, payload, options)
        else:
            self._enter(self._admission)
            try:
                self._start_accepted(task, block, call, payload, options)
            finally:
                self._admission.leave()
        self._check_accepted(task)

    def _check_accepted(self, task: Task[Any]) -> None:
        # Between its start and this: who shuts down may not see the task.
        if self._closed and self._gatherer.cancel(task):
            self._refuse()

    def _start_accepted(
        self, task: Task[Any], block: Block | None, call: int, payload: Any, options: Options | None
    ) -> None:
        """Start a task of work that was accepted before a shutdown."""
        if options is not None or self._places_all:
            self._placement.start(task, block, call, payload, options)
        elif task.outcome_code == 0:
            self._gatherer.start(task, block, call, payload)
        self._see_to_workers()

    def _note_placing(self, every_task: bool) -> None:
        """Say whether every task goes through the placement, or only those with options."""
        self._places_all = every_task
        self._is_plain = self._admission is None and not every_task and not self._closed

    def _see_to_workers(self) -> None:
        """A task was offered: launch workers for it, or give it up."""
        broken = self._supervisor.broken
        if broken is not None:  # no worker will come: while this task was offered, or a map's before it
            self._gatherer.cancel_queued(broken)
        if self._seat.outstanding > self._sizing.grow_at:
            self._sizing.grow()

    def _start_here(
        self, task: Task[Any], fn: Callable[..., Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any],
        options: Options,
    ) -> None:  # fmt: skip
        if self._closed or self._seat.is_forked:
            self._refuse()
        self._runtime.local()
        if self._admission is not None:
            self._enter(self._admission)
        try:
            self._placement.start_here(task, fn, args, kwargs, options)
        finally:
            if self._admission is not None:
                self._admission.leave()

    def _enter(self, admission: Admission) -> None:
        """Wait until one more task may be unfinished."""
        while not admission.enter():
            self._runtime.when(self._has_room).result()
            self._check_open()

    def _has_room(self) -> bool:
        admission = self._admission
        return admission is None or admission.has_room() or self._closed

    async def add_task_async(self, arg: A, **options: Unpack[TaskOptions]) -> Task[R]:
        """``add_task`` that waits without holding up the event loop where ``max_pending`` is reached.

        Returns:
            The task, once it is accepted: ``await`` that for its result.
        """
        with await self._admitted():
            return self.add_task(arg, **options)

    async def submit_async(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """``submit`` that waits as ``add_task_async`` does."""
        with await self._admitted():
            return self.submit(fn, *args, **kwargs)

    async def _admitted(self) -> AbstractContextManager[None]:
        """Wait until one more task may be unfinished; its place is kept inside the context."""
        admission = self._admission
        if admission is None:
            return nullcontext()
        while not admission.enter():
            await self._runtime.when(self._has_room)
            self._check_open()
        return admission.kept()

    def _check_open(self) -> None:
        if self._closed or self._supervisor.broken is not None:
            self._refuse()

    def _refuse(self) -> NoReturn:
        if self._seat.is_forked:
            raise ForkedPool("this pool belongs to the parent process: make a new one after a fork")
        broken = self._supervisor.broken
        if broken is not None and not self._closed:
            raise broken
        raise PoolClosed("cannot schedule new futures after shutdown")

    def options(self, **options: Unpack[TaskOptions]) -> OptionsView[A, R]:
        """The pool with options for its tasks: ``pool.options(retries=2).submit(fn, 1)``.

        Takes the keyword options of ``add_task``.
        """
        return OptionsView(self, options)

    @overload  # type: ignore[override]  # the standard library does not look at the items' types
    def map(
        self, fn: Callable[[A1], Coroutine[Any, Any, T]], a: Iterable[A1], /, **options: Unpack[MapOptions]
    ) -> Results[T]: ...
    @overload
    def map(self, fn: Callable[[A1], T], a: Iterable[A1], /, **options: Unpack[MapOptions]) -> Results[T]: ...
    @overload
    def map(
        self, fn: Callable[[A1, A2], T], a: Iterable[A1], b: Iterable[A2], /, **options: Unpack[MapOptions]
    ) -> Results[T]: ...
    @overload
    def map(
        self, fn: Callable[[A1, A2, A3], T], a: Iterable[A1], b: Iterable[A2], c: Iterable[A3], /,
        **options: Unpack[MapOptions],
    ) -> Results[T]: ...  # fmt: skip
    @overload
    def map(
        self, fn: Callable[..., T], a: Iterable[Any], b: Iterable[Any], c: Iterable[Any], d: Iterable[Any], /,
        *more: Iterable[Any], **options: Unpack[MapOptions],
    ) -> Results[T]: ...  # fmt: skip

    def map(
        self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: float | None = None,
        chunksize: int | None = None, buffersize: int | None = None, ordered: bool = True,
        progress: bool | str = False,
    ) -> Results[Any]:  # fmt: skip
        """``fn`` of each item, or of each tuple of items, as an iterator of results.

        All items are read at once, and all tasks run whether results are taken or not;
        unless ``buffersize`` bounds both. In an event loop take them with ``async for``.

        Args:
            fn: Called in the workers; with several iterables, with an item of each.
            *iterables: As for the builtin ``map``.
            timeout: Seconds from this call after which taking a result raises ``TimeoutError``.
            chunksize: Items per task; by default the pool follows their measured cost.
            buffersize: Items that may be unfinished or not yet taken.
            ordered: False gives results as they come.
            progress: True shows a tqdm bar, in a notebook one of its own; ``"text"`` one of plain characters.

        Raises:
            PoolClosed: The pool is shut down.
            ModuleNotFoundError: ``progress`` without tqdm.
        """
        return self._map(fn, iterables, False, timeout, chunksize, buffersize, ordered, progress, None)

    def starmap(
        self, fn: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[T]:
        """``[fn(*args) for args in iterable]``, as ``multiprocessing.Pool.starmap``."""
        return list(self._map(fn, (map(tuple, iterable),), True, None, chunksize, None, True, False, None))

    def imap(
        self, fn: Callable[..., T], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[T]:
        """``map`` of one iterable, as ``multiprocessing.Pool.imap``."""
        return self.map(fn, iterable, chunksize=chunksize)

    def imap_unordered(
        self, fn: Callable[..., T], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[T]:
        """``map`` of one iterable, results as they come, as ``multiprocessing.Pool.imap_unordered``."""
        return self.map(fn, iterable, chunksize=chunksize, ordered=False)

    def _map(
        self, fn: Callable[..., T], iterables: tuple[Iterable[Any], ...], star: bool, timeout: float | None,
        chunksize: int | None, buffersize: int | None, ordered: bool, progress: bool | str,
        options: Options | None,
    ) -> Results[T]:  # fmt: skip
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        self._check_open()
        star = star or len(iterables) != 1
        items: Iterable[Any] = iterables[0] if len(iterables) == 1 else zip(*iterables, strict=False)
        bar = None
        if progress is not False:
            from workpool.progress import Bar

            if buffersize is None:
                items = list(items)
            bar = Bar(progress, items)
        mapping = PoolMap(self, fn, star, options).start(items, chunksize, buffersize)
        return Results(mapping, ordered, timeout, bar)

    # ---- arrays ----------------------------------------------------------------------

    def empty(self, shape: int | Sequence[int], dtype: DTypeLike = float) -> NDArray[Any]:
        """A NumPy array in shared memory, its contents as they are.

        Tasks get it, and any view of it, by reference: workers read and write it in place.
        Its memory goes back when the last view in any process is gone.

        Args:
            shape: Its dimensions.
            dtype: Any without Python objects.

        Raises:
            TypeError: Its items would be Python objects.
            ArenaFull: There is no room; see ``memory=``.
        """
        return self._shared("empty", shape, dtype)

    def zeros(self, shape: int | Sequence[int], dtype: DTypeLike = float) -> NDArray[Any]:
        """``empty``, and every item zero."""
        return self._shared("zeros", shape, dtype)

    def full(
        self, shape: int | Sequence[int], fill_value: Any, dtype: DTypeLike | None = None
    ) -> NDArray[Any]:
        """``empty``, and every item ``fill_value``; without ``dtype`` of its type."""
        return self._shared("full", shape, fill_value, dtype)

    def array(self, obj: Any, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """A copy of ``obj`` in shared memory; see ``empty``. Fortran order stays."""
        return self._shared("array_of", obj, dtype)

    def map_blocks(
        self, fn: Callable[..., Any], *arrays: Any, out: NDArray[Any] | None = None, axis: int = 0,
        grain: int | None = None, seed: Any = None,
    ) -> Any:  # fmt: skip
        """``fn`` of blocks of rows, in any order, into one array.

        Blocks are cut when a worker comes free, as large as their measured cost allows.

        Args:
            fn: Called as ``fn(*blocks)``: the same rows of each array. Returns as many rows; or
                None, if it writes into its blocks itself. It must not matter where they are cut.
            *arrays: Of one length along ``axis``; shared ones are passed by reference and may
                be written, others are copied into shared memory once. A ``range`` will do.
            out: Where the results go; a shared array is written in place. Without it a new
                shared array, of the type and row shape of the first result.
            axis: Which dimension is cut.
            grain: The least rows of a block.
            seed: ``fn`` gets ``rng=``, a generator for each block; blocks then depend on the shape
                and ``grain`` alone, so that results do not depend on who ran what.

        Returns:
            ``out``, or the new array; None if ``fn`` returned None.

        Raises:
            ValueError: Lengths differ, or a result has another number of rows than its block.
            Exception: What ``fn`` raised first; other blocks may have been written.
            WorkerDied: A worker died in a block.
        """
        return self._ranges().map(fn, arrays, out, axis, grain, seed)

    def reduce(
        self, fn: Callable[..., T], *arrays: Any, combine: Callable[[T, T], T] | None = None, axis: int = 0,
        grain: int | None = None, seed: Any = None,
    ) -> T:  # fmt: skip
        """``fn`` of blocks of rows, combined two by two where they were computed.

        Blocks and the order of combining depend on the shape and ``grain`` alone: the result is
        the same to the last bit, whatever the number of workers.

        Args:
            fn: Called as ``fn(*blocks)``, as in ``map_blocks``.
            *arrays: As in ``map_blocks``; ``range(n)`` where there is nothing but a count.
            combine: ``combine(left, right)``, in the order of the rows; by default their sum.
            axis: As in ``map_blocks``.
            seed: As in ``map_blocks``.
            grain: The rows of a block; by default some hundred blocks, of 64 KiB at least.

        Raises:
            ValueError: There are no rows, or lengths differ.
            Exception, WorkerDied: As ``map_blocks``.
        """
        reduced: T = self._ranges().reduce(fn, arrays, combine, axis, grain, seed)
        return reduced

    def parallel_for(
        self, kernel: Callable[..., object], n: int, *args: Any, grain: int | None = None, seed: Any = None
    ) -> None:
        """``kernel(i, *args)`` for each ``i`` of ``range(n)``, in any order.

        Args:
            kernel: What it returns is dropped: let it write into shared arrays.
            n: How many.
            *args: Passed on; shared arrays by reference.
            grain: Indices that are not worth dividing.
            seed: The kernel gets ``rng=``, a generator for each index: that of
                ``SeedSequence(seed).spawn(n)[i]``.

        Raises:
            Exception, WorkerDied: As ``map_blocks``.
        """
        self._ranges().loop(kernel, n, args, grain, seed)

    def _ranges(self) -> PoolBlocks:
        self._check_open()
        from workpool.blocks import PoolBlocks  # with NumPy

        return PoolBlocks(self)

    def _shared(self, how: str, *args: Any) -> NDArray[Any]:
        if self._closed or self._seat.is_forked:
            self._refuse()
        from workpool import arrays  # with NumPy: for those that ask for it

        made: NDArray[Any] = getattr(arrays, how)(self._seat, *args)
        return made

    # ---- the pool --------------------------------------------------------------------

    def resize_up_to(self, n: int) -> None:
        """Launch workers until there are ``n``; more are left alone.

        Raises:
            ValueError: ``n`` is more than ``max_workers``, or not positive.
        """
        self._check_open()
        self._sizing.resize_up_to(n)

    def resize_down_to(self, n: int) -> None:
        """Retire workers until ``n`` are left: idle ones first, and none before its task is done.

        What is queued at a retired worker is run by others; what is bound to it by
        ``"force"`` it finishes first, and to bind more raises ``ValueError``. When more work
        comes than the rule of ``tasks_per_worker`` allows for, workers are launched again.
        """
        self._check_open()
        self._sizing.resize_down_to(n)

    def run_on_workers(self, fn: Callable[..., T], *args: Any) -> list[T]:
        """``fn(*args)`` once on each worker that there is now or shall be, in the order of their ids.

        Raises:
            Exception: What ``fn`` raised, on the first worker where it did.
        """
        tasks = []
        for worker in self._supervisor.launch_now():
            there = Options(self._max_workers, worker_affinity=worker.id, affinity_strength="force")
            tasks.append(self._submit(fn, args, {}, there))
        return [task.result() for task in tasks]

    # ---- costs and events ------------------------------------------------------------

    def learned_costs(self) -> dict[Any, float]:
        """What tasks took, smoothed: seconds by key."""
        return self._placement.learned_costs()

    def load_costs(self, costs: MappingOf[Any, float]) -> None:
        """Begin with what ``learned_costs()`` of another run gave."""
        self._placement.load_costs(costs)

    def on(self, event: str, listener: Callable[..., object]) -> None:
        """Call ``listener`` at each event.

        Events are ``"task-added"(task)``, in the thread that adds it;
        ``"task-complete"(error, result, task)``, in the thread or event loop that gathers,
        also for tasks that were added before; ``"worker-launched"(worker)`` and
        ``"worker-lost"(worker, exitcode)``, in the pool's supervisor thread or in the one
        that calls ``resize_up_to``. Not for tasks that workers add, nor at the pool's own
        end. A listener that raises is logged; with none, events cost nothing.

        Raises:
            ValueError: There is no such event.
        """
        if self._closed or self._seat.is_forked:
            self._refuse()
        listened = self._runtime.events.complete
        self._runtime.events.on(event, listener)
        self._note_placing(self._placement.listen())
        if self._runtime.events.complete and not listened:
            self._placement.follow_all()

    def remove_listener(self, event: str, listener: Callable[..., object]) -> None:
        """Take ``on`` back; nothing happens if there is no such listener."""
        self._runtime.events.remove(event, listener)
        self._note_placing(self._placement.listen())

    # ---- looking, waiting, ending ----------------------------------------------------

    def when_idle(self) -> Task[None]:
        """A task that is done once no task is unfinished; await it, or ask its ``result()``."""
        if self._closed or self._seat.is_forked:
            self._refuse()
        return self._runtime.when_idle()

    @property
    def is_idle(self) -> bool:
        """Whether no task is unfinished."""
        self._gatherer.look()
        return self._runtime.is_idle()

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers that live, by seat."""
        return self._supervisor.workers

    def on_message(self, type: str, listener: Callable[[Any, Worker | None], object]) -> None:  # noqa: A002
        """Have ``listener(contents, worker)`` called for each message of ``type`` from a worker.

        A listener that is added in an event loop is called in that loop while it runs, and
        may use it freely. Others, and those of a loop that has ended, run one at a time in
        the thread that waits for a task, else in a thread of the pool's. One worker's
        messages come in the order in which it posted them. A listener that raises is logged.

        Args:
            type: As given to ``client.post_message_to_pool``.
            listener: The worker is None for a message of the main client. Adding the same
                again changes nothing.
        """
        if self._closed or self._seat.is_forked:
            self._refuse()
        self._runtime.messages.add(type, listener)

    def remove_message_listener(self, type: str, listener: Callable[[Any, Worker | None], object]) -> None:  # noqa: A002
        """Take ``on_message`` back; nothing happens if there is no such listener."""
        self._runtime.messages.remove(type, listener)

    def post_message_to_workers(self, type: str, contents: Any = None) -> None:  # noqa: A002
        """Send a message to every worker that lives now, and to the main client.

        It waits while 64 KiB of messages to a worker are unread. One to a worker that goes
        before it reads it is logged as undelivered.

        Args:
            type: Which handlers get it, see ``WorkerClient.on_message``.
            contents: Anything that can be pickled, of any size; pickled once.
        """
        if self._seat.is_forked:
            self._refuse()
        messages = self._runtime.messages
        messages.post(self._supervisor.launch_now(), type, contents)
        messages.post_to_main(type, contents)

    @property
    def _main_client(self) -> MainClient:
        return self._runtime.messages.main

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until all launched workers have run their start hook; with none, launch one.

        Raises:
            TimeoutError: They have not, after ``timeout`` seconds.
            WorkerDied: No worker can start.
        """
        if self._closed or self._seat.is_forked:
            self._refuse()
        if self._supervisor.wanted == 0:
            self._sizing.grow()
        self._runtime.when(self._supervisor.is_ready).result(timeout)
        if self._supervisor.broken is not None:
            raise self._supervisor.broken

    def dump_stacks(self, file: TextIO | None = None) -> str:
        """Write where each worker is, all its threads, to ``file``; by default to stderr.

        Workers that are stuck in C code answer too; each takes some 40 ms.

        Returns:
            The same text.
        """
        if self._closed or self._seat.is_forked:
            self._refuse()
        text = self._runtime.stacks()
        print(text, file=sys.stderr if file is None else file)
        return text

    def statistics(self) -> PoolStatistics:
        """A snapshot of queues, workers and memory."""
        if self._closed or self._seat.is_forked:
            self._refuse()
        segments = self._runtime.segments
        return snapshot(
            self._gatherer,
            self._supervisor,
            self._runtime.trimmer,
            segments.control.size,
            segments.arena_bytes,
        )

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        stays_here("a WorkerPool", "a task submits through workpool.current_client(), or makes one there")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks; run what is queued, unless cancelled; end the workers.

        Args:
            wait: Return only when all that is done; else it goes on in the background.
            cancel_futures: Cancel what no worker has begun.
        """
        self._close()
        self._sizing.end()
        if self._seat.is_forked:
            return
        if cancel_futures:
            self._cancelled = True  # a map that has more to offer ends here
            self._gatherer.cancel_queued()
        if wait:
            self._runtime.finish()
        else:
            self._runtime.finish_in_background()

    def _close(self) -> None:
        self._closed = True
        self._is_plain = False

    def dispose(self) -> None:
        """Shut down without what is queued: running tasks end, exit hooks run, memory is gone on return."""
        self.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> WorkerPool[A, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(kind)

    def _leave(self, kind: type[BaseException] | None) -> None:
        if kind is not None and _is_interrupt(kind) and not self._seat.is_forked:
            self._close()
            self._cancelled = True
            self._runtime.interrupt()
        self.shutdown(wait=True, cancel_futures=kind is not None)

    async def __aenter__(self) -> WorkerPool[A, R]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: self._leave(kind))

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self.workers)}/{self._max_workers} workers"
        return f"<WorkerPool {self.name!r} {state}>"


def _is_interrupt(kind: type[BaseException]) -> bool:
    """Whether a block is left by Ctrl-C, which in asyncio comes as a cancellation."""
    return issubclass(kind, KeyboardInterrupt) or (
        kind.__name__ == "CancelledError" and kind.__module__ == "asyncio.exceptions"
    )
