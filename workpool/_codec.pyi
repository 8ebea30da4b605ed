"""Values to bytes and back: small plain values without pickle.

SPDX-License-Identifier: BSD-3-Clause
"""

from collections.abc import Callable
from typing import Any

def install(dumps: Callable[[Any], bytes], loads: Callable[[Any], Any]) -> None:
    """Say who pickles: ``dumps(value) -> bytes`` and ``loads(buffer) -> value``."""

def dumps(value: Any) -> bytes:
    """The payload of ``value`` as bytes, compact where it can be."""

def loads(data: bytes | bytearray | memoryview) -> Any:
    """The value whose payload is in ``data``.

    Raises:
        ValueError: It is no payload.
    """
