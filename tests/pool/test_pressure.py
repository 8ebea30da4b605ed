"""A full arena: who waits, who fails, and that memory goes back.

SPDX-License-Identifier: BSD-3-Clause
"""

import contextlib
import functools
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


ITEMS = 300_000  # 2.4 MB, of a budget of 8


def filled(i: float) -> Any:
    return np.full(ITEMS, float(i))


def grown(array: Any) -> Any:
    return np.concatenate([array, array + 1])


def arrays(count: int) -> Any:
    return (filled(i) for i in range(count))


MAPS: dict[str, Any] = {
    "plain": lambda pool, fn, items: pool.map(fn, items),
    "chunks of 1": lambda pool, fn, items: pool.map(fn, items, chunksize=1),
    "unordered": lambda pool, fn, items: pool.map(fn, items, ordered=False),
    "buffersize": lambda pool, fn, items: pool.map(fn, items, buffersize=4),
    "unordered, buffersize": lambda pool, fn, items: pool.map(fn, items, buffersize=40, ordered=False),
    "all kept": lambda pool, fn, items: list(pool.map(fn, items)),
    "submit": lambda pool, fn, items: [task.result() for task in [pool.submit(fn, item) for item in items]],
    "known costs": lambda pool, fn, items: pool.options(cost=1e-4, key=str).map(fn, items),
    "a callable": lambda pool, fn, items: pool.map(functools.partial(fn), items),
}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", MAPS)
def test_results_that_never_fit_all_at_once_come_all_the_same(name: str, workers: int) -> None:
    with WorkerPool(max_workers=workers, tasks_per_worker=0, memory=8 * MIB) as pool:
        for _ in range(2):  # the second time it is known how large they are
            results = [int(array[5]) for array in MAPS[name](pool, filled, range(40))]
            assert (results if "unordered" not in name else sorted(results)) == list(range(40))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", [name for name in MAPS if name != "known costs"])
def test_arguments_leave_room_for_results(name: str, workers: int) -> None:
    offer = MAPS[name]
    with WorkerPool(max_workers=workers, tasks_per_worker=0, memory=16 * MIB) as pool:
        for fn in (np.negative, grown):
            sums = [int(abs(array).sum()) for array in offer(pool, fn, arrays(20))]
            expected = [int(abs(fn(array)).sum()) for array in arrays(20)]
            assert (sums if "unordered" not in name else sorted(sums)) == sorted(expected)


@pytest.mark.parametrize("workers", [1, 3])
def test_tasks_inside_tasks_leave_room_too(workers: int) -> None:
    def inside(name: str, count: int) -> list[int]:
        client = current_client()
        if name == "map":
            return [int(array[5]) for array in client.map(filled, range(count))]
        if name == "kept":
            return [int(array[5]) for array in list(client.map(np.negative, arrays(count)))]
        tasks = [client.submit(np.negative, array) for array in arrays(count)]
        return [int(task.result()[5]) for task in tasks]

    with WorkerPool(max_workers=workers, tasks_per_worker=0, memory=32 * MIB) as pool:
        for name, sign in (("map", 1), ("kept", -1), ("submit", -1)):
            sent = [pool.submit(inside, name, 12) for _ in range(workers)]
            assert [task.result() for task in sent] == [[sign * i for i in range(12)]] * workers


def test_a_chunk_whose_results_never_fit_is_an_error_that_names_them() -> None:
    with WorkerPool(max_workers=2, memory=8 * MIB) as pool:
        with pytest.raises(ArenaFull, match=r"memory=.*chunksize=") as caught:
            list(pool.map(filled, range(40), chunksize=10))
        assert caught.value.asked > 10 * ITEMS * 8
        assert len(list(pool.map(filled, range(40)))) == 40
        assert pool.submit(pow, 2, 3).result() == 8


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
