"""The functions of docs/migrating.md, imported by every pool's workers.

SPDX-License-Identifier: BSD-3-Clause
"""

from typing import Any, NoReturn

initialized = 0


def square(x: int) -> int:
    return x * x


def add(x: int, y: int) -> int:
    return x + y


def total(array: Any) -> float:
    return float(array.sum())


def fail() -> NoReturn:
    raise ValueError("failed on purpose")


def initialize(value: int) -> None:
    global initialized
    initialized = value


def initial_value() -> int:
    return initialized


def place() -> Any:
    from workpool import current_client

    return current_client().worker_id
