"""The worker's side of ranges: they are split only when somebody would take a part.

A range is one task. Between two blocks it looks whether a worker is idle, searches, or
waits inside a task; then it gives the larger half of what is left to a task of its own
(lazy binary splitting). So there is no chunk size to choose: alone, a worker does all in
one task; two workers share in as many steps as their speeds ask for.

Source: Tzannes, Caragea, Barua, Vishkin, "Lazy Binary-Splitting", PPoPP 2010; hunger is
seen in the idle bits of the others, and not in the own deque alone.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import time

import numpy as np

from workpool.client import current_client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from workpool.task import Task

# A block takes about so long: 100 times what a look and a call cost, and no worker that
# comes free waits longer for its part.
_BLOCK_SECONDS = 0.0005


class Blocks:
    """What a block of rows is, and what is done with it.

    Attributes:
        fn: Called with a block of each source, and ``rng=`` if there is a seed.
        sources: Arrays, or ranges, cut along ``axis``.
        out: Where results go; None: nowhere.
        rows: How many there are; grain: the least of a block.
        leaf: Rows of each block where their number is fixed; 0: it follows their cost.
        seed: Of the streams of random numbers, one for each leaf.
    """

    def __init__(
        self, fn: Callable[..., Any], sources: tuple[Any, ...], out: Any, axis: int, rows: int, grain: int,
        leaf: int, seed: Any,
    ) -> None:  # fmt: skip
        self.fn = fn
        self.sources = sources
        self.out = out
        self.axis = axis
        self.rows = rows
        self.grain = grain
        self.leaf = leaf
        self.seed = seed

    def part(self, source: Any, low: int, high: int) -> Any:
        """Rows of a source."""
        if self.axis == 0:
            return source[low:high]
        return source[(slice(None),) * self.axis + (slice(low, high),)]

    def call(self, low: int, high: int) -> Any:
        """What ``fn`` says of a block."""
        parts = [self.part(source, low, high) for source in self.sources]
        if self.seed is None:
            return self.fn(*parts)
        return self.fn(*parts, rng=stream(self.seed, low // self.leaf))

    def run(self, low: int, high: int) -> None:
        """Do a block, and put its result where it belongs."""
        result = self.call(low, high)
        if result is not None and self.out is not None:
            self.put(low, high, result)

    def put(self, low: int, high: int, result: Any) -> None:
        """Write a block's result.

        Raises:
            ValueError: It has another number of rows than the block.
        """
        result = np.asarray(result)
        if result.ndim <= self.axis or result.shape[self.axis] != high - low:
            raise ValueError(
                f"a block of {high - low} rows gave a result of shape {result.shape}: the same number was "
                f"expected along axis {self.axis}"
            )
        self.part(self.out, low, high)[...] = result


class Indices:
    """A kernel that is called with each index of a range."""

    def __init__(self, kernel: Callable[..., Any], args: tuple[Any, ...], grain: int, seed: Any) -> None:
        self.kernel = kernel
        self.args = args
        self.grain = grain
        self.leaf = 0
        self.seed = seed

    def run(self, low: int, high: int) -> None:
        """Call the kernel with each index."""
        kernel, args = self.kernel, self.args
        if self.seed is None:
            for i in range(low, high):
                kernel(i, *args)
        else:
            for i in range(low, high):
                kernel(i, *args, rng=stream(self.seed, i))


def stream(seed: Any, number: int) -> np.random.Generator:
    """The generator of one leaf or index: that of ``SeedSequence(seed).spawn(number + 1)[number]``."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))


class _Children:
    """Tasks that took parts of this one."""

    def __init__(self) -> None:
        self._client = current_client()
        self._seat = self._client._seat
        self._tasks: list[Task[Any]] = []

    def is_wanted(self) -> bool:
        return self._seat.is_help_wanted()

    def give(self, fn: Callable[..., Any], *args: Any) -> Task[Any]:
        task = self._client.submit(fn, *args)
        self._tasks.append(task)
        self._seat.call_for_help()
        return task

    def end(self) -> None:
        """Wait for all, the newest first: it is the likeliest to be run in place.

        Raises:
            Exception: What the first of them raised, once none runs any more.
        """
        error: BaseException | None = None
        while self._tasks:
            task = self._tasks.pop()
            if error is not None and task.cancel():
                continue
            error = task.exception() or error
        if error is not None:
            raise error

    def abandon(self) -> None:
        """After an error here: cancel what nobody has begun, and wait for the rest, as it writes still."""
        while self._tasks:
            task = self._tasks.pop()
            if not task.cancel():
                task.exception()


def run_rows(plan: Blocks | Indices, low: int, high: int) -> None:
    """Do a range of rows or indices, or give parts of it away."""
    children = _Children()
    grain = plan.leaf or plan.grain
    step = grain
    try:
        while low < high:
            if high - low > 2 * step and children.is_wanted():
                # On a multiple of the grain, so that leaves stay whole.
                middle = low + -(-(high - low) // (2 * grain)) * grain
                if middle < high:
                    children.give(run_rows, plan, middle, high)
                    high = middle
            end = min(low + step, high)
            begun = time.perf_counter()
            plan.run(low, end)
            if not plan.leaf:
                step = _next_step(step, grain, time.perf_counter() - begun)
            low = end
    except BaseException:
        children.abandon()
        raise
    children.end()


def _next_step(step: int, grain: int, took_seconds: float) -> int:
    if took_seconds < _BLOCK_SECONDS / 2:
        return 2 * step
    if took_seconds > 2 * _BLOCK_SECONDS:
        return max(grain, step // 2)
    return step


class Reduction:
    """Blocks and how two results become one.

    The tree is fixed by the number of leaves alone, so that the order of combining, and
    every bit of the result, does not depend on who did what.
    """

    def __init__(self, blocks: Blocks, combine: Callable[[Any, Any], Any]) -> None:
        self.blocks = blocks
        self.combine = combine

    def leaf(self, number: int) -> Any:
        """The result of one leaf."""
        low = number * self.blocks.leaf
        return self.blocks.call(low, min(low + self.blocks.leaf, self.blocks.rows))


class _Node:
    """A part of the tree whose left half is being done, or is done."""

    __slots__ = ("end", "is_left", "left", "middle", "right")

    def __init__(self, middle: int, end: int) -> None:
        self.middle = middle
        self.end = end
        self.is_left = True
        self.left: Any = None
        self.right: Task[Any] | None = None  # who was given the right half


def run_tree(plan: Reduction, first: int, end: int) -> Any:
    """Reduce the leaves of a subtree; the highest right half that nobody has begun may be given away."""
    children = _Children()
    nodes: list[_Node] = []
    value: Any = None
    try:
        while True:
            while end - first > 1:
                middle = first + (end - first) // 2
                nodes.append(_Node(middle, end))
                end = middle
            if nodes and children.is_wanted():
                for node in nodes:
                    if node.is_left and node.right is None:
                        node.right = children.give(run_tree, plan, node.middle, node.end)
                        break
            value = plan.leaf(first)
            while nodes:
                node = nodes[-1]
                if node.is_left and node.right is None:
                    node.is_left, node.left = False, value
                    first, end = node.middle, node.end
                    break
                if node.is_left:
                    assert node.right is not None
                    node.left, value = value, node.right.result()
                nodes.pop()
                value = plan.combine(node.left, value)
            else:
                return value
    except BaseException:
        children.abandon()
        raise
