"""``map`` of a pool: which chunks are offered, with what options, in what order.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from workpool import _core
from workpool.errors import ForkedPool, PoolClosed
from workpool.mapping import Chunks, LongestFirst, Mapping, apply_chunk
from workpool.options import MAIN, PLAIN, Options
from workpool.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workpool._core import Block
    from workpool.pool import WorkerPool

T = TypeVar("T")


class PoolMap(Generic[T]):
    """One map of a pool that is open.

    Args:
        pool: Whose workers run it.
        fn: Called with each item, or with ``star`` with each tuple of items.
        star: Whether items are tuples of arguments.
        options: Of every chunk; a key that can be called gives each item's key.
    """

    def __init__(
        self, pool: WorkerPool[Any, Any], fn: Callable[..., T], star: bool, options: Options | None
    ) -> None:
        self._pool = pool
        self._fn = fn
        self._star = star
        self._call = _core.CALL_STARCHUNK if star else _core.CALL_CHUNK
        self._known = pool._placement.knows_items(options)
        self._keyed = options is not None and callable(options.key)
        if options is not None and options.key is not None and not self._keyed:
            options = options.of_chunk(options.key, options.cost, False)  # a chunk is no measure
        self._options = options
        self._passing: Block | None = None

    def start(
        self, items: Iterable[Any], chunksize: int | None, buffersize: int | None
    ) -> Mapping[T] | LongestFirst[T]:
        """Offer the first chunks; without ``buffersize`` all items are read now."""
        pool, options = self._pool, self._options
        if options is not None and options.seat == MAIN:
            pool._runtime.local()
        if buffersize is None:
            items = list(items)
        timed = options is not None and options.timeout is not None
        if self._keyed or (chunksize is None and (timed or iscoroutinefunction(self._fn))):
            # So that each item's cost is learned, or its time limited; and coroutines overlap
            # as tasks, not inside one.
            chunksize = 1
        mapping: Mapping[T] | LongestFirst[T]
        if self._known and buffersize is None:
            every: list[Any] = list(items)
            costs = pool._placement.estimate_items(every, options or PLAIN, self._star)[1]
            mapping = LongestFirst(lambda some: self._offer([every[i] for i in some]), costs, chunksize)
        else:
            workers = pool._max_workers
            mapping = Mapping(
                self._offer,
                Chunks(items, chunksize, workers, pool._runtime.item_costs.of(self._fn)),
                window=buffersize or 2 * workers + 1,
                buffered=buffersize is not None,
            )
        pool._sizing.grow_for(len(items) if isinstance(items, list) else buffersize or 0)
        if buffersize is None and mapping.has_more:
            pool._gatherer.attend_in_thread()  # it goes on whether results are taken or not
        return mapping

    def _offer(self, chunk: list[Any]) -> Task[Any]:
        if not self._known:
            return self._submit(chunk, self._options)
        options = self._options or PLAIN
        keys, costs = self._pool._placement.estimate_items(chunk, options, self._star)
        cost = sum(cost or 0.0 for cost in costs)
        return self._submit(chunk, options.of_chunk(keys[0], cost or None, keys[0] is not None))

    def _submit(self, chunk: list[Any], options: Options | None) -> Task[Any]:
        pool = self._pool
        task: Task[Any] = Task(pool._seat)
        if options is not None and options.seat == MAIN:
            pool._placement.start_here(task, apply_chunk, (self._fn, chunk, self._star), {}, options)
            return task
        block = self._passing or pool._find(self._fn, task) or self._store(task)
        payload: Any
        if block is None:
            call, payload = _core.CALL_OBJECT, (apply_chunk, (self._fn, chunk, self._star), {})
        else:
            call, payload = self._call, chunk
        if pool._cancelled:
            pool._gatherer.settle(task, _core.OUTCOME_CANCELLED, None)
        pool._start_accepted(task, block, call, payload, options)
        return task

    def _store(self, task: Task[Any]) -> Block | None:
        """The block of a function that carries state: for this map alone, and pickled once."""
        if task.outcome_code == 0:
            try:
                self._passing = self._pool._runtime.functions.store_passing(self._fn)
            except (PoolClosed, ForkedPool):
                raise
            except Exception:
                return None  # it has no room there, or cannot be pickled: its task says so
        return self._passing
