"""Arrays in shared memory: pickling around them, and those that users make.

Imported once NumPy is: a process without it never comes here.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import copyreg
import io
import math
import pickle
from collections import ChainMap

import numpy as np

from workpool import _arrays, payload
from workpool._core import Loan, Seat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import DTypeLike, NDArray

# Before the data of a block that was made for one array: its identity, a cache line.
_HEAD_BYTES = 64


def _itself(array: Any) -> Any:
    """What an array is rebuilt from: pickle hands over the buffers it is given as they are."""
    return array


class _Arrays:
    """How pickle reduces a plain array: to a mark, which stands for it in the order of the buffers."""

    def __init__(self, take: Callable[[Any], None]) -> None:
        self._take = take
        self._marked: tuple[pickle.PickleBuffer, NDArray[Any]] | None = None

    def reduce(self, array: NDArray[Any]) -> Any:
        if not _arrays.is_raw(array):
            return array.__reduce_ex__(5)
        mark = pickle.PickleBuffer(bytearray())
        self._marked = mark, array
        return _itself, (mark,)

    def take(self, buffer: pickle.PickleBuffer) -> None:
        """A buffer that pickle would have others carry."""
        marked, self._marked = self._marked, None
        if marked is not None and buffer is marked[0]:
            self._take(marked[1])
        else:
            self._take(buffer)


def dumps(
    value: Any, take: Callable[[Any], None] | None, kinds: tuple[type[NDArray[Any]], ...] = (np.ndarray,)
) -> bytes:
    """Pickle ``value`` without its arrays and buffers, which ``take`` is given; without ``take`` with all.

    Args:
        value: Anything.
        take: Called with each array or buffer, in their order.
        kinds: Which classes of arrays are taken; others are pickled as they would be.
    """
    if take is None:
        return payload.dumps(value)
    found: list[Any] = []

    def write(kind: Any) -> bytes:
        found.clear()
        arrays = _Arrays(found.append)
        out = io.BytesIO()
        pickler = kind.__new__(kind)
        others = getattr(kind, "dispatch_table", copyreg.dispatch_table)
        table = ChainMap(dict.fromkeys(kinds, arrays.reduce), others)
        if kind is pickle.Pickler:  # forgets at its beginning what it was told before
            pickler.__init__(out, protocol=5, buffer_callback=arrays.take)
            pickler.dispatch_table = table
        else:  # looks at its beginning alone
            pickler.dispatch_table = table
            pickler.__init__(out, protocol=5, buffer_callback=arrays.take)
        pickler.dump(value)
        return out.getvalue()

    data = payload.pickled_by(write)
    for source in found:
        take(source)
    return data


def _loads(data: Any, buffers: Sequence[Any]) -> Any:
    return pickle.loads(data, buffers=buffers)


_arrays.install(Loan, dumps, _loads)
pack, unpack, loan_of = _arrays.pack, _arrays.unpack, _arrays.loan_of


def is_shared(part: Any) -> bool:
    """Whether something ``dumps`` found is an array in shared memory, which is sent by reference."""
    loan = loan_of(part) if isinstance(part, np.ndarray) else None
    return loan is not None and loan.shared


def empty(seat: Seat, shape: int | Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """An array in shared memory, its contents as they are.

    Raises:
        TypeError: Its items are Python objects.
        ArenaFull: There is no room.
    """
    descr = np.dtype(dtype)
    dims = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    dims = tuple(int(n) for n in dims)
    if any(n < 0 for n in dims):
        raise ValueError("negative dimensions are not allowed")
    if descr.hasobject or not _arrays.is_raw(np.empty(0, descr)):
        raise TypeError(f"an array of {descr} cannot be shared: its items live in one process")
    if descr.itemsize == 0:
        descr = np.empty(0, descr).dtype if descr.kind == "V" else np.dtype(f"{descr.kind}1")
    loan = seat.make_shared(math.prod(dims) * descr.itemsize)
    array: NDArray[Any] = _arrays.view(loan, descr, dims, _HEAD_BYTES)
    return array


def zeros(seat: Seat, shape: int | Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """``empty``, and every item zero."""
    array = empty(seat, shape, dtype)
    # By bytes: a zero of any type is that, and no type's own filling is needed.
    array.reshape(-1).view(np.uint8)[...] = 0
    return array


def full(seat: Seat, shape: int | Sequence[int], value: Any, dtype: DTypeLike | None) -> NDArray[Any]:
    """``empty``, and every item ``value``."""
    array = empty(seat, shape, np.asarray(value).dtype if dtype is None else dtype)
    array[...] = value
    return array


def array_of(seat: Seat, source: Any, dtype: DTypeLike | None) -> NDArray[Any]:
    """A copy of ``source`` in shared memory; Fortran order stays.

    Raises:
        TypeError, ArenaFull: As ``empty``.
    """
    source = np.asarray(source, dtype)
    turned = source.ndim > 1 and source.flags.f_contiguous and not source.flags.c_contiguous
    array = empty(seat, source.shape[::-1] if turned else source.shape, source.dtype)
    array = array.T if turned else array
    array[...] = source
    return array
