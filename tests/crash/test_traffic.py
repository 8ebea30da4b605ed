"""Workers are killed during each kind of traffic: one outcome each, nothing twice, nothing lost.

SPDX-License-Identifier: BSD-3-Clause
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from crash import crash_tasks
from helpers import wait_until

from workpool import WorkerDied, WorkerPool

Pool = WorkerPool[Any, Any]

KILLS = 6
FEW = 40  # tasks of a round
CHILDREN = 4


class Traffic:
    """Rounds of work, each with its own numbers, and what became of them."""

    def __init__(self, pool: Pool, path: str) -> None:
        self.pool = pool
        self.path = path
        self.died: set[int] = set()  # numbers that may not have been signed
        self.refused: set[int] = set()  # numbers of a key in quarantine, that are not signed
        self.numbers = 0

    def take(self, count: int) -> range:
        self.numbers += count
        return range(self.numbers - count, self.numbers)

    def settle(self, task: Any, number: int, numbers: int = 1) -> None:
        """Wait for the outcome of a task with so many numbers."""
        try:
            assert task.result(50) is not None
        except WorkerDied as error:
            (self.refused if error.deaths else self.died).update(range(number, number + numbers))

    def burst(self) -> None:
        offered = [(self.pool.submit(crash_tasks.sign, self.path, n), n) for n in self.take(20 * FEW)]
        for task, number in offered:
            self.settle(task, number)

    def slow_burst(self) -> None:
        offered = [(self.pool.submit(crash_tasks.sign_slowly, self.path, n), n) for n in self.take(FEW)]
        for task, number in reversed(offered):
            self.settle(task, number)

    def coroutines(self) -> None:
        offered = [(self.pool.submit(crash_tasks.sign_later, self.path, n), n) for n in self.take(FEW)]
        for task, number in offered:
            self.settle(task, number)

    def mapped(self) -> None:
        numbers = self.take(5 * FEW)
        results = []
        try:
            for result in self.pool.map(crash_tasks.signed(self.path), numbers, timeout=50):
                results.append(result)
        except WorkerDied:  # a map ends with its first failure, and what it had not begun is cancelled
            self.died.update(numbers)
        else:
            assert len(results) == len(numbers)
        assert results == list(numbers)[: len(results)]

    def fork_join(self) -> None:
        offered = []
        for _ in range(FEW // 4):
            number = self.take(1 + CHILDREN)[0]
            offered.append((self.pool.submit(crash_tasks.fork_join, self.path, number, CHILDREN), number))
        for task, number in offered:
            self.settle(task, number, 1 + CHILDREN)

    def forgotten(self) -> None:
        offered = []
        for _ in range(FEW // 4):
            numbers = self.take(1 + CHILDREN)
            offered.append((self.pool.submit(crash_tasks.scatter, self.path, numbers[0], CHILDREN), numbers))
        for task, numbers in offered:
            self.settle(task, numbers[0], 1 + CHILDREN)

    def retried(self) -> None:
        patient = self.pool.options(retries=200)
        offered = [(patient.submit(crash_tasks.sign_slowly, self.path, n), n) for n in self.take(FEW)]
        for task, number in offered:
            assert task.result(50) == number  # no death is final

    def optioned(self, options: Callable[[int], Any], count: int = FEW) -> None:
        """Tasks with options, by their number."""
        offered = []
        for number in self.take(count):
            view = self.pool.options(**options(number))
            offered.append((view.submit(crash_tasks.sign_slowly, self.path, number), number))
        for task, number in offered:
            self.settle(task, number)

    def light(self) -> None:
        self.optioned(lambda number: {"worker_affinity": 1 + number % 3})

    def strong(self) -> None:
        self.optioned(lambda number: {"worker_affinity": 1 + number % 3, "affinity_strength": "strong"})

    def force(self) -> None:
        self.optioned(lambda number: {"worker_affinity": 1 + number % 3, "affinity_strength": "force"})

    def priorities(self) -> None:
        self.optioned(lambda number: {"priority": number % 16 - 8})

    def keyed(self) -> None:
        self.optioned(lambda number: {"key": number % 7})

    def main(self) -> None:
        """Tasks of the parent, which no kill can touch, and workers' tasks under them."""
        here = self.pool.options(worker_affinity="main")

        def both(number: int) -> int:
            crash_tasks.sign(self.path, number)
            self.settle(self.pool.submit(crash_tasks.sign_slowly, self.path, number + 1), number + 1)
            return number

        offered = [(here.submit(both, number), number) for number in self.take(FEW)[::2]]
        for task, number in offered:
            assert task.result(50) == number

    def resized(self) -> None:
        """The pool shrinks and grows with tasks of all kinds queued."""
        offered = [(self.pool.submit(crash_tasks.sign_slowly, self.path, n), n) for n in self.take(FEW)]
        strong = self.pool.options(worker_affinity=1 + len(offered) % 3, affinity_strength="strong")
        offered += [(strong.submit(crash_tasks.sign_slowly, self.path, n), n) for n in self.take(FEW // 4)]
        self.pool.resize_down_to(1)
        offered += [(self.pool.submit(crash_tasks.sign_slowly, self.path, n), n) for n in self.take(FEW)]
        self.pool.resize_up_to(3)
        for task, number in offered:
            self.settle(task, number)


@contextlib.contextmanager
def killing(pool: Pool, seed: str, kills: int = KILLS) -> Iterator[Callable[[], int]]:
    """Kill a worker that has started, now and then; gives how many were killed."""
    rng = random.Random(seed)
    over = threading.Event()
    killed: list[int] = []

    def kill() -> None:
        while len(killed) < kills and not over.is_set():
            time.sleep(rng.random() * 0.03)
            ready = [worker for worker in pool.workers if worker.state in ("idle", "running")]
            victims = [worker for worker in ready if worker.pid not in killed]
            if victims:
                victim = rng.choice(victims)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim.pid, signal.SIGKILL)
                killed.append(victim.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield lambda: len(killed)
    finally:
        over.set()
        thread.join()


# A death costs the task in hand; a worker has several coroutines, chunks and nested tasks there.
ONE_EACH = ("burst", "slow_burst", "light", "strong", "force", "priorities", "keyed", "main", "resized")


@pytest.mark.parametrize("kind", [*ONE_EACH, "coroutines", "mapped", "fork_join", "forgotten", "retried"])
def test_kills_during_traffic(kind: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.touch()
    with WorkerPool(max_workers=3, tasks_per_worker=0) as pool:
        pool.wait_ready(30)
        slots = pool.statistics().slots_free
        traffic = Traffic(pool, str(trace))
        with killing(pool, kind) as killed:
            end = time.monotonic() + 40
            while killed() < KILLS and time.monotonic() < end:
                getattr(traffic, kind)()
        pool.when_idle().result(50)
        wait_until(lambda: pool.statistics().slots_free == slots, 20.0)
        deaths = killed()
    assert deaths > 0
    entered = Counter(map(int, trace.read_text().split()))
    if kind == "retried":
        assert set(entered) == set(range(traffic.numbers))
        return
    assert {number for number, times in entered.items() if times > 1} == set()
    assert not traffic.refused & set(entered)
    assert not traffic.refused or kind == "keyed"
    lost = set(range(traffic.numbers)) - set(entered) - traffic.died - traffic.refused
    # A child that nobody waited for may fall with whoever had just begun it.
    assert len(lost) <= (deaths if kind == "forgotten" else 0), lost
    if kind in ONE_EACH:
        assert len(traffic.died) <= deaths


@pytest.mark.parametrize("method", ["exec", "spawn", "forkserver", "fork"])
def test_kills_while_messages_go_both_ways(method: str, tmp_path: Path) -> None:
    heard: list[int] = []
    answers: list[tuple[int, Any]] = []
    ended: set[int] = set()
    numbers = 0
    entry = crash_tasks.posting_entrypoint()
    with WorkerPool(entry, max_workers=2, tasks_per_worker=0, start_method=method) as pool:
        pool.on_message("number", lambda number, worker: heard.append(number))
        pool.on_message("answer", lambda question, worker: answers.append((question, worker.pid)))
        pool.wait_ready(30)
        with killing(pool, "messages", kills=4) as killed:
            end = time.monotonic() + 40
            while killed() < 4 and time.monotonic() < end:
                offered = [(pool.add_task(number), number) for number in range(numbers, numbers + FEW)]
                numbers += FEW
                for question in range(100):
                    pool.post_message_to_workers("ask", question)
                for task, number in offered:
                    with contextlib.suppress(WorkerDied):
                        assert task.result(50) == number
                        ended.add(number)
        # What a task posted before it ended has arrived, or will, and nothing comes twice.
        wait_until(lambda: ended <= set(heard), 20.0)
        assert max(Counter(heard).values()) == 1
        assert numbers - len(ended) <= killed() > 0
        # Whoever sits there now hears, and is heard.
        pool.wait_ready(30)

        def all_answer() -> bool:
            pool.post_message_to_workers("ask", -1)  # again: the last death may not be known yet
            return {pid for question, pid in answers if question == -1} >= {w.pid for w in pool.workers}

        wait_until(all_answer, 20.0)


def test_kills_while_tasks_are_cancelled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.touch()
    cancelled: set[int] = set()
    numbers = 0
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready(30)
        slots = pool.statistics().slots_free
        with killing(pool, "cancel") as killed:
            end = time.monotonic() + 40
            while killed() < KILLS and time.monotonic() < end:
                offered = []
                for number in range(numbers, numbers + FEW):
                    offered.append((number, pool.submit(crash_tasks.sign_slowly, str(trace), number)))
                numbers += FEW
                for number, task in offered[::2]:
                    if task.cancel():
                        cancelled.add(number)
                for number, task in offered:
                    try:
                        assert task.result(50) == number
                    except WorkerDied:
                        pass
                    except CancelledError:  # also one that ran, was asked to end, and fell with its worker
                        assert number % 2 == 0
        wait_until(lambda: pool.statistics().slots_free == slots, 20.0)
    entered = Counter(map(int, trace.read_text().split()))
    assert max(entered.values()) == 1
    assert not set(entered) & cancelled


def test_kills_while_two_threads_submit_and_a_third_waits_for_idle(tmp_path: Path) -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready(30)
        traffic = [Traffic(pool, str(tmp_path / str(number))) for number in range(2)]
        over = threading.Event()

        def work(mine: Traffic) -> None:
            while not over.is_set():
                mine.burst()

        threads = [threading.Thread(target=work, args=(mine,)) for mine in traffic]
        with killing(pool, "idle") as killed:
            for thread in threads:
                thread.start()
            end = time.monotonic() + 40
            while killed() < KILLS and time.monotonic() < end:
                with contextlib.suppress(TimeoutError):  # it may never be, with two who submit
                    pool.when_idle().result(0.05)
            over.set()
            for thread in threads:
                thread.join()
        pool.when_idle().result(30)
        assert pool.is_idle
    for mine in traffic:
        entered = Counter(map(int, Path(mine.path).read_text().split()))
        assert max(entered.values()) == 1
        assert set(range(mine.numbers)) - set(entered) <= mine.died
