"""The pool's side of ranges: ``map_blocks``, ``reduce`` and ``parallel_for``.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from workpool import _arrays, arrays
from workpool.ranges import Blocks, Indices, Reduction, run_rows, run_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from workpool.pool import WorkerPool

# Leaves of a tree that does not know what they cost: enough that 64 workers differ by a
# few of a hundred, and few enough that each is worth a call.
_MOST_LEAVES = 512
_LEAF_BYTES = 1 << 16


class PoolBlocks:
    """Ranges of one pool that is open."""

    def __init__(self, pool: WorkerPool[Any, Any]) -> None:
        self._pool = pool

    def map(
        self, fn: Callable[..., Any], sources: Sequence[Any], out: NDArray[Any] | None, axis: int,
        grain: int | None, seed: Any,
    ) -> NDArray[Any] | None:  # fmt: skip
        """``WorkerPool.map_blocks``."""
        blocks = self._blocks(fn, sources, axis, grain, seed)
        if seed is not None:
            blocks.leaf = self._leaf(blocks, grain)
        target = out
        if out is not None:
            if not isinstance(out, np.ndarray):
                raise TypeError(f"out must be an array, not {type(out).__name__}")
            if out.ndim <= axis or out.shape[axis] != blocks.rows:
                raise ValueError(f"out of shape {out.shape} has not {blocks.rows} rows along axis {axis}")
            if not self._is_shared(out):
                target = arrays.array_of(self._pool._seat, out, None)
            blocks.out = target
            self._run(run_rows, blocks, 0, blocks.rows, blocks.rows)
        else:
            target = self._map_into_new(blocks)
        if out is not None and target is not out:
            assert target is not None
            out[...] = target
            return out
        return target

    def _map_into_new(self, blocks: Blocks) -> NDArray[Any] | None:
        """Learn from a first block what the results are, then do the rest."""
        first = min(blocks.leaf or blocks.grain, blocks.rows)
        result = self._run(_call, blocks, 0, first, blocks.rows)
        if result is not None:
            result = np.asarray(result)
            shape = list(result.shape)
            if result.ndim > blocks.axis:
                shape[blocks.axis] = blocks.rows
                blocks.out = arrays.empty(self._pool._seat, shape, result.dtype)
            blocks.put(0, first, result)
        if first < blocks.rows:
            self._run(run_rows, blocks, first, blocks.rows, blocks.rows)
        return blocks.out  # type: ignore[no-any-return]

    def reduce(
        self, fn: Callable[..., Any], sources: Sequence[Any], combine: Callable[[Any, Any], Any] | None,
        axis: int, grain: int | None, seed: Any,
    ) -> Any:  # fmt: skip
        """``WorkerPool.reduce``."""
        blocks = self._blocks(fn, sources, axis, grain, seed)
        if blocks.rows == 0:
            raise ValueError("reduce() of no rows has no value")
        blocks.leaf = self._leaf(blocks, grain)
        plan = Reduction(blocks, operator.add if combine is None else combine)
        leaves = -(-blocks.rows // blocks.leaf)
        return self._run(run_tree, plan, 0, leaves, leaves)

    def loop(
        self, kernel: Callable[..., Any], n: int, args: tuple[Any, ...], grain: int | None, seed: Any
    ) -> None:
        """``WorkerPool.parallel_for``."""
        n = operator.index(n)
        if n > 0:
            self._run(run_rows, Indices(kernel, args, _grain(grain), seed), 0, n, n)

    def _run(self, fn: Callable[..., Any], plan: Any, low: int, high: int, items: int) -> Any:
        pool = self._pool
        pool._sizing.grow_for(
            items
        )  # one task at first: the rule of tasks_per_worker would launch one worker
        task = pool.submit(fn, plan, low, high)
        try:
            return task.result()
        except BaseException:
            task.cancel()  # an interrupt: it may not have begun
            raise

    def _blocks(
        self, fn: Callable[..., Any], sources: Sequence[Any], axis: int, grain: int | None, seed: Any
    ) -> Blocks:
        if not callable(fn):
            raise TypeError(f"the first argument must be a function, not {type(fn).__name__}")
        if not sources:
            raise TypeError("at least one array is needed")
        axis = operator.index(axis)
        ready = [source if isinstance(source, range) else self._shared(source) for source in sources]
        lengths = set()
        for source in ready:
            dimensions = 1 if isinstance(source, range) else source.ndim
            if not 0 <= axis < dimensions:
                raise ValueError(f"axis {axis} is not one of the {dimensions} of an array")
            lengths.add(len(source) if isinstance(source, range) else source.shape[axis])
        if len(lengths) != 1:
            raise ValueError(f"the arrays have different lengths along axis {axis}: {sorted(lengths)}")
        return Blocks(fn, tuple(ready), None, axis, lengths.pop(), _grain(grain), 0, seed)

    def _shared(self, source: Any) -> NDArray[Any]:
        source = np.asanyarray(source)
        return source if self._is_shared(source) else arrays.array_of(self._pool._seat, source, None)

    def _is_shared(self, array: NDArray[Any]) -> bool:
        loan = _arrays.loan_of(array) if type(array) is np.ndarray else None
        return loan is not None and loan.shared  # of another pool: packing it says so

    def _leaf(self, blocks: Blocks, grain: int | None) -> int:
        """Rows of a leaf: by the grain, or by what is in them; never by time, so it is the same again."""
        if grain is not None:
            return _grain(grain)
        row_bytes = sum(
            source.nbytes // max(1, blocks.rows) for source in blocks.sources if not isinstance(source, range)
        )
        by_bytes = _LEAF_BYTES // max(1, row_bytes) if row_bytes else 1
        return max(1, -(-blocks.rows // _MOST_LEAVES), min(by_bytes, blocks.rows))


def _call(blocks: Blocks, low: int, high: int) -> Any:
    return blocks.call(low, high)


def _grain(grain: int | None) -> int:
    if grain is None:
        return 1
    grain = operator.index(grain)
    if grain < 1:
        raise ValueError(f"grain must be at least 1, not {grain}")
    return grain
