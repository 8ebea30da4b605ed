"""Arguments that come again and again: a large array goes into shared memory once.

One that is in a file stays there. For callers who promise that an array does not change between
the tasks that get it.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import pickle
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from workpool import arrays
from workpool.errors import ArenaFull
from workpool.integrations import file_maps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workpool.pool import WorkerPool

# A worker can look at 256 blocks at once, and a shared array beyond them is an error. The
# others of its arrays are then copied as ever.
_MOST_SHARED = 128


class Sharing:
    """The large arrays that the tasks of one call have in common.

    Args:
        pool: Whose workers get them.
        least_bytes: Smaller arrays travel with each task; all do with None.
        writable: Whether a task may write into them, for all others to see.
    """

    def __init__(self, pool: WorkerPool[Any, Any], least_bytes: int | None, writable: bool) -> None:
        self.pool = pool
        self._least_bytes = least_bytes
        self._writable = writable
        # By where the data lie: views of the same memory may be made anew for each task.
        self._shared: dict[tuple[Any, ...], tuple[weakref.ref[Any], NDArray[Any]]] = {}

    def pack(self, value: object) -> tuple[bytes, list[Any]]:
        """What ``unpack`` makes ``value`` of in a worker; the second part's arrays travel by themselves."""
        found: list[Any] = []
        data = arrays.dumps(value, found.append, (np.ndarray, np.memmap))
        return data, [self._part(part) for part in found]

    def _part(self, part: Any) -> Any:
        if not isinstance(part, np.ndarray):
            return part
        in_file = file_maps.find(part)
        if in_file is not None:
            return in_file
        loan = arrays.loan_of(part)
        if loan is not None and loan.shared:
            if loan.seat is self.pool._seat:
                return part
        elif self._least_bytes is None or part.nbytes < self._least_bytes:
            return part
        owner = _owner(part)
        key = part.__array_interface__["data"][0], part.shape, part.strides, part.dtype
        known = self._shared.get(key)
        if known is not None and known[0]() is owner:
            return known[1]
        if len(self._shared) >= _MOST_SHARED:
            return part
        try:
            shared = self.pool.array(part)
        except ArenaFull:
            return part  # the task waits for room, or says that there never will be
        if not self._writable:
            shared.setflags(write=False)
        # The block goes with the array, and with the last task that has it.
        self._shared[key] = weakref.ref(owner, lambda _: self._shared.pop(key, None)), shared
        return shared


def unpack(data: bytes, parts: Sequence[Any]) -> Any:
    """The value of ``Sharing.pack``."""
    buffers = [part.open() if isinstance(part, file_maps.FileMap) else part for part in parts]
    return pickle.loads(data, buffers=buffers)


def _owner(array: NDArray[Any]) -> NDArray[Any]:
    """The array whose life is that of the memory, as far as arrays go."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
