"""Submitting from code that comes in anywhere: a signal's handler, a finalizer during collection.

SPDX-License-Identifier: BSD-3-Clause
"""

import concurrent.futures
import gc
import random
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import wait_until

import workpool
from workpool import Task, WorkerPool

Pool = WorkerPool[Any, Any]
PACKAGE = str(Path(workpool.__file__).parent)
LARGE = b"x" * 100_000

# A line of the package's own code.
Place = tuple[str, int]


class Breaking:
    """Has ``act`` called once, before a line of the package's own code runs in this thread."""

    def __init__(self, at: Place | None, act: Callable[[], None]) -> None:
        self.seen: dict[Place, None] = {}
        self._at = at
        self._act = act

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        place = frame.f_code.co_filename, frame.f_lineno
        if event == "line" and place not in self.seen:
            self.seen[place] = None
            if place == self._at:
                sys.settrace(None)
                try:
                    self._act()
                finally:
                    sys.settrace(self)
        return self._line


def offer(pool: Pool, told: list[Task[Any]]) -> list[Task[Any]]:
    """Tasks that take every way, each with a callback."""
    offered: list[Task[Any]] = [
        pool.submit(abs, -1),
        pool.options(key="k", timeout=30.0, priority=1, retries=1).submit(abs, -1),
        pool.options(worker_affinity=1).submit(abs, -1),
        pool.options(worker_affinity="main", timeout=30.0).submit(abs, -1),
        pool.submit(len, LARGE),
    ]
    for task in offered:
        task.add_done_callback(told.append)
    return offered


def work(at: Place | None) -> tuple[list[Place], bool]:
    """What a program does with a pool, broken in upon at one place: all places, and whether it was."""
    inner: list[Task[Any]] = []
    told: list[Task[Any]] = []
    with WorkerPool(max_workers=2, max_pending=1000) as pool:
        breaking = Breaking(at, lambda: inner.extend(offer(pool, told)))
        before = sys.gettrace()
        sys.settrace(breaking)
        try:
            outer = offer(pool, told)
            concurrent.futures.wait(outer[:2], timeout=30)
            assert [task.result(30) for task in outer] == [1, 1, 1, 1, len(LARGE)]
            assert list(pool.map(abs, range(20), timeout=30)) == list(range(20))
            pool.on_message("x", print)
            pool.when_idle().result(30)
        finally:
            sys.settrace(before)
        assert [task.result(30) for task in inner] == [1, 1, 1, 1, len(LARGE)][: len(inner)]
        wait_until(lambda: len(told) == 5 + len(inner), timeout=30.0)
        name = pool._runtime.name
        threads = [thread.name for thread in threading.enumerate() if thread.name.startswith(name)]
        assert len(threads) == len(set(threads))
    return list(breaking.seen), bool(inner)


def test_tasks_offered_between_any_two_lines_of_the_pools_own_code_are_run() -> None:
    work(None)  # what is imported at the first use is there from now on
    places, _ = work(None)
    assert len(places) > 300
    broken = 0
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    for place in random.Random(seed).sample(places, 60):
        print(*place)
        broken += work(place)[1]  # not every line is come to each time
    assert broken > 30


def test_a_task_that_is_settled_as_it_is_watched_tells_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with WorkerPool(max_workers=1) as pool:
        task = pool.submit(tasks.echo, 1)
        gatherer = task._gatherer
        wait_until(pool._seat.has_completions)

        def interrupted(self: Task[Any]) -> Any:
            gatherer.collect()  # as a signal's handler may that comes here
            return gatherer

        monkeypatch.setattr(Task, "_gatherer", property(interrupted))
        told: list[Any] = []
        task.add_done_callback(told.append)
        assert told == [task]
        assert gatherer.watched == 0


@pytest.mark.parametrize("collected", [False, True])
def test_tasks_offered_by_a_signals_handler_or_by_finalizers_are_run(collected: bool) -> None:
    with WorkerPool(max_workers=2) as pool:
        inner: list[Task[Any]] = []
        told: list[Task[Any]] = []

        def act(*_: object) -> None:
            if len(inner) < 20_000:
                inner.extend(offer(pool, told))

        class Cycle:
            def __init__(self) -> None:
                self.me = self

            def __del__(self) -> None:
                act()

        thresholds = gc.get_threshold()
        before = signal.signal(signal.SIGALRM, act)
        try:
            if collected:
                gc.set_threshold(50, 2, 2)
            else:
                signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            for n in range(2000):
                if collected and n % 20 == 0:
                    Cycle()
                assert pool.submit(tasks.echo, [n]).result(30) == [n]
            offered = [pool.submit(tasks.echo, [n]) for n in range(2000)]
            assert [task.result(30) for task in offered] == [[n] for n in range(2000)]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            gc.set_threshold(*thresholds)
        gc.collect()
        assert inner
        assert {task.result(30) for task in inner} == {1, len(LARGE)}
        wait_until(lambda: len(told) == len(inner), timeout=30.0)


@pytest.mark.timeout(30)
def test_a_finalizer_in_a_thread_that_the_pool_starts_may_submit(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Task[Any]] = []
    offered: list[Task[Any]] = []
    identified = threading.Thread._set_ident  # type: ignore[attr-defined]

    class Offers:
        def __del__(self) -> None:
            offered.append(pool.options(worker_affinity=2).submit(abs, -1))  # launches a worker
            offered.extend(offer(pool, told))

    def collects(thread: threading.Thread) -> None:
        # In the new thread, before it says that it has started.
        identified(thread)
        if not thread.name.endswith("-supervisor"):
            return
        garbage = Offers()
        garbage.self = garbage  # type: ignore[attr-defined]
        del garbage
        assert len([[] for _ in range(5000)]) == 5000

    monkeypatch.setattr(threading.Thread, "_set_ident", collects)
    with WorkerPool(max_workers=2) as pool:
        assert pool.submit(tasks.echo, 2).result(20) == 2
        offered.extend(offer(pool, told))
        monkeypatch.undo()
        gc.collect()
        assert offered
        for task in list(offered):
            assert task.exception(20) is None
    assert gc.isenabled()
