"""``map``: items in chunks whose size follows their cost.

A chunk should take long enough to hide what a task costs, and short enough that the
last one leaves no worker idle for long. The first chunks are single items; from the
first measured cost on, a chunk is as many items as fill ``_CHUNK_SECONDS``, and at most
an even share of half of what is left (guided self-scheduling, Polychronopoulos and
Kuck, IEEE Trans. Comput. 1987).

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import collections
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from workpool._core import OUTCOME_OK
from workpool.task import Task

R = TypeVar("R")

# 400 times what handing a chunk over costs, a hundredth of a second lost at the end.
_CHUNK_SECONDS = 0.002


class Chunks:
    """The chunks of a map's items, taken from the front.

    Args:
        items: A list if all is known from the beginning, else read as far as needed.
        size: Items per chunk; None to follow their cost.
    """

    def __init__(self, items: Iterable[Any], size: int | None, workers: int) -> None:
        self._iterator = iter(items)
        self._left = len(items) if isinstance(items, list) else None
        self._fixed = size
        self._workers = workers
        self._item_seconds: float | None = None

    def learn(self, seconds: float | None, items: int) -> None:
        """A chunk of ``items`` took so long."""
        if seconds is None or items == 0:
            return
        each = seconds / items
        before = self._item_seconds
        self._item_seconds = each if before is None else 0.7 * before + 0.3 * each

    def _size(self) -> int:
        if self._fixed is not None:
            return self._fixed
        if self._item_seconds is None:
            return 1
        size = int(_CHUNK_SECONDS / max(self._item_seconds, 1e-9))
        if self._left is not None:
            size = min(size, -(-self._left // (2 * self._workers)))
        return max(1, min(size, 1 << 17))

    def take(self, most: int | None = None) -> list[Any]:
        """The next chunk; empty at the end."""
        size = self._size() if most is None else min(self._size(), most)
        chunk = list(itertools.islice(self._iterator, size))
        if self._left is not None:
            self._left -= len(chunk)
        return chunk


class MapIterator(Iterator[R], Generic[R]):
    """The results of a map, in order of the items or as they come.

    Args:
        submit: Offers a chunk to the workers.
        chunks: What to offer.
        window: Chunks in flight at once; with ``buffered``, items.
        buffered: Read further items only when results are taken (``buffersize``).
    """

    def __init__(
        self, submit: Callable[[list[Any]], Task[list[R]]], chunks: Chunks, *, window: int, buffered: bool,
        ordered: bool, timeout: float | None, attend: Callable[[], None],
    ) -> None:  # fmt: skip
        self._submit = submit
        self._chunks = chunks
        self._window = window
        self._buffered = buffered
        self._ordered = ordered
        self._attend = attend
        self._end = None if timeout is None else time.monotonic() + timeout
        self._chunk_items: dict[int, int] = {}
        self._order: collections.deque[Task[list[R]]] = collections.deque()  # what next() takes from
        self._in_flight = 0  # chunks; with `buffered`, items not yet given out
        self._ready: Iterator[R] = iter(())
        self._error: BaseException | None = None
        self._exhausted = self._closed = False
        self._pumping = threading.Lock()
        self._pump_again = False
        self._arrived: collections.deque[Task[list[R]]] = collections.deque()
        self._pump()
        if not buffered:
            attend()

    # ---- submitting ------------------------------------------------------------------

    def _pump(self) -> None:
        """Keep the window full. From any thread, also from within itself."""
        self._pump_again = True
        while self._pump_again and self._pumping.acquire(False):
            try:
                self._pump_again = False
                while not self._exhausted and not self._closed and self._in_flight < self._window:
                    chunk = self._chunks.take(self._window - self._in_flight if self._buffered else None)
                    if not chunk:
                        self._exhausted = True
                        break
                    self._in_flight += len(chunk) if self._buffered else 1
                    task = self._submit(chunk)
                    self._chunk_items[task.id] = len(chunk)
                    self._order.append(task)
                    if not task._watch(self._settled):
                        self._settled(task)
            finally:
                self._pumping.release()

    def _settled(self, task: Task[list[R]]) -> None:
        if task.outcome_code == OUTCOME_OK:
            self._chunks.learn(task.task_cost, self._chunk_items.get(task.id, 0))
        if not self._ordered:
            self._arrived.append(task)
        if not self._buffered:
            self._in_flight -= 1
            self._pump()

    # ---- taking ----------------------------------------------------------------------

    def __iter__(self) -> MapIterator[R]:
        return self

    def __next__(self) -> R:
        for item in self._ready:
            self._given()
            return item
        return self._next_chunk()

    def _given(self) -> None:
        if self._buffered:
            self._in_flight -= 1
            if not self._exhausted:
                self._pump()

    def _next_chunk(self) -> R:
        while True:
            if self._error is not None:
                error, self._error = self._error, None
                self.close()
                try:
                    raise error
                finally:
                    del error
            if self._closed:
                raise StopIteration
            if self._buffered:
                self._pump()
            task = self._take()
            if task is None:
                if self._exhausted or self._closed:
                    raise StopIteration
                continue
            try:
                results = task.result(0)
                self._ready = iter(results)
            except BaseException as error:
                # What the chunk's items before the failing one gave comes first.
                self._error = error
                self._ready = iter(task.partial or ())
            for item in self._ready:
                self._given()
                return item

    def _take(self) -> Task[list[R]] | None:
        """The next chunk with an outcome; None when there is none left to wait for."""
        left = None if self._end is None else max(0.0, self._end - time.monotonic())
        if not self._order:
            return None
        try:
            if self._ordered:
                self._order[0].exception(left)
                task = self._order.popleft()
            else:
                task = self._first_arrived(left)
        except TimeoutError:
            self.close()
            raise
        except BaseException as error:
            if not isinstance(error, Exception):  # interrupted: what was not taken can be taken later
                raise
            task = self._order.popleft()  # cancelled
        self._chunk_items.pop(task.id, None)
        return task

    def _first_arrived(self, timeout: float | None) -> Task[list[R]]:
        from concurrent.futures import FIRST_COMPLETED, wait

        if not self._arrived and not wait(list(self._order), timeout, FIRST_COMPLETED).done:
            raise TimeoutError
        while not self._arrived:
            time.sleep(0)  # its watcher runs in another thread, this instant
        task = self._arrived.popleft()
        self._order.remove(task)
        return task

    def close(self) -> None:
        """Cancel what no worker has begun, and end the iteration."""
        self._closed = True
        for task in self._order:
            task.cancel()
        self._order.clear()

    def __del__(self) -> None:
        # Dropped before it was asked for anything, a map still runs, as in the standard library.
        if self._order and self._buffered:
            self.close()
