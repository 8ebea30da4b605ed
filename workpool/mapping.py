"""``map``: items in chunks whose size follows their cost.

A chunk should take long enough to hide what a task costs, and short enough that the
last one leaves no worker idle for long. The first chunks are single items; from the
first measured cost on, a chunk is as many items as fill ``_CHUNK_SECONDS``, and at most
an even share of half of what is left (guided self-scheduling, Polychronopoulos and
Kuck, IEEE Trans. Comput. 1987). A further map of the same function begins with what its
items cost before. Chunks of large items or results are shorter: memory is shared, too.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import collections
import itertools
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from workpool._core import OUTCOME_CANCELLED, OUTCOME_OK
from workpool.identity import ByIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from workpool.task import Task

R = TypeVar("R")

# 400 times what handing a chunk over costs, a hundredth of a second lost at the end.
_CHUNK_SECONDS = 0.002

_MOST_ITEMS = 1 << 17

# Before a chunk of this map was measured: this time they may be long.
_MOST_UNSEEN = 16

# With arrays, so much takes longer to write than to hand over.
_CHUNK_BYTES = 1 << 20

# Of a chunk's items and results, how many are looked at for their size.
_LOOKED_AT = 8

_TEXTS = frozenset((bytes, bytearray, str))


def _bytes_of(item: Any) -> int:
    """What the arrays and bytes of an item, or of a tuple of such, take; 0 without any."""
    parts = item if type(item) is tuple else (item,)
    sizes = [len(part) if type(part) in _TEXTS else getattr(part, "nbytes", 0) for part in parts]
    return sum(size for size in sizes if isinstance(size, int))


def _largest(items: Sequence[Any]) -> int:
    """What the largest of some of them takes."""
    return max(map(_bytes_of, items[:: max(1, len(items) // _LOOKED_AT)]))


class ItemCost:
    """What an item of a function costs.

    Attributes:
        seconds: Smoothed; None before one was measured.
        result_bytes: Of its result's arrays and bytes; smoothed as it falls, not as it rises.
    """

    __slots__ = ("result_bytes", "seconds")

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.result_bytes = 0.0


class ItemCosts(ByIdentity):
    """What items cost, by the function, as long as it lives."""

    def of(self, fn: Any) -> ItemCost:
        """The cost of the items of this very function; a new one if it cannot be told apart."""
        cost: ItemCost | None = self.get(fn)
        if cost is None:
            cost = ItemCost()
            try:
                self.put(fn, cost)
            except TypeError:
                pass  # a builtin's method, for example
        return cost


class Chunks:
    """The chunks of a map's items, taken from the front.

    Args:
        items: A list if all is known from the beginning, else read as far as needed.
        size: Items per chunk; None to follow their cost.
        cost: Where that is kept.
    """

    def __init__(self, items: Iterable[Any], size: int | None, workers: int, cost: ItemCost) -> None:
        self._iterator = iter(items)
        self._left = len(items) if isinstance(items, list) else None
        self._fixed = size
        self._workers = workers
        self._cost = cost
        self._measured = False  # a chunk of this map

    def learn(self, seconds: float | None, results: Sequence[Any]) -> None:
        """A chunk with these results took so long."""
        if seconds is None or not results:
            return
        self._measured = True
        cost = self._cost
        each = seconds / len(results)
        cost.seconds = each if cost.seconds is None else 0.7 * cost.seconds + 0.3 * each
        largest = _largest(results)
        if largest or cost.result_bytes:
            cost.result_bytes = max(largest, 0.7 * cost.result_bytes + 0.3 * largest)

    def size(self) -> int:
        """How many items the next chunk shall have."""
        if self._fixed is not None:
            return self._fixed
        if self._cost.seconds is None:
            return 1
        size = int(_CHUNK_SECONDS / max(self._cost.seconds, 1e-9))
        if self._cost.result_bytes:
            size = min(size, int(_CHUNK_BYTES / self._cost.result_bytes))
        if self._left is not None:
            size = min(size, -(-self._left // (2 * self._workers)))
        return max(1, min(size, _MOST_ITEMS if self._measured else _MOST_UNSEEN))

    @property
    def is_empty(self) -> bool:
        """Whether all was taken, as far as that is known."""
        return self._left == 0

    def _cut(self, chunk: list[Any]) -> list[Any]:
        """As many of the items, one at least, as fill ``_CHUNK_BYTES``; the others come again."""
        total = 0
        for number, item in enumerate(chunk):
            total += _bytes_of(item)
            if total > _CHUNK_BYTES and number > 0:
                self._iterator = itertools.chain(chunk[number:], self._iterator)
                return chunk[:number]
        return chunk

    def take(self, most: int | None = None) -> list[Any]:
        """The next chunk; empty at the end."""
        size = self.size() if most is None else min(self.size(), most)
        chunk = list(itertools.islice(self._iterator, size))
        if self._fixed is None and len(chunk) > 1 and _largest(chunk) * len(chunk) > _CHUNK_BYTES:
            chunk = self._cut(chunk)
        if self._left is not None:
            self._left -= len(chunk)
        return chunk


class Mapping(Generic[R]):
    """A map under way: a window of chunks in flight, and their results.

    Args:
        submit: Offers a chunk to the workers.
        chunks: What to offer.
        window: Chunks in flight at once; with ``buffered``, items.
        buffered: Read further items only when results are taken (``buffersize``).
    """

    def __init__(
        self,
        submit: Callable[[list[Any]], Task[list[R]]],
        chunks: Chunks,
        *,
        window: int,
        buffered: bool,
    ) -> None:
        self._submit: Callable[[list[Any]], Task[list[R]]] | None = submit
        self._chunks = chunks
        self._window = window
        self._buffered = buffered
        self._refill_at = max(1, window // 4)
        self._in_flight = 0  # chunks; with `buffered`, items not yet given out
        self._tasks: collections.deque[tuple[Task[list[R]], int]] = collections.deque()  # with their items
        self._arrived: queue.SimpleQueue[tuple[Task[list[R]], int]] = queue.SimpleQueue()
        self._exhausted = self._closed = False
        self._pumping = threading.Lock()
        self._pump_again = False
        self._giving: list[R] = []  # of the chunk that was taken last, backwards
        self._fails = False  # behind them comes its exception
        self._wakes: collections.deque[Callable[[], object]] = collections.deque()
        self.pump()

    def pump(self) -> None:
        """Keep the window full. From any thread, also from within itself."""
        self._pump_again = True
        while self._pump_again and self._pumping.acquire(False):
            try:
                self._pump_again = False
                while not self._exhausted and not self._closed and self._in_flight < self._window:
                    self._launch()
                if self._exhausted:
                    self._submit = None  # results that are still to be taken do not keep the pool
            finally:
                self._pumping.release()

    def _launch(self) -> None:
        submit = self._submit
        chunk = self._chunks.take(self._window - self._in_flight if self._buffered else None)
        if not chunk or submit is None:
            self._exhausted = True
            _tell(self._wakes)
            return
        items = len(chunk)
        self._in_flight += items if self._buffered else 1
        task = submit(chunk)
        self._tasks.append((task, items))
        if self._chunks.is_empty:  # after that: who takes results stops when both are so
            self._exhausted = True
        if self._closed:  # meanwhile, by who takes the results
            task.cancel()

        def settled(task: Task[list[R]]) -> None:
            if task.outcome_code == OUTCOME_OK:
                self._chunks.learn(task.task_cost, task.result())
            elif task.outcome_code == OUTCOME_CANCELLED:
                self._exhausted = True  # by dispose() or close(): what was not offered is cancelled too
            self._arrived.put((task, items))
            _tell(self._wakes)
            if not self._buffered:
                self._in_flight -= 1
                self.pump()

        if not task._watch(settled):
            settled(task)

    def listen(self, wake: Callable[[], object]) -> None:
        """Have ``wake()`` called once, in any thread, when ``is_ready()`` may have become true."""
        self._wakes.append(wake)
        tasks = self._tasks.copy()
        if tasks:
            tasks[0][0]._gatherer.attend_in_thread()

    def is_ready(self, ordered: bool) -> bool:
        """Whether taking the next result would not wait; for one that takes them all."""
        if self._giving or self._fails:
            return True
        if not self._tasks and not self._exhausted:
            self.pump()
        if not self._tasks:
            return self._exhausted
        return self._tasks[0][0].done() if ordered else not self._arrived.empty()

    @property
    def has_more(self) -> bool:
        """Whether a chunk is still to be offered."""
        return not self._exhausted

    def results(self, ordered: bool, timeout: float | None) -> Iterator[R]:
        """The results, in order of the items or as they come; dropping it cancels the rest."""
        end = None if timeout is None else time.monotonic() + timeout
        return self._results(ordered, end)

    def _results(self, ordered: bool, end: float | None) -> Iterator[R]:
        try:
            while True:
                taken = self._take(ordered, end)
                if taken is None:
                    return
                error = taken[0].exception()
                # Backwards, and without the task: who takes a result is then the only one to hold it.
                results = (taken[0].result() if error is None else taken[0].partial or [])[::-1]
                self._giving = results
                self._fails = error is not None
                del taken
                if self._buffered:
                    while results:
                        yield results.pop()
                        self._in_flight -= 1
                        # By whole chunks where items are cheap, and still four of them on the way.
                        if self._window - self._in_flight >= min(self._chunks.size(), self._refill_at):
                            self.pump()
                else:
                    yield from map(list.pop, itertools.repeat(results, len(results)))
                if error is not None:
                    # What the chunk's items before the failing one gave has come first.
                    raise error
        finally:
            self.close()

    def close(self) -> None:
        """Offer no more, and cancel what has not begun."""
        self._closed = True
        for task, _ in self._tasks.copy():
            task.cancel()
        self._tasks.clear()

    def _take(self, ordered: bool, end: float | None) -> tuple[Task[list[R]], int] | None:
        """The next chunk with an outcome; None when all were taken."""
        while not self._tasks:
            if self._exhausted:
                if self._tasks:
                    break  # offered just before the items ended
                return None
            with self._pumping:  # another thread may be about to offer more
                if not self._tasks and not self._exhausted:
                    self._launch()
        if ordered:
            task = self._tasks[0][0]
            if not task.done():
                task._wait(None if end is None else max(0.0, end - time.monotonic()))
            while not self._arrived.empty():
                self._arrived.get()  # in their order they are in the other list too
            return self._tasks.popleft()
        while self._arrived.empty():
            self._wait_any(end)
        taken = self._arrived.get()
        self._tasks.remove(taken)
        return taken

    def _wait_any(self, end: float | None) -> None:
        from concurrent.futures import FIRST_COMPLETED, wait

        left = None if end is None else max(0.0, end - time.monotonic())
        # A copy, made in one step: another thread may offer a chunk meanwhile.
        if not wait([task for task, _ in self._tasks.copy()], left, FIRST_COMPLETED).done:
            raise TimeoutError


def apply_chunk(fn: Callable[..., R], chunk: list[Any], star: bool) -> list[R]:
    """The work of a chunk whose function travels with it."""
    return [fn(*item) for item in chunk] if star else [fn(item) for item in chunk]


class LongestFirst(Generic[R]):
    """A map of items whose costs are known: the longest go first, results keep their order.

    Args:
        submit: Offers some items, given by their numbers.
        costs: Seconds of each item, or None: such count as the mean of the others.
        size: Items per task; None for as many as fill a chunk's time.
    """

    def __init__(
        self,
        submit: Callable[[list[int]], Task[list[R]]],
        costs: list[float | None],
        size: int | None,
    ) -> None:
        known = [cost for cost in costs if cost is not None]
        usual = sum(known) / len(known) if known else 0.0
        each = [usual if cost is None else cost for cost in costs]
        self._tasks: list[Task[list[R]]] = []
        self._places: list[tuple[int, int]] = [(0, 0)] * len(each)  # by item: task, and where in it
        order = sorted(range(len(each)), key=lambda item: -each[item])
        chunk: list[int] = []
        total = 0.0
        for item in order:
            self._places[item] = len(self._tasks), len(chunk)
            chunk.append(item)
            total += each[item]
            if len(chunk) == size or (size is None and total >= _CHUNK_SECONDS):
                self._tasks.append(submit(chunk))
                chunk, total = [], 0.0
        if chunk:
            self._tasks.append(submit(chunk))
        self._given = 0  # results, or with ordered=False tasks
        self._giving: list[R] = []  # as in Mapping, with ordered=False
        self._fails = False
        self._arrived: list[Task[list[R]]] | None = None  # once somebody listens
        self._wakes: collections.deque[Callable[[], object]] = collections.deque()

    def listen(self, wake: Callable[[], object]) -> None:
        """See ``Mapping``."""
        self._wakes.append(wake)
        if self._arrived is None:
            self._arrived = []
            for task in self._tasks:
                if not task._watch(self._note):
                    self._note(task)
        if self._tasks:
            self._tasks[0]._gatherer.attend_in_thread()

    def _note(self, task: Task[list[R]]) -> None:
        if self._arrived is not None:
            self._arrived.append(task)
        _tell(self._wakes)

    def is_ready(self, ordered: bool) -> bool:
        """See ``Mapping``."""
        if ordered:
            return self._given >= len(self._places) or self._tasks[self._places[self._given][0]].done()
        left = bool(self._giving or self._fails)
        return left or self._given >= len(self._tasks) or len(self._arrived or ()) > self._given

    @property
    def has_more(self) -> bool:
        """No: all was offered at once."""
        return False

    def results(self, ordered: bool, timeout: float | None) -> Iterator[R]:
        """The results, in order of the items or as they come; dropping it cancels the rest."""
        end = None if timeout is None else time.monotonic() + timeout
        return self._in_order(end) if ordered else self._as_they_come(end)

    def _in_order(self, end: float | None) -> Iterator[R]:
        try:
            for number, place in self._places:
                task = self._tasks[number]
                if not task.done():
                    task._wait(None if end is None else max(0.0, end - time.monotonic()))
                self._given += 1
                yield _item_of(task, place)
        finally:
            self.close()

    def _as_they_come(self, end: float | None) -> Iterator[R]:
        from concurrent.futures import as_completed

        try:
            left = None if end is None else max(0.0, end - time.monotonic())
            tasks: list[Any] = self._tasks
            task: Any
            for task in as_completed(tasks, left):
                error = task.exception()
                self._given += 1
                self._giving = results = (task.result() if error is None else task.partial or [])[::-1]
                self._fails = error is not None
                while results:
                    yield results.pop()
                if error is not None:
                    raise error
        finally:
            self.close()

    def close(self) -> None:
        """See ``Mapping``."""
        for task in self._tasks:
            task.cancel()


def _tell(wakes: collections.deque[Callable[[], object]]) -> None:
    """Call those who listen, each once, whichever thread comes first."""
    while wakes:
        try:
            wake = wakes.popleft()
        except IndexError:
            return
        wake()


def _item_of(task: Task[list[R]], place: int) -> R:
    error = task.exception()
    if error is None:
        return task.result()[place]
    before: list[R] = task.partial or []
    if place < len(before):
        return before[place]
    raise error
