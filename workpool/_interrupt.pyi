"""Functions of this process that can be interrupted: types of ``_interrupt.pyx``.

SPDX-License-Identifier: BSD-3-Clause
"""

from collections.abc import Callable
from typing import Any, Final

RUNNING: Final[dict[int, Interruptible]]

class Interruptible:
    """A function that is to be run in some thread of this process."""

    @property
    def asked(self) -> int: ...
    @property
    def address(self) -> int: ...
    def ask(self, flags: int) -> bool: ...
    def end(self) -> int: ...
    def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...
    def interrupt(self) -> bool: ...

class Shield:
    """``with SHIELD``: what this thread does for others, below a function that may be interrupted."""

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...
    def check(self) -> None: ...

SHIELD: Final[Shield]
