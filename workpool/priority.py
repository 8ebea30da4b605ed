"""Ageing: a task that waits long gets a higher priority, so that none waits for ever.

The order itself is kept in shared memory, a task set for each priority
(``csrc/wp_search.h``); here only time passes.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

from workpool.once import start_first
from workpool.options import PRIORITIES

if TYPE_CHECKING:
    from workpool._core import Seat
    from workpool.task import Task

# One step up for so long a wait: from the lowest priority to above a plain task in nine
# seconds.
AGE_SECONDS = 1.0


class Ageing:
    """The waiting tasks of one pool that have a priority, and a thread while there are any."""

    def __init__(self, seat: Seat, name: str) -> None:
        self._seat = seat
        self._name = name
        self._waiting: list[tuple[float, int, Task[Any], int]] = []  # a heap: when, …, its priority
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, task: Task[Any], priority: int) -> None:
        """Promote ``task`` step by step, until it runs."""
        if priority == PRIORITIES[-1]:
            return
        with self._changed:
            if self._closed:
                return
            due = time.monotonic() + AGE_SECONDS
            heapq.heappush(self._waiting, (due, next(self._numbers), task, priority))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=f"{self._name}-ageing", daemon=True)
                start_first(self, thread)

    def _run(self) -> None:
        with self._changed:
            while not self._closed and self._waiting:
                due = self._waiting[0][0]
                left = due - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                _, number, task, priority = heapq.heappop(self._waiting)
                priority += 1
                if self._seat.promote(task, priority) and priority < PRIORITIES[-1]:
                    heapq.heappush(self._waiting, (due + AGE_SECONDS, number, task, priority))
            self._thread = None

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
