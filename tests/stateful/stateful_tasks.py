"""What the state machine runs in workers.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import time
from pathlib import Path
from typing import NoReturn

from workpool import current_client


class OwnError(Exception):
    """An exception of the user's."""


def sign(trace: str, number: int) -> int:
    """Leave a line, in one step, as the first thing a task does."""
    fd = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
    os.write(fd, b"%d\n" % number)
    os.close(fd)
    return number


def fail(trace: str, number: int) -> NoReturn:
    sign(trace, number)
    raise OwnError(number)


def fall(trace: str, number: int) -> NoReturn:
    sign(trace, number)
    os._exit(7)


def hold(trace: str, number: int, gate: str) -> int:
    """Stay until the gate is there."""
    sign(trace, number)
    while not Path(gate).exists():
        time.sleep(0.001)
    return number


def family(trace: str, number: int, depth: int) -> int:
    """The sum of the numbers of a chain of tasks, each two below the last."""
    sign(trace, number)
    if depth == 0:
        return number
    client = current_client()
    below = client.submit(family, trace, number + 2, depth - 1)
    beside = client.submit(sign, trace, number + 1)
    return number + int(below.result()) + int(beside.result())


def leave(trace: str, number: int, children: int) -> int:
    """Submit children that nobody waits for."""
    sign(trace, number)
    for child in range(number + 1, number + 1 + children):
        current_client().submit(sign, trace, child)
    return number


async def later(trace: str, number: int) -> int:
    import asyncio

    sign(trace, number)
    await asyncio.sleep(0.001)
    return number
