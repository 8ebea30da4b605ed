"""``WorkerPool``: what users hold.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import itertools
from concurrent.futures import Executor
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypedDict, TypeVar, Unpack

from workpool import _core
from workpool.cpus import usable_cpus
from workpool.entrypoints import find
from workpool.errors import ForkedPool, PoolClosed
from workpool.mapping import Chunks, Mapping, apply_chunk
from workpool.runtime import Runtime, abandon
from workpool.statistics import PoolStatistics, snapshot
from workpool.task import Task

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.context import BaseContext
    from types import ModuleType, TracebackType

    from workpool._core import Block
    from workpool.supervisor import Worker

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")

# Twice what waking a sleeper costs on common machines: a miss costs no more than a wake
# would have, and a hit saves it (Karlin et al., competitive spinning, 1990).
_SPIN_SECONDS = 60e-6

_NEVER = 1 << 62

_pool_numbers = itertools.count(1)


class TaskOptions(TypedDict, total=False):
    """The keyword options of ``add_task``."""

    key: Any
    meta: Any
    retries: int


class WorkerPool(Executor, Generic[A, R]):
    """Worker processes that take tasks from shared memory.

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
        name: Shown in logs and thread names.

    Raises:
        ValueError: A number is out of its range, or an unknown start method.
        EntrypointError: No such entrypoint.
        ArenaFull: The system's shared memory cannot hold the pool.
    """

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
        name: str | None = None,
    ) -> None:
        if start_method is not None and mp_context is not None:
            raise ValueError("give start_method or mp_context, not both")
        if start_method not in (None, "exec", "spawn", "forkserver", "fork"):
            raise ValueError(
                f"start_method must be 'exec', 'spawn', 'forkserver' or 'fork', not {start_method!r}"
            )
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._max_workers = _worker_count(max_workers)
        _check_at_least("tasks_per_worker", tasks_per_worker, 0)
        _check_at_least("worker_concurrency", worker_concurrency, 1)
        if memory is not None:
            _check_at_least("memory", memory, 1)
        if spin is not None:
            _check_at_least("spin", spin, 0)
        self.name = name or f"workpool-{next(_pool_numbers)}"
        self._tasks_per_worker = tasks_per_worker
        self._closed = False
        self._runtime = runtime = Runtime(
            name=self.name, workers=self._max_workers, cpus=usable_cpus(), memory=memory,
            spin=_SPIN_SECONDS if spin is None else spin, concurrency=worker_concurrency,
            method=start_method, context=mp_context, entrypoint=find(entrypoint, entrypoint_name),
            initializer=initializer, initargs=initargs,
        )  # fmt: skip
        self._seat = runtime.seat
        self._gatherer = runtime.gatherer
        self._supervisor = runtime.supervisor
        self._last: tuple[object, Block | None] = (None, None)
        self._grow_at = 0 if tasks_per_worker else -1
        self._keep_running = abandon(self, runtime)
        if tasks_per_worker == 0:
            self._grow()

    # ---- tasks -----------------------------------------------------------------------

    def add_task(self, arg: A, *, key: Any = None, meta: Any = None, retries: int = 0) -> Task[R]:
        """Run the entrypoint on ``arg`` in a worker.

        Args:
            arg: Pickled if it is more than numbers, text, bytes and tuples or a list of them.
            key: Names the task in errors, and to the worker as ``client.task.key``.
            meta: Anything the worker shall see as ``client.task.meta``.
            retries: Times the task may be run again when its worker died in it.

        Raises:
            PoolClosed: The pool is shut down.
            WorkerDied: The pool is broken: no worker can start.
        """
        task: Task[R] = Task(self._seat)
        task.argument = arg
        self._start(task, None, _core.CALL_ONE, arg, key, meta, retries)
        return task

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Task[T]:
        """Run ``fn(*args, **kwargs)`` in a worker.

        Functions, builtins and classes are sent to a worker once, not with each task.

        Raises:
            PoolClosed: The pool is shut down.
            WorkerDied: The pool is broken: no worker can start.
        """
        return self._submit(fn, args, kwargs, None, None, 0)

    def _submit(
        self,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        key: Any,
        meta: Any,
        retries: int,
    ) -> Task[T]:
        task: Task[T] = Task(self._seat)
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
        self._start(task, block, call, payload, key, meta, retries)
        return task

    def _find(self, fn: Callable[..., Any], task: Task[Any]) -> Block | None:
        try:
            block = self._runtime.functions.find(fn)
        except Exception as error:  # it cannot be pickled: the task's outcome, as in the standard library
            self._gatherer.settle(task, _core.OUTCOME_ERROR, error)
            return None
        if block is not None:
            self._last = (fn, block)
        return block

    def _start(
        self, task: Task[Any], block: Block | None, call: int, payload: Any, key: Any, meta: Any, retries: int
    ) -> None:
        if self._closed or self._supervisor.broken is not None:
            self._refuse()
        self._start_accepted(task, block, call, payload, key, meta, retries)

    def _start_accepted(
        self, task: Task[Any], block: Block | None, call: int, payload: Any, key: Any, meta: Any, retries: int
    ) -> None:
        """Start a task of work that was accepted before a shutdown."""
        if key is not None or meta is not None:
            task.key, task.meta = key, meta
            call |= _core.CALL_TAGGED
            payload = (key, meta, payload)
        gatherer = self._gatherer
        if task.outcome_code == 0:
            gatherer.start(task, block, call, payload, retries + 1)
        if self._seat.outstanding > self._grow_at:
            self._grow()

    def _refuse(self) -> NoReturn:
        if self._seat.is_forked:
            raise ForkedPool("this pool belongs to the parent process: make a new one after a fork")
        broken = self._supervisor.broken
        if broken is not None and not self._closed:
            raise broken
        raise PoolClosed("cannot schedule new futures after shutdown")

    def options(self, **options: Unpack[TaskOptions]) -> OptionsView:
        """The pool with options for its tasks: ``pool.options(retries=2).submit(fn, 1)``.

        Takes the keyword options of ``add_task``.
        """
        return OptionsView(self, options)

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None,
        chunksize: int | None = None, buffersize: int | None = None, ordered: bool = True,
    ) -> Iterator[T]:  # fmt: skip
        """``fn`` of each item, or of each tuple of items, as an iterator of results.

        All items are read at once, and all tasks run whether results are taken or not;
        unless ``buffersize`` bounds both.

        Args:
            fn: Called in the workers; with several iterables, with an item of each.
            *iterables: As for the builtin ``map``.
            timeout: Seconds from this call after which taking a result raises ``TimeoutError``.
            chunksize: Items per task; by default the pool follows their measured cost.
            buffersize: Items that may be unfinished or not yet taken.
            ordered: False gives results as they come.

        Raises:
            PoolClosed: The pool is shut down.
        """
        return self._map(fn, iterables, False, timeout, chunksize, buffersize, ordered, {})

    def starmap(
        self, fn: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[T]:
        """``[fn(*args) for args in iterable]``, as ``multiprocessing.Pool.starmap``."""
        return list(self._map(fn, (map(tuple, iterable),), True, None, chunksize, None, True, {}))

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
        chunksize: int | None, buffersize: int | None, ordered: bool, options: TaskOptions,
    ) -> Iterator[T]:  # fmt: skip
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        if self._closed or self._supervisor.broken is not None:
            self._refuse()
        star = star or len(iterables) != 1
        items: Iterable[Any] = iterables[0] if len(iterables) == 1 else zip(*iterables, strict=False)
        if buffersize is None:
            items = list(items)
        if chunksize is None and iscoroutinefunction(fn):
            chunksize = 1  # coroutines overlap as tasks, not inside one
        call = _core.CALL_STARCHUNK if star else _core.CALL_CHUNK
        key, meta, retries = options.get("key"), options.get("meta"), options.get("retries", 0)

        def submit(chunk: list[Any]) -> Task[Any]:
            task: Task[Any] = Task(self._seat)
            block = self._find(fn, task)
            payload: Any
            if block is None:
                payload, how = (apply_chunk, (fn, chunk, star), {}), _core.CALL_OBJECT
            else:
                payload, how = chunk, call
            self._start_accepted(task, block, how, payload, key, meta, retries)
            return task

        workers = self._max_workers
        mapping: Mapping[T] = Mapping(
            submit,
            Chunks(items, chunksize, workers),
            window=buffersize or 2 * workers + 1,
            buffered=buffersize is not None,
        )
        if buffersize is None:
            self._gatherer.attend_in_thread()  # it goes on whether results are taken or not
        return mapping.results(ordered, timeout)

    # ---- the pool --------------------------------------------------------------------

    def _grow(self) -> None:
        """Launch what the rule of ``tasks_per_worker`` asks for."""
        supervisor = self._supervisor
        if self._tasks_per_worker == 0 or self._runtime.launches_at_once:
            wanted = self._max_workers
        else:
            wanted = max(
                1, min(self._max_workers, int(-(-self._gatherer.unfinished // self._tasks_per_worker)))
            )
        supervisor.want(wanted)
        wanted = supervisor.wanted
        self._grow_at = _NEVER if wanted >= self._max_workers else int(wanted * self._tasks_per_worker)

    def when_idle(self) -> Task[None]:
        """A task that is done once no task is unfinished; await it, or ask its ``result()``."""
        if self._closed:
            self._refuse()
        return self._runtime.when_idle()

    @property
    def is_idle(self) -> bool:
        """Whether no task is unfinished."""
        return self._runtime.is_idle()

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers that live, by seat."""
        return self._supervisor.workers

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until all launched workers have run their start hook; with none, launch one.

        Raises:
            TimeoutError: They have not, after ``timeout`` seconds.
            WorkerDied: No worker can start.
        """
        if self._closed:
            self._refuse()
        if self._supervisor.wanted == 0:
            self._grow()
        self._runtime.when(self._supervisor.is_ready).result(timeout)
        if self._supervisor.broken is not None:
            raise self._supervisor.broken

    def statistics(self) -> PoolStatistics:
        """A snapshot of queues, workers and memory."""
        if self._closed:
            self._refuse()
        segments = self._runtime.segments
        return snapshot(self._gatherer, self._supervisor, segments.control.size, segments.arena_bytes)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks; run what is queued, unless cancelled; end the workers.

        Args:
            wait: Return only when all that is done; else it goes on in the background.
            cancel_futures: Cancel what no worker has begun.
        """
        self._closed = True
        self._grow_at = _NEVER
        if self._seat.is_forked:
            return
        if cancel_futures:
            self._gatherer.cancel_queued()
        if wait:
            self._runtime.finish()
        else:
            self._runtime.finish_in_background()

    def dispose(self) -> None:
        """Shut down without what is queued: running tasks end, exit hooks run, memory is gone on return."""
        self.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> WorkerPool[A, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(wait=True, cancel_futures=kind is not None)

    async def __aenter__(self) -> WorkerPool[A, R]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: self.shutdown(wait=True, cancel_futures=kind is not None))

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self.workers)}/{self._max_workers} workers"
        return f"<WorkerPool {self.name!r} {state}>"


class OptionsView:
    """A pool with options for every task: made by ``WorkerPool.options``."""

    def __init__(self, pool: WorkerPool[Any, Any], options: TaskOptions) -> None:
        unknown = set(options) - set(TaskOptions.__annotations__)
        if unknown:
            raise TypeError(f"unknown task options: {', '.join(sorted(unknown))}")
        self._pool = pool
        self._options = options

    def add_task(self, arg: Any) -> Task[Any]:
        """``WorkerPool.add_task`` with the view's options."""
        return self._pool.add_task(arg, **self._options)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Task[T]:
        """``WorkerPool.submit`` with the view's options."""
        options = self._options
        return self._pool._submit(
            fn, args, kwargs, options.get("key"), options.get("meta"), options.get("retries", 0)
        )

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None,
        chunksize: int | None = None, buffersize: int | None = None, ordered: bool = True,
    ) -> Iterator[T]:  # fmt: skip
        """``WorkerPool.map`` with the view's options for each chunk."""
        return self._pool._map(fn, iterables, False, timeout, chunksize, buffersize, ordered, self._options)


def _worker_count(max_workers: int | None) -> int:
    if max_workers is None:
        return min(usable_cpus(), _core.MAX_SEATS - 1)
    if max_workers <= 0:
        raise ValueError("max_workers must be greater than 0")
    if max_workers >= _core.MAX_SEATS:
        raise ValueError(f"max_workers must be at most {_core.MAX_SEATS - 1}")
    return max_workers


def _check_at_least(name: str, value: float, least: int) -> None:
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
