"""A full arena: who waits, who fails, and that memory goes back.

SPDX-License-Identifier: BSD-3-Clause
"""

import contextlib
import gc
import os
import signal
import threading
import time
import types
from typing import Any

import array_tasks as tasks
import numpy as np
import pytest
from helpers import wait_until
from pool_support import Gate

from workpool import ArenaFull, PoolClosed, WorkerPool, current_client, trimming

Pool = WorkerPool[Any, Any]

MIB = 1 << 20


def test_add_task_waits_for_memory() -> None:
    with WorkerPool(tasks.total, max_workers=2, memory=8 * MIB) as pool:
        sent = [pool.add_task(np.full(300_000, i, dtype=float)) for i in range(40)]  # 2.4 MB each
        assert [task.result() for task in sent] == [300_000.0 * i for i in range(40)]


def test_results_that_are_kept_do_not_fill_it() -> None:
    with WorkerPool(max_workers=2, memory=8 * MIB) as pool:
        results = list(pool.map(tasks.identity, [np.full(100_000, i, dtype=float) for i in range(60)]))
        assert [int(result[5]) for result in results] == list(range(60))  # 48 MB
        made = [pool.submit(tasks.made, 100_000, float(i)).result() for i in range(30)]
        assert [int(result[5]) for result in made] == list(range(30))


def test_what_never_fits_fails_at_once() -> None:
    with WorkerPool(max_workers=1, memory=4 * MIB) as pool:
        waiting = pool.submit(tasks.nap, 0.3, np.ones(1000))
        with pytest.raises(ArenaFull, match="memory=") as caught:
            pool.submit(tasks.total, np.ones(1_000_000)).result()
        assert not waiting.done()
        assert caught.value.asked > 8_000_000 and caught.value.budget == 4 * MIB
        assert 0 < caught.value.free <= 4 * MIB
        with pytest.raises(ArenaFull) as caught:
            pool.submit(tasks.made, 1_000_000, 1.0).result()
        assert caught.value.asked > 8_000_000
        with pytest.raises(ArenaFull):
            pool.submit(np.ones, 1_000_000).result()
        assert pool.submit(tasks.total, np.ones(100)).result() == 100.0


def test_memory_that_the_caller_holds_is_an_error_and_not_for_ever() -> None:
    with WorkerPool(max_workers=1, memory=4 * MIB) as pool:
        held = [pool.zeros(100_000) for _ in range(4)]
        with pytest.raises(ArenaFull):
            pool.submit(tasks.total, np.ones(200_000)).result()
        assert pool.submit(pow, 2, 3).result() == 8
        del held
        gc.collect()
        assert pool.submit(tasks.total, np.ones(200_000)).result() == 200_000.0


def test_room_that_another_thread_makes_ends_the_wait() -> None:
    with WorkerPool(max_workers=2, memory=4 * MIB) as pool:
        held = [pool.zeros(100_000) for _ in range(4)]
        busy = pool.submit(tasks.nap, 0.5)
        timer = threading.Timer(0.2, held.clear)
        timer.start()
        assert pool.submit(tasks.total, np.ones(200_000)).result() == 200_000.0
        busy.result()
        timer.join()


def test_waiting_for_memory_can_be_interrupted(gate: Gate) -> None:
    with WorkerPool(max_workers=1, memory=4 * MIB) as pool:
        held = [pool.zeros(100_000) for _ in range(4)]
        busy = gate.hold(pool)
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            pool.submit(tasks.total, np.ones(200_000))
        assert not busy.done()
        timer.join()
        del held
        gate.open()


def test_a_worker_runs_its_own_tasks_instead() -> None:
    def many(count: int) -> float:
        client = current_client()
        children = [client.submit(tasks.total, np.full(100_000, i, dtype=float)) for i in range(count)]
        return sum(child.result() for child in children)

    with WorkerPool(max_workers=1, memory=4 * MIB) as pool:
        assert pool.submit(many, 30).result() == 100_000.0 * sum(range(30))


def test_statistics_tell_of_the_arena(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.submit(tasks.keep, "x", np.ones(1000)).result()
    before = pool.statistics()
    array = pool.zeros(100_000)
    pool.run_on_workers(tasks.keep, "x", array)
    result = pool.submit(tasks.made, 50_000, 1.0).result()
    told = pool.statistics()
    assert told.arena_bytes >= before.arena_bytes + 1_200_000
    assert told.arena_high_bytes >= told.arena_bytes
    assert told.arena_committed_bytes >= told.arena_bytes
    assert all(worker.leases >= 1 for worker in told.workers)
    assert sum(worker.arena_bytes for worker in told.workers) >= 400_000
    assert told.leases >= 1
    del result, array
    gc.collect()
    pool.run_on_workers(tasks.drop, "x")
    monkeypatch.setattr(trimming, "_LOOK_SECONDS", 0.2)
    wait_until(lambda: pool.statistics().arena_bytes < before.arena_bytes + 100_000)
    assert pool.statistics().arena_high_bytes >= told.arena_high_bytes


def test_memory_goes_back_to_the_system_at_rest(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trimming, "_LOOK_SECONDS", 0.3)
    pool.submit(tasks.total, np.ones(2_000_000)).result()
    assert pool.statistics().arena_committed_bytes > 16_000_000
    wait_until(lambda: pool.statistics().arena_committed_bytes < 4_000_000, 20)
    assert pool.submit(tasks.total, np.ones(2_000_000)).result() == 2_000_000.0


def test_memory_stays_while_it_is_used(pool: Pool) -> None:
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        pool.submit(tasks.total, np.ones(500_000)).result()
        assert pool.statistics().arena_committed_bytes > 4_000_000


def test_pool_that_ends_while_its_trimmer_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    class Slow(threading.Thread):
        """Starts late: another thread has time to end the pool before."""

        def start(self) -> None:
            threading.Thread(target=lambda: (pool.dispose(), ended.set())).start()
            ended.wait(0.3)
            super().start()

    names = {**vars(threading), "Thread": Slow}
    monkeypatch.setattr(trimming, "threading", types.SimpleNamespace(**names))
    with WorkerPool(max_workers=1) as pool:
        with contextlib.suppress(PoolClosed):  # it came too late
            pool.submit(tasks.total, np.ones(200_000))
        assert ended.wait(20)
