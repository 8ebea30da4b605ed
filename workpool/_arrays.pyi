"""Values with arrays to payloads and back; imported once NumPy is there.

SPDX-License-Identifier: BSD-3-Clause
"""

from collections.abc import Callable, Sequence
from typing import Any

from workpool._core import Delivery, Loan, Seat

class Parcel:
    """A packed value."""

    @property
    def stream(self) -> bytes | None: ...
    @property
    def size(self) -> int: ...
    @property
    def held(self) -> list[Loan]: ...
    @property
    def handed(self) -> list[Loan]: ...
    def write(self, address: int, identity: int) -> None: ...

def install(
    loan: type[Loan],
    dumps: Callable[[Any, Callable[[Any], None] | None], bytes],
    loads: Callable[[Any, Sequence[Any]], Any],
) -> None:
    """Say what arrays of the arena end in, and who pickles."""

def is_raw(array: Any) -> bool:
    """Whether the bytes of an array are all that it is."""

def loan_of(array: Any) -> Loan | None:
    """The block that an array looks at; None: it is not in the arena."""

def pack(value: Any, seat: Seat, argument: int, is_result: bool) -> bytes | Parcel:
    """The payload of ``value``."""

def unpack(delivery: Delivery, address: int, size: int) -> Any:
    """The value whose payload is at ``address``; its arrays look at blocks that ``delivery`` lends."""

def view(loan: Loan, descr: Any, shape: Sequence[int], offset: int) -> Any:
    """A C-ordered array of the bytes of a block, from ``offset`` on."""
