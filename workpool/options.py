"""The options of a task: checked once, however they are given.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypedDict, TypeVar, Unpack, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from multiprocessing.context import BaseContext

    from workpool.pool import WorkerPool
    from workpool.results import Results
    from workpool.supervisor import Worker
    from workpool.task import Task

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")
A1 = TypeVar("A1")
A2 = TypeVar("A2")
A3 = TypeVar("A3")
P = ParamSpec("P")

# enum wp_strength
NONE, LIGHT, STRONG, FORCE = 0, 1, 2, 3
_STRENGTHS = {"light": LIGHT, "strong": STRONG, "force": FORCE}

# Seats of no worker: anyone's, and the parent's own.
ANYONE, MAIN = 0, -1

PRIORITIES = range(-8, 8)
_FOREVER_SECONDS = 9e9  # what the clock counts in nanoseconds ends there, after 285 years
_MOST_RETRIES = 252  # the count of attempts has a byte, and WP_DECODE_DEATHS more are allowed


def _retries(retries: object) -> int:
    """``retries``, if it is a whole number in its range."""
    if type(retries) is not int:
        raise TypeError(f"retries must be a whole number, not {retries!r}")
    if not 0 <= retries <= _MOST_RETRIES:
        raise ValueError(f"retries must be from 0 to {_MOST_RETRIES}, not {retries}")
    return retries


def _timeout(timeout: object) -> float | None:
    """``timeout``, if it is a positive number of seconds or None."""
    if timeout is None:
        return None
    number = seconds("timeout", timeout)
    if number == 0.0:
        raise ValueError("timeout must be greater than 0")
    return number if number < _FOREVER_SECONDS else None


class TaskOptions(TypedDict, total=False):
    """The keyword options of ``add_task``."""

    worker_affinity: int | str | None
    affinity_strength: str | None
    key: Any
    meta: Any
    cost: float | None
    priority: int
    timeout: float | None
    retries: int


class MapOptions(TypedDict, total=False):
    """The keyword options of ``map``."""

    timeout: float | None
    chunksize: int | None
    buffersize: int | None
    ordered: bool
    progress: bool | str


class PoolOptions(TypedDict, total=False):
    """The keyword options of ``WorkerPool``: for its overloads, which cannot repeat them all."""

    entrypoint_name: str
    tasks_per_worker: float
    worker_concurrency: int
    start_method: str | None
    mp_context: BaseContext | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    memory: int | None
    spin: float | None
    inner_threads: int | None
    grace: float | None
    max_pending: int | None
    when_full: str
    max_tasks_per_child: int | None
    max_memory_per_child: int | None
    name: str | None
    inherent_cost: Callable[[Task[Any]], float] | None
    worker_cost: Callable[[Task[Any], Worker], float] | None


class Options:
    """Checked options.

    Attributes:
        seat, strength: The worker the task prefers or is bound to, and how; or ``ANYONE``,
            or ``MAIN``.
        cost: Seconds, or None if the caller does not know.
        key, meta, priority, timeout, retries: As given.
        learns: Whether what the task takes is remembered for its key.

    Raises:
        ValueError, TypeError: One of them is out of its range, or of another type.
    """

    __slots__ = ("cost", "key", "learns", "meta", "priority", "retries", "seat", "strength", "timeout")

    def __init__(
        self,
        workers: int,
        *,
        worker_affinity: int | str | None = None,
        affinity_strength: str | None = None,
        key: Any = None,
        meta: Any = None,
        cost: float | None = None,
        priority: int = 0,
        timeout: float | None = None,
        retries: int = 0,
    ) -> None:
        self.seat = _seat(worker_affinity, workers)
        self.strength = _strength(affinity_strength, self.seat)
        self.key = key
        self.learns = key is not None
        self.meta = meta
        self.cost = None if cost is None else seconds("cost", cost)
        if type(priority) is not int:
            raise TypeError(f"priority must be a whole number, not {priority!r}")
        if priority not in PRIORITIES:
            raise ValueError(f"priority must be from {PRIORITIES[0]} to {PRIORITIES[-1]}, not {priority}")
        self.priority = priority
        self.retries = _retries(retries)
        self.timeout = _timeout(timeout)

    def of_chunk(self, key: Any, cost: float | None, learns: bool) -> Options:
        """The same for some items of a map."""
        other = Options.__new__(Options)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other.key, other.cost, other.learns = key, cost, learns
        return other


def _seat(affinity: int | str | None, workers: int) -> int:
    if affinity is None:
        return ANYONE
    if affinity == "main":
        return MAIN
    if isinstance(affinity, str):
        raise ValueError(f"worker_affinity must be a worker's id or 'main', not {affinity!r}")
    if isinstance(affinity, bool) or not hasattr(affinity, "__index__"):
        raise TypeError(f"worker_affinity must be a worker's id or 'main', not {affinity!r}")
    seat = affinity.__index__()
    if not 1 <= seat <= workers:
        raise ValueError(f"worker_affinity names no worker of this pool: {seat} is not from 1 to {workers}")
    return seat


def _strength(name: str | None, seat: int) -> int:
    if name is not None and name not in _STRENGTHS:
        raise ValueError(f"affinity_strength must be 'light', 'strong' or 'force', not {name!r}")
    if seat == ANYONE:
        if name is not None:
            raise ValueError(f"affinity_strength={name!r} without worker_affinity: say to which worker")
        return NONE
    if seat == MAIN:
        return FORCE
    return LIGHT if name is None else _STRENGTHS[name]


def seconds(name: str, value: Any) -> float:
    """A cost, checked: a number of seconds that is not negative."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    number = float(value)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{name} must be a finite number of seconds, at least 0, not {value!r}")
    return number


PLAIN = Options(0)


class OptionsView(Generic[A, R]):
    """A pool with options for every task: made by ``WorkerPool.options``."""

    def __init__(self, pool: WorkerPool[A, R], options: TaskOptions) -> None:
        unknown = set(options) - set(TaskOptions.__annotations__)
        if unknown:
            raise TypeError(f"unknown task options: {', '.join(sorted(unknown))}")
        self._pool = pool
        self._options = Options(pool._max_workers, **options) if options else None

    def add_task(self, arg: A) -> Task[R]:
        """``WorkerPool.add_task`` with the view's options."""
        return self._pool._add_task(arg, self._options)

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """``WorkerPool.submit`` with the view's options."""
        return self._pool._submit(fn, args, kwargs, self._options)

    @overload
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
        """``WorkerPool.map`` with the view's options for each chunk.

        A ``key`` that can be called is called with each item (or with the items, where there
        are several iterables) and gives that item's key: then each item is a task of its own
        whose cost is learned, and the longest known go first. Results keep their order.
        """
        return self._pool._map(
            fn, iterables, False, timeout, chunksize, buffersize, ordered, progress, self._options
        )
