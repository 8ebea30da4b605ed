"""What a storm runs in workers, and the ledger in which each task signs.

The ledger is a mapped file of two bytes for each task: how often it was entered, and how
often it got to its end. A task has a number; its children have the numbers after it.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import resource
import signal
import threading
import time
import zlib

from workpool import current_client

# What a fresh worker imports here counts: a storm has thousands of them.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

RECORD = 2
MASK = 0x5A5A5A

ledger = mmap.mmap(-1, 1)  # the pool's initializer gives the real one


class OwnError(Exception):
    """An exception of the user's."""


def begin(path: str) -> None:
    """The pool's initializer."""
    global ledger
    with open(path, "r+b") as file:  # noqa: PTH123
        ledger = mmap.mmap(file.fileno(), 0)
    faulthandler.register(signal.SIGUSR1, all_threads=True)


def enter(number: int) -> None:
    at = number * RECORD
    ledger[at] = min(255, ledger[at] + 1)


def leave(number: int) -> None:
    at = number * RECORD + 1
    ledger[at] = min(255, ledger[at] + 1)


# ---- plain ---------------------------------------------------------------------------


def small(number: int) -> int:
    enter(number)
    leave(number)
    return number ^ MASK


def pair(number: int, other: int) -> int:
    enter(number)
    leave(number)
    return number ^ other


def payload(number: int, data: bytes, check: int) -> tuple[int, bytes]:
    """The data comes whole, and goes back whole."""
    enter(number)
    if zlib.crc32(data) != check:
        raise AssertionError(f"task {number}: {len(data)} bytes came damaged")
    back = data[::-1]
    leave(number)
    return zlib.crc32(back), back


def array(number: int, values: Any) -> Any:
    enter(number)
    result = values * 3 + number
    leave(number)
    return result


def busy(number: int, seconds: float) -> int:
    enter(number)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    leave(number)
    return number ^ MASK


def sleepy(number: int, seconds: float) -> int:
    enter(number)
    time.sleep(seconds)
    leave(number)
    return number ^ MASK


def own_error(number: int) -> NoReturn:
    enter(number)
    leave(number)
    raise OwnError(number)


def no_result(number: int) -> Any:
    """A result that does not travel."""
    enter(number)
    leave(number)
    return threading.Lock()


# ---- nested --------------------------------------------------------------------------


def tree_size(depth: int) -> int:
    return (2 << depth) - 1


def tree(number: int, depth: int) -> int:
    """The sum of the numbers of a binary tree of tasks."""
    enter(number)
    total = number
    if depth:
        client = current_client()
        left = client.submit(tree, number + 1, depth - 1)
        right = client.submit(tree, number + 1 + tree_size(depth - 1), depth - 1)
        total += left.result() + right.result()
    leave(number)
    return total


async def tree_later(number: int, depth: int) -> int:
    enter(number)
    total = number
    if depth:
        client = current_client()
        left = client.submit(tree_later, number + 1, depth - 1)
        right = client.submit(tree, number + 1 + tree_size(depth - 1), depth - 1)
        total += await left
        total += await right
    leave(number)
    return total


async def later(number: int, seconds: float) -> int:
    import asyncio

    enter(number)
    await asyncio.sleep(seconds)
    leave(number)
    return number ^ MASK


def mapped(number: int, children: int) -> int:
    enter(number)
    total = sum(current_client().map(small, range(number + 1, number + 1 + children)))
    leave(number)
    return total


def mapped_sum(number: int, children: int) -> int:
    return sum(child ^ MASK for child in range(number + 1, number + 1 + children))


def scatter(number: int, children: int) -> int:
    """Leave children that nobody waits for."""
    enter(number)
    client = current_client()
    for child in range(number + 1, number + 1 + children):
        client.submit(small, child)
    leave(number)
    return children


def retried_tree(number: int, depth: int) -> int:
    """As tree(), and each attempt has children of its own."""
    enter(number)
    client = current_client()
    attempt = client.task.attempt  # type: ignore[union-attr]
    child = number + 1 + (attempt - 1) * tree_size(depth)
    total = client.submit(tree, child, depth).result()
    leave(number)
    return total - (attempt - 1) * tree_size(depth) ** 2


# ---- deaths --------------------------------------------------------------------------


def exit_at_once(number: int, code: int) -> NoReturn:
    enter(number)
    os._exit(code)


def die_silently() -> None:
    """What follows is a crash on purpose: any other is heard, for nothing else speaks."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()


def segfault(number: int) -> None:
    import ctypes

    enter(number)
    die_silently()
    ctypes.string_at(0)


def kill_self(number: int) -> None:
    enter(number)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def address_space() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[0]) * mmap.PAGESIZE


def out_of_memory(number: int) -> int:
    """A MemoryError of the task's own; then the limit is lifted."""
    enter(number)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + (4 << 20), hard))
    try:
        return len(bytearray(64 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        leave(number)


def die_of_memory(number: int) -> None:
    """As C code that does not look at what malloc() says."""
    import ctypes

    enter(number)
    die_silently()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + (4 << 20), hard))
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    ctypes.memset(libc.malloc(ctypes.c_size_t(64 << 20)) or 0, 1, 64 << 20)
    raise AssertionError("there was memory")


def die_below(number: int) -> int:
    """The child kills whoever runs it: often this worker."""
    enter(number)
    current_client().submit(kill_self, number + 1).result()
    raise AssertionError("it lived")


class Poison:
    """A value that kills whoever unpickles it, but for its maker."""

    def __init__(self) -> None:
        self.maker = os.getpid()

    def __reduce__(self) -> Any:
        return _swallow, (self.maker,)


def _swallow(maker: int) -> None:
    if os.getpid() != maker:
        os._exit(9)


def taste(number: int, _: object) -> None:
    enter(number)
    raise AssertionError("a poisoned task was entered")
