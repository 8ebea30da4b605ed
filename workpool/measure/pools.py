"""Pools behind the same few methods: this one, and those of the standard library.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import multiprocessing
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

from workpool.measure import processes
from workpool.pool import WorkerPool

if TYPE_CHECKING:
    from types import TracebackType

Function = Callable[[Any], Any]


class Pool(ABC):
    """One open pool.

    Attributes:
        submit: The pool's own bound method where it can be: what the adapter adds to a call is
            the same for all, about 0.1 µs. It returns something with ``result(timeout=None)``.
        in_processes: Whether its workers are processes of their own.
        quiet_seconds: How long its processes may take to become idle.
    """

    workers: int
    submit: Callable[[Function, Any], Any]
    in_processes = True
    quiet_seconds = 30.0

    @abstractmethod
    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        """All results, in order, in the chunks that the pool recommends for many tiny items."""

    @abstractmethod
    def pids(self) -> list[int]:
        """The workers that are there now."""

    @abstractmethod
    def close(self) -> None:
        """End the pool."""

    def burst(self, function: Function, items: Iterable[Any]) -> list[Any]:
        """Submit one by one, then gather."""
        submit = self.submit
        return [handle.result() for handle in [submit(function, item) for item in items]]

    def settle(self) -> None:
        """Return when all workers are there and idle, having run none of the user's code."""
        while True:
            # Naps and not mere calls: a pool may launch a worker only while all others are busy.
            self.burst(time.sleep, [0.02] * self.workers)
            if not self.in_processes or len(self.pids()) >= self.workers:
                break
        processes.wait_until_quiet(self.quiet_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def usual_chunk(items: int, workers: int) -> int:
    """``multiprocessing.Pool.map``'s chunk, for pools whose default of 1 would take minutes."""
    return max(-(-items // (4 * workers)), 1)


class Futures(Pool):
    """An executor of ``concurrent.futures``, or one that is made like it."""

    def __init__(self, workers: int, executor: Any) -> None:
        self.workers = workers
        self.executor = executor
        self.submit = executor.submit

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        items = list(items)
        chunk = usual_chunk(len(items), self.workers)
        return list(self.executor.map(function, items, chunksize=chunk))

    def pids(self) -> list[int]:
        return list(self.executor._processes or ())

    def close(self) -> None:
        self.executor.shutdown()


class Threads(Futures):
    """``ThreadPoolExecutor``: no copies, and one interpreter lock."""

    in_processes = False

    def pids(self) -> list[int]:
        return [os.getpid()]


class Result:
    """An AsyncResult under the name that futures have."""

    __slots__ = ("result",)

    def __init__(self, answer: Any) -> None:
        self.result = answer.get


class Multiprocessing(Pool):
    """``multiprocessing.Pool``."""

    def __init__(self, workers: int, burst_by_map: bool) -> None:
        self.workers = workers
        self.burst_by_map = burst_by_map
        # Named: the default depends on the version, and fork is the quicker.
        self.pool: Any = multiprocessing.get_context("fork").Pool(workers)
        apply_async = self.pool.apply_async
        self.submit = lambda function, item: Result(apply_async(function, (item,)))

    def burst(self, function: Function, items: Iterable[Any]) -> list[Any]:
        if self.burst_by_map:
            return self.pool.map(function, items, chunksize=1)  # type: ignore[no-any-return]
        return super().burst(function, items)

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return self.pool.map(function, items)  # type: ignore[no-any-return]

    def pids(self) -> list[int]:
        return [process.pid for process in self.pool._pool]

    def close(self) -> None:
        self.pool.close()
        self.pool.join()


class Ours(Pool):
    """``WorkerPool``."""

    def __init__(self, workers: int, **options: Any) -> None:
        self.workers = workers
        # All workers at once, as the others do: the cases compare pools of equal size.
        self.pool: WorkerPool[Any, Any] = WorkerPool(
            max_workers=workers, **{"tasks_per_worker": 0, **options}
        )
        self.submit = self.pool.submit

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return list(self.pool.map(function, items))

    def pids(self) -> list[int]:
        return [worker.pid for worker in self.pool.workers]

    def close(self) -> None:
        self.pool.shutdown()


def open_processes(workers: int, start_method: str) -> Pool:
    """Open a ``ProcessPoolExecutor``."""
    context = multiprocessing.get_context(start_method)
    return Futures(workers, ProcessPoolExecutor(workers, mp_context=context))


def open_threads(workers: int) -> Pool:
    """Open a ``ThreadPoolExecutor``."""
    return Threads(workers, ThreadPoolExecutor(workers))


def open_multiprocessing(workers: int, burst_by_map: bool = False) -> Pool:
    """Open a ``multiprocessing.Pool``; with ``burst_by_map`` its burst is one map in chunks of 1."""
    return Multiprocessing(workers, burst_by_map)
