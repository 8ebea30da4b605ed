"""What a worker does with a chunk of a map's items.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

from itertools import islice, starmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    R = TypeVar("R")

# With arrays, so much takes longer to write than to hand over.
CHUNK_BYTES = 1 << 20

# How many results come between two looks at their size, once some were no arrays.
_LOOK_EVERY = 64

# Of text and bytes: from that on each is looked at.
_LARGE_BYTES = 1 << 14

# A group of more parts is not looked into.
_MOST_PARTS = 16


def bytes_of(item: Any) -> int:
    """What the arrays and bytes of an item, or of a small group of such, take; 0 without any."""
    kind = type(item)
    if kind is tuple or ((kind is list or kind is dict) and len(item) <= _MOST_PARTS):
        return sum(map(_size_of, item.values() if kind is dict else item))
    return _size_of(item)


def _size_of(part: Any) -> int:
    size = len(part) if type(part) in (bytes, bytearray, str) else getattr(part, "nbytes", 0)
    return size if isinstance(size, int) else 0


def fill(results: list[Any], coming: Iterator[Any]) -> None:
    """Take a chunk's results as they come, until they take ``CHUNK_BYTES`` or none is left.

    Fewer results than items tell the map that the other items have not been begun.
    """
    total, step = 0, 1
    while True:
        before = len(results)
        results.extend(islice(coming, step))
        came = len(results) - before
        if came < step:
            return
        last = results[-1]
        size = bytes_of(last)
        total += size * came
        if total > CHUNK_BYTES:
            return
        step = 1 if size and _may_grow(last, size) else min(2 * step, _LOOK_EVERY)


def _may_grow(result: Any, size: int) -> bool:
    """Whether the next may be large when this one is not: a scalar of NumPy tells its size too."""
    return size >= _LARGE_BYTES or (hasattr(result, "__len__") and not isinstance(result, (str, bytes)))


def apply_chunk(fn: Callable[..., R], chunk: Iterable[Any], star: bool) -> list[R]:
    """The work of a chunk whose function travels with it."""
    results: list[R] = []
    fill(results, starmap(fn, chunk) if star else map(fn, chunk))
    return results
