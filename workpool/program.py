"""One pool for the whole program: whoever needs some parallelism shares it.

It is made when it is first asked for. The interpreter ends it, as it ends every pool.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from workpool import client
from workpool.inner import InnerPool
from workpool.pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from workpool.options import MapOptions

T = TypeVar("T")

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


def map(fn: Callable[..., T], *iterables: Iterable[Any], **options: Unpack[MapOptions]) -> Iterator[T]:  # noqa: A001
    """``get_pool().map(...)``."""
    return get_pool().map(fn, *iterables, **options)
