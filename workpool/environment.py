"""Environment variables that stand for options of ``WorkerPool`` that are not given.

docs/control.md lists them. WORKPOOL_MAX_WORKERS is read in cpus.py.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import math
import os


def choice(name: str, choices: tuple[str, ...]) -> str | None:
    """The variable's value, one of ``choices``; None if it is not set, or empty.

    Raises:
        ValueError: It is none of them.
    """
    value = os.environ.get(name)
    if not value:
        return None
    if value not in choices:
        listed = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"
        raise ValueError(f"the environment variable {name} must be {listed}, not {value!r}")
    return value


def seconds(name: str) -> float | None:
    """The variable's value in seconds; None if it is not set, or empty.

    Raises:
        ValueError: It is no finite number, or negative.
    """
    value = os.environ.get(name)
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0.0 <= number < math.inf:
        raise ValueError(
            f"the environment variable {name} must be a number of seconds, at least 0, not {value!r}"
        )
    return number


_UNITS = {"": 0, "K": 10, "M": 20, "G": 30}


def size(name: str) -> int | None:
    """The variable's value in bytes, as ``500M``; None if it is not set, or empty.

    Raises:
        ValueError: It is no positive whole number with K, M, G or nothing behind it.
    """
    value = os.environ.get(name)
    if not value:
        return None
    digits = value.rstrip("KMG")
    unit = value[len(digits) :]
    if not digits.isdecimal() or int(digits) == 0 or unit not in _UNITS:
        raise ValueError(
            f"the environment variable {name} must be a number of bytes, as 200000000 or 200M, not {value!r}"
        )
    return int(digits) << _UNITS[unit]
