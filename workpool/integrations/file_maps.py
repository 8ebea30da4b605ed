"""Arrays in files: a memory map is opened again where it is needed, and never copied.

Source: ``numpy.memmap``; joblib hands its workers memory maps in the same way.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FileMap(NamedTuple):
    """Where in which file an array is.

    Attributes:
        filename: The file, by its absolute path.
        mode: ``"r"``, or ``"r+"`` for one that is written into the file.
        offset, nbytes: The part of the file that is mapped.
        first: Where in it item 0 is, in bytes; not 0 where a stride is negative.
        dtype, shape, strides: The array's.
    """

    filename: str
    mode: str
    offset: int
    nbytes: int
    first: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def open(self) -> NDArray[Any]:
        """The array, in a map of its own.

        Raises:
            OSError: The file cannot be opened any more.
        """
        part = np.memmap(self.filename, np.uint8, self.mode, self.offset, self.nbytes)  # type: ignore[call-overload]
        return np.ndarray(self.shape, self.dtype, part, self.first, self.strides)


def find(array: NDArray[Any]) -> FileMap | None:
    """The file of a memory map, or of a view of one.

    None where the array is in no file, where the file has another name by now or none, and where
    what was written stays in this process (mode ``"c"``).
    """
    root: Any = array
    while isinstance(root, np.ndarray) and not isinstance(root.base, mmap.mmap):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None or root.mode == "c" or array.size == 0:
        return None
    file = Path(root.filename)
    # From item 0 to the lowest byte and behind the highest.
    reaches = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    first = -sum(min(reach, 0) for reach in reaches)
    nbytes = first + sum(max(reach, 0) for reach in reaches) + array.itemsize
    offset = root.offset + _address(array) - first - _address(root)
    try:
        if file.stat().st_size < offset + nbytes:
            return None
    except OSError:
        return None
    mode = "r+" if array.flags.writeable else "r"
    return FileMap(str(file.absolute()), mode, offset, nbytes, first, array.dtype, array.shape, array.strides)


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
