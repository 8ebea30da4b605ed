"""``as_completed``: tasks as they end, for threads and for event loops.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from workpool.task import Task

R = TypeVar("R")

# Half a millisecond's worth of tasks is looked at before the loop sees to others.
_IN_A_ROW = 128


class as_completed(Generic[R]):  # noqa: N801
    """The tasks, each once it has an outcome; with ``for``, or ``async for`` in an event loop.

    Args:
        tasks: Of any pools; one that is given twice comes once.
        timeout: Seconds from this call after which ``TimeoutError`` is raised.
    """

    def __init__(self, tasks: Iterable[Task[R]], timeout: float | None = None) -> None:
        self._tasks = list(dict.fromkeys(tasks))
        self._end = None if timeout is None else time.monotonic() + timeout

    def _left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def __iter__(self) -> Iterator[Task[R]]:
        from concurrent.futures import as_completed as completed

        futures: Iterable[object] = self._tasks
        return completed(futures, self._left())  # type: ignore[arg-type, return-value]

    async def __aiter__(self) -> AsyncIterator[Task[R]]:
        import asyncio

        loop = asyncio.get_running_loop()
        ended: asyncio.Queue[Task[R]] = asyncio.Queue()
        for number, task in enumerate(self._tasks, 1):
            future = task._gatherer.attend_in_loop(task, loop)
            future.add_done_callback(lambda _, task=task: ended.put_nowait(task))  # type: ignore[misc]
            if number % _IN_A_ROW == 0:
                await asyncio.sleep(0)
        for _ in self._tasks:
            async with asyncio.timeout(self._left()):
                task = await ended.get()
            yield task
