"""What the crash tests run in workers.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import resource
import time
from collections.abc import Callable
from typing import Any

from stress import storm_tasks

from workpool import current_client


def sign(path: str, number: int) -> int:
    """Leave a line, in one step, as the first thing a task does."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
    os.write(fd, b"%d\n" % number)
    os.close(fd)
    return number


def signed(path: str) -> Callable[[int], int]:
    """``sign`` for a map."""
    return lambda number: sign(path, number)


def sign_slowly(path: str, number: int) -> int:
    sign(path, number)
    time.sleep(0.002)
    return number


async def sign_later(path: str, number: int) -> int:
    import asyncio

    sign(path, number)
    await asyncio.sleep(0.003)
    return number


def fork_join(path: str, number: int, children: int) -> int:
    """Children have the numbers after their parent's."""
    sign(path, number)
    client = current_client()
    tasks = [client.submit(sign_slowly, path, number + 1 + child) for child in range(children)]
    return sum(task.result() for task in tasks)


def scatter(path: str, number: int, children: int) -> int:
    sign(path, number)
    for child in range(children):
        current_client().submit(sign_slowly, path, number + 1 + child)
    return number


def posting_entrypoint() -> Callable[..., Any]:
    """Post each number, take a moment, and answer what is asked meanwhile."""

    def run(number: int, client: Any) -> int:
        client.post_message_to_pool("number", number)
        time.sleep(0.002)
        client.poll_messages()
        return number

    def answer(question: int, client: Any) -> None:
        client.post_message_to_pool("answer", question)

    run.on_worker_start = lambda client: client.on_message("ask", answer)  # type: ignore[attr-defined]
    return run


class Fatal:
    """A value that kills whoever unpickles it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return _fall, (self.path,)


def _fall(path: str) -> None:
    sign(path, 0)
    os._exit(9)


def recurse(depth: int) -> int:
    """Nested tasks that take their time."""
    time.sleep(0.01)
    if depth == 0:
        return 1
    tasks = [current_client().submit(recurse, depth - 1) for _ in range(2)]
    return sum(task.result() for task in tasks)


def starve(spare: int) -> None:
    """Leave the worker with so many bytes of address space, and not one more."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (storm_tasks.address_space() + spare, hard))


def large(size: int) -> int:
    return len(bytearray(size))


def with_hooks(start: Callable[[], object] | None = None, end: Callable[[], object] | None = None) -> Any:
    """An entrypoint with a start and an exit hook."""

    def run(arg: Any) -> Any:
        return arg

    if start is not None:
        run.on_worker_start = lambda client: start()  # type: ignore[attr-defined]
    if end is not None:
        run.on_worker_exit = lambda client: end()  # type: ignore[attr-defined]
    return run
