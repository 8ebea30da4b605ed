"""A bar for a map: how many of its results were taken.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

T = TypeVar("T")


class Bar:
    """What ``map(progress=...)`` asks for; it shows on standard error once results are taken.

    Args:
        progress: True, for a bar that suits the place, or ``"text"`` for one of plain characters.
        items: Of the map: their number is the total, if they know it.

    Raises:
        ValueError: ``progress`` is neither.
        ModuleNotFoundError: tqdm is not installed.
    """

    def __init__(self, progress: bool | str, items: Any) -> None:
        if progress is not True and progress != "text":
            raise ValueError(f"progress must be True, False or 'text', not {progress!r}")
        try:
            if progress is True:
                from tqdm.auto import tqdm
            else:
                from tqdm import tqdm
        except ModuleNotFoundError as error:
            if error.name != "tqdm":
                raise
            wanted = "map(progress=...) needs tqdm: python -m pip install tqdm"
            raise ModuleNotFoundError(wanted, name="tqdm") from None
        self._make: Any = tqdm
        self._ascii = progress == "text"
        self._total = len(items) if hasattr(items, "__len__") else None

    def over(self, results: Iterator[T]) -> Generator[T, None, None]:
        """The same results, each of which moves the bar."""
        with self._make(total=self._total, ascii=self._ascii) as shown:
            for result in results:
                shown.update()
                yield result
