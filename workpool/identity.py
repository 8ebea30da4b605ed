"""What belongs to an object: found by the object itself, and gone with it.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def stays_here(what: str, instead: str) -> NoReturn:
    """Refuse to pickle or copy what belongs to one process.

    Raises:
        TypeError: Always.
    """
    raise TypeError(f"{what} can be neither pickled nor copied: {instead}")


class ByIdentity:
    """A value for each object, whatever it equals and whether it can be hashed, as long as it lives."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def get(self, owner: object) -> Any:
        """The value of this very object; None if it has none."""
        known = self._known.get(id(owner))
        return known[1] if known is not None and known[0]() is owner else None

    def put(self, owner: object, value: Any) -> None:
        """Give the object a value.

        Raises:
            TypeError: It cannot be referred to weakly.
        """
        key = id(owner)
        self._known[key] = weakref.ref(owner, lambda _: self._known.pop(key, None)), value
