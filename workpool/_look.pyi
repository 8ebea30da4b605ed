"""Somebody else's pool, for looking at: types of ``_look.pyx``.

SPDX-License-Identifier: BSD-3-Clause
"""

from typing import Final

from typing_extensions import Buffer

from workpool.errors import WorkpoolError

STOP_NO: Final[int]
ALIEN: Final[int]
OTHER_RELEASE: Final[int]

class NotAPool(WorkpoolError):
    """The memory is no control segment that this release understands."""

    check: int
    def __init__(self, check: int) -> None: ...

class Look:
    """A control segment, looked at from outside."""

    def __new__(cls, control: Buffer) -> Look: ...
    @property
    def seats(self) -> int: ...
    def look(self) -> tuple[tuple[int, int, bool, bool, bool, int, int, int, int, int], ...]: ...
    def statistics(self, seat: int) -> tuple[int, ...]: ...
    def phases(self) -> tuple[int, ...]: ...
    def usage(self) -> tuple[tuple[int, int, int, int], tuple[tuple[int, int, int], ...]]: ...

def now_ns() -> int: ...
