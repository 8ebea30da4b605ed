"""One pool for the whole program: whoever needs some parallelism shares it.

It is made when it is first asked for. The interpreter ends it, as it ends every pool.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from workpool import client
from workpool.inner import InnerPool
from workpool.pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from workpool.options import MapOptions
    from workpool.results import Results

T = TypeVar("T")
A1 = TypeVar("A1")
A2 = TypeVar("A2")
A3 = TypeVar("A3")

_pool: WorkerPool[Any, Any] | None = None
_making = threading.Lock()
os.register_at_fork(after_in_child=_making._at_fork_reinit)  # type: ignore[attr-defined]


def get_pool(max_workers: int | None = None) -> WorkerPool[Any, Any]:
    """The program's pool, the same for everybody who asks.

    One that was shut down, that broke, or that belongs to the parent of a fork is made anew. Inside
    a worker it stands for the pool that the worker is of.

    Args:
        max_workers: How many workers it shall have. If it has another number, a pool of that size
            takes its place; the former goes on for those who still hold it, and ends after its
            tasks once nobody does. None takes the pool as it is, or makes one for the CPUs that
            this process may use.

    Raises:
        ValueError: ``max_workers`` is not positive, or more than a pool can have.
    """
    global _pool
    with _making:
        pool = _pool
        if pool is None or not _serves(pool, max_workers):
            pool = _pool = WorkerPool(max_workers=max_workers)
        return pool


def _serves(pool: WorkerPool[Any, Any], max_workers: int | None) -> bool:
    inside = client._current is not None
    if pool._closed or isinstance(pool, InnerPool) is not inside:
        return False
    if inside:  # its size is the outer pool's business
        return max_workers is None or max_workers > 0
    fits = max_workers is None or max_workers == pool._max_workers
    return fits and pool._supervisor.broken is None and not pool._seat.is_forked


@overload
def map(
    fn: Callable[[A1], Coroutine[Any, Any, T]], a: Iterable[A1], /, **options: Unpack[MapOptions]
) -> Results[T]: ...
@overload
def map(fn: Callable[[A1], T], a: Iterable[A1], /, **options: Unpack[MapOptions]) -> Results[T]: ...
@overload
def map(
    fn: Callable[[A1, A2], T], a: Iterable[A1], b: Iterable[A2], /, **options: Unpack[MapOptions]
) -> Results[T]: ...
@overload
def map(
    fn: Callable[[A1, A2, A3], T], a: Iterable[A1], b: Iterable[A2], c: Iterable[A3], /,
    **options: Unpack[MapOptions],
) -> Results[T]: ...  # fmt: skip
@overload
def map(
    fn: Callable[..., T], a: Iterable[Any], b: Iterable[Any], c: Iterable[Any], d: Iterable[Any], /,
    *more: Iterable[Any], **options: Unpack[MapOptions],
) -> Results[T]: ...  # fmt: skip


def map(fn: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> Results[Any]:
    """``get_pool().map(...)``."""
    return get_pool().map(fn, *iterables, **options)
