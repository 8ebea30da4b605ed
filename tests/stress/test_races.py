"""Races between threads of the parent that storms have found, each made likely.

SPDX-License-Identifier: BSD-3-Clause
"""

import concurrent.futures
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures._base import FINISHED, _AsCompletedWaiter
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import wait_until

from workpool import PoolClosed, WorkerPool

Pool = WorkerPool[Any, Any]


@pytest.fixture
def pool() -> Iterator[Pool]:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready(30)
        yield pool


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Threads change places as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_future_is_finished_in_one_step_with_telling_its_waiters(pool: Pool) -> None:
    # Else wait() and as_completed() count one that ends as they begin twice.
    task = pool.submit(time.sleep, 0.05)
    waiter = _AsCompletedWaiter()  # type: ignore[no-untyped-call]
    with task._condition:
        wait_until(lambda: task.outcome_code)  # a thread that gathers now waits for the condition
        finished = task._state == FINISHED
        task._waiters.append(waiter)
    wait_until(task.done)
    wait_until(lambda: finished or waiter.finished_futures)
    time.sleep(0.05)
    assert finished + len(waiter.finished_futures) == 1


@pytest.mark.usefixtures("restless_threads")
@pytest.mark.parametrize("seed", range(5))
def test_waits_that_begin_as_tasks_end(pool: Pool, seed: int) -> None:
    for number in range(40):
        offered = [pool.submit(tasks.echo, n) for n in range(10 * seed + number)]
        done, pending = concurrent.futures.wait(offered, 30)
        assert (len(done), len(pending)) == (len(offered), 0)
        offered = [pool.submit(tasks.echo, n) for n in range(10 * seed + number)]
        assert len(list(concurrent.futures.as_completed(offered, 30))) == len(offered)
        if offered:
            assert concurrent.futures.wait(offered, 30, FIRST_COMPLETED).done


@pytest.mark.usefixtures("restless_threads")
@pytest.mark.parametrize("buffersize", [None, 10])
def test_unordered_map_while_another_thread_offers_its_chunks(pool: Pool, buffersize: int | None) -> None:
    for _ in range(8):
        mapping = pool.map(abs, range(3000), chunksize=1, ordered=False, buffersize=buffersize)
        assert sorted(mapping) == list(range(3000))


@pytest.mark.usefixtures("restless_threads")
def test_map_that_is_dropped_while_another_thread_offers_its_chunks(pool: Pool) -> None:
    for taken in range(20):
        mapping = pool.map(abs, range(500), chunksize=1, ordered=bool(taken % 2))
        for _, _ in zip(range(taken), mapping, strict=False):
            pass
        mapping.close()  # type: ignore[attr-defined]
        pool.when_idle().result(30)


def test_pool_that_is_closed_while_a_function_is_stored(pool: Pool) -> None:
    def close() -> None:
        thread = threading.Thread(target=pool.shutdown)
        thread.start()
        thread.join()

    pool.submit(tasks.echo, 1).result()
    pool._seat.calm()
    pool._seat.on_stir = close  # called in the middle of it
    with pytest.raises(PoolClosed):
        pool.submit(lambda: None)
