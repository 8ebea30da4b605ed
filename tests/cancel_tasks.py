"""What the tests of cancelling and of time limits run in workers.

SPDX-License-Identifier: BSD-3-Clause
"""

import collections
import itertools
import os
import time
from pathlib import Path
from typing import Any, NoReturn

from helpers import wait_until

import workpool


def mark(path: str, what: str) -> None:
    Path(f"{path}.{what}").touch()


def count(path: str) -> NoReturn:
    """Pure Python code without an end."""
    mark(path, "entered")
    n = 0
    while True:
        n += 1


def nap(path: str) -> None:
    mark(path, "entered")
    time.sleep(60)


def in_c_code(path: str) -> None:
    """C code that looks for no signal, and has no end."""
    mark(path, "entered")
    collections.deque(itertools.repeat(0), maxlen=0)


def stuck_now() -> None:
    collections.deque(itertools.repeat(0), maxlen=0)


def clean_up(path: str) -> None:
    mark(path, "entered")
    try:
        while True:
            pass
    finally:
        mark(path, "cleaned")


def swallow_once(path: str) -> str:
    """Code that catches everything, once, and ends well."""
    mark(path, "entered")
    try:
        while True:
            pass
    except BaseException as error:
        return type(error).__name__


def swallow(path: str) -> NoReturn:
    mark(path, "entered")
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


def raise_other(path: str) -> None:
    mark(path, "entered")
    try:
        while True:
            pass
    except BaseException as error:
        raise ValueError("while it cleaned up") from error


def look_at_the_flag(path: str) -> str:
    client = workpool.current_client()
    assert not client.cancelled
    client.check_cancelled()
    mark(path, "entered")
    wait_until(lambda: client.cancelled, timeout=30.0)
    return "saw it"


def check_the_flag(path: str) -> NoReturn:
    mark(path, "entered")
    while True:
        workpool.current_client().check_cancelled()


def read_the_flag_by_address(path: str) -> int:
    import ctypes

    address = workpool.current_client().cancel_flag_address
    mark(path, "entered")
    flag = ctypes.c_ubyte.from_address(address)
    wait_until(lambda: flag.value, timeout=30.0)
    return flag.value


async def sleep_in_coroutine(path: str) -> None:
    import asyncio

    mark(path, "entered")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        mark(path, "cleaned")
        raise


async def count_in_coroutine(path: str) -> NoReturn:
    mark(path, "entered")
    n = 0
    while True:
        n += 1


async def briefly(value: int) -> int:
    import asyncio

    await asyncio.sleep(0.01)
    return value


def with_children(path: str, children: int) -> None:
    """Submit tasks that wait for a gate, and wait for them."""
    client = workpool.current_client()
    tasks = [client.submit(touch_and_stay, path) for _ in range(children)]
    mark(path, "entered")
    for task in tasks:
        task.result()


def touch_and_stay(path: str) -> None:
    mark(path, f"{os.getpid()}.{time.monotonic_ns()}.child")
    time.sleep(0.05)


def run_below(path: str) -> None:
    """Wait for a task of its own that has no end: it runs on top of this one, or elsewhere."""
    workpool.current_client().submit(count, path).result()


def child_with_a_limit(path: str, limit: float) -> str:
    client = workpool.current_client()
    try:
        client.add_task(path, timeout=limit).result()
    except workpool.TaskTimeout as error:
        return str(error)
    return "no time-out"


def cancel_a_child(path: str) -> str:
    client = workpool.current_client()
    child = client.submit(count, path)
    wait_until(lambda: Path(f"{path}.entered").exists(), timeout=30.0)
    assert child.cancel(force=True)
    try:
        child.result()
    except BaseException as error:
        return type(error).__name__
    return "not cancelled"


def mixed(value: int) -> int:
    """A short task, or with a negative value one without an end."""
    n = 0
    while value < 0:
        n += 1
    return value + 1


def die_until_attempt(attempt: int) -> int:
    task = workpool.current_client().task
    assert task is not None
    if task.attempt < attempt:
        os._exit(4)
    return task.attempt


def die_then_stay(path: str, first: float, then: float) -> int:
    """Take ``first`` seconds and die in the first attempt; take ``then`` in the second."""
    attempt: int = attempt_of()
    mark(path, f"attempt{attempt}")
    time.sleep(first if attempt == 1 else then)
    if attempt == 1:
        os._exit(4)
    return attempt


def attempt_of() -> Any:
    task = workpool.current_client().task
    return None if task is None else task.attempt
