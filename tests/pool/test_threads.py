"""Many threads of the parent use one pool at the same time.

SPDX-License-Identifier: BSD-3-Clause
"""

import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import wait_until
from pool_support import Gate

from workpool import WorkerPool, gather

Pool = WorkerPool[Any, Any]


@pytest.fixture
def restless() -> Iterator[None]:
    """Have the interpreter switch threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_eight_threads_submit_and_wait_at_once(pool: Pool, restless: None) -> None:
    def run(number: int) -> list[int]:
        single = [pool.submit(tasks.echo, number + i).result(20) for i in range(100)]
        futures = [pool.submit(tasks.echo, number + 100 + i) for i in range(100)]
        return [*single, *(task.result(20) for task in futures)]

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(run, range(0, 8000, 1000)))
    assert results == [list(range(n, n + 200)) for n in range(0, 8000, 1000)]


def test_results_are_waited_for_in_another_thread_than_the_submitters(pool: Pool, restless: None) -> None:
    futures = [pool.submit(tasks.echo, i) for i in range(400)]
    random.Random(1).shuffle(futures)
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda task: task.result(20), futures))
    assert sorted(results) == list(range(400))


def test_many_threads_wait_for_one_task(pool: Pool, gate: Gate) -> None:
    task = gate.hold(pool, 5)
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(task.result, 20) for _ in range(8)]
        gate.open()
        assert [one.result(20) for one in waiting] == [5] * 8


def test_thread_told_to_lead_as_its_own_time_is_up_hands_the_lead_on(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LateLock:
        """A lock whose waiter gets it, but runs again only after its own time-out."""

        def __init__(self) -> None:
            self._lock = threading.Lock()
            self.release = self._lock.release

        def acquire(self, timeout: float = -1) -> bool:
            got = self._lock.acquire(timeout=30 if timeout > 0 else timeout)
            time.sleep(max(timeout, 0))
            return got

    class Threading:
        Lock = LateLock

        def __getattr__(self, name: str) -> Any:
            return getattr(threading, name)

    import workpool.gather

    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool, ThreadPoolExecutor(3) as threads:
        followers = pool._gatherer._followers
        short, held = pool.submit(time.sleep, 0.5), gate.hold(pool)
        leader = threads.submit(short.result, 20)
        wait_until(leader.running)
        with monkeypatch.context() as patch:
            patch.setattr(workpool.gather, "threading", Threading())
            impatient = threads.submit(held.result, 0.3)
            wait_until(lambda: len(followers) == 1)
        last = pool.submit(time.sleep, 0.3)
        patient = threads.submit(last.result, 20)
        wait_until(lambda: len(followers) == 2)
        begun = time.monotonic()
        leader.result(20)
        with pytest.raises(TimeoutError):
            impatient.result(20)
        patient.result(20)
        assert time.monotonic() - begun < 5
        gate.open()


def test_threads_that_look_in_again_and_again_do_not_hold_up_the_others(
    pool: Pool, gate: Gate, restless: None
) -> None:
    held = gate.hold(pool)
    finished = threading.Event()

    def impatient() -> None:
        while not finished.is_set():
            try:
                held.result(timeout=0.0005)
            except TimeoutError:
                pass

    def patient() -> list[int]:
        return [pool.submit(tasks.echo, i).result(20) for i in range(300)]

    with ThreadPoolExecutor(6) as threads:
        crowd = [threads.submit(impatient) for _ in range(3)]
        waits = [threads.submit(patient) for _ in range(3)]
        try:
            assert [one.result(25) for one in waits] == [list(range(300))] * 3
        finally:
            finished.set()
            gate.open()
        for one in crowd:
            one.result()


def test_short_tasks_are_not_held_up_by_a_thread_that_waits_for_a_long_one(pool: Pool, gate: Gate) -> None:
    slow = gate.hold(pool)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(slow.result, 60)
        worst = 0.0
        for i in range(3000):
            begun = time.perf_counter()
            assert pool.submit(tasks.echo, i).result(20) == i
            worst = max(worst, time.perf_counter() - begun)
        gate.open()
        waiting.result(20)
    assert worst < 0.4


def test_cancelling_and_waiting_and_submitting_at_once_loses_nothing(pool: Pool, restless: None) -> None:
    def run(seed: int) -> int:
        dice = random.Random(seed)
        settled = 0
        for _ in range(40):
            futures = [pool.submit(tasks.echo, i) for i in range(10)]
            for task in dice.sample(futures, 5):
                task.cancel()
            for task in futures:
                if task.cancelled() or task.exception(20) is None:
                    settled += 1
        return settled

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(run, range(6))) == [400] * 6


def test_threads_that_submit_beyond_the_slots_while_others_cancel(restless: None, gate: Gate) -> None:
    with WorkerPool(max_workers=2) as pool, ThreadPoolExecutor(4) as threads:

        def run(number: int) -> int:
            futures = [pool.submit(tasks.echo, i) for i in range(6000)]
            cancelled = sum(task.cancel() for task in futures[::50])
            return cancelled + sum(task.result(25) is not None for task in futures if not task.cancelled())

        assert list(threads.map(run, range(4))) == [6000] * 4


def test_pool_made_and_ended_in_threads_at_once() -> None:
    def run(number: int) -> Any:
        with WorkerPool(max_workers=1) as pool:
            return pool.submit(tasks.echo, number).result(20)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(run, range(8))) == list(range(8))


def test_shutdown_while_others_submit_loses_no_accepted_task() -> None:
    from workpool import PoolClosed

    for _ in range(5):
        pool = WorkerPool(max_workers=1)
        pool.submit(tasks.echo, 0).result()
        accepted: list[Any] = []

        def submit() -> None:
            try:
                while True:
                    accepted.append(pool.submit(tasks.echo, 1))  # noqa: B023
            except PoolClosed:
                pass

        threads = [threading.Thread(target=submit) for _ in range(3)]
        for thread in threads:
            thread.start()
        pool.shutdown()
        for thread in threads:
            thread.join()
        assert {task.result(10) for task in accepted} <= {1}


def test_a_leader_learns_of_what_another_thread_has_gathered(
    pool: Pool, restless: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The outcome is announced, another thread takes it, and only then the leader arms for its
    # sleep: nothing is left that would wake it but its look for signals.
    monkeypatch.setattr(gather, "_SIGNAL_CHECK_SECONDS", 600.0)
    for _ in range(8000):
        sent = [pool.submit(tasks.echo, number) for number in range(4)]
        sent[1].add_done_callback(lambda task: None)  # by the gather thread, unless one leads
        assert [task.result() for task in sent] == [0, 1, 2, 3]
    for _ in range(4000):
        assert list(pool.map(tasks.echo, range(20))) == list(range(20))
