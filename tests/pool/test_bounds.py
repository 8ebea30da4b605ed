"""Bounds: unfinished tasks, keys that kill, and what a worker may do before it is replaced.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import itertools
import os
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import cancel_tasks as jobs
import pool_tasks as tasks
import pytest
from helpers import ROOT, wait_until
from pool_support import Gate

from workpool import PoolClosed, QueueFull, Task, WorkerDied, WorkerPool

Pool = WorkerPool[Any, Any]


def die(path: str) -> NoReturn:
    Path(f"{path}.{os.getpid()}.died").touch()
    os._exit(3)


def grow(megabytes: int) -> int:
    keep.append(bytearray(os.urandom(1 << 20) * megabytes))
    return os.getpid()


keep: list[bytearray] = []


# ---- max_pending ---------------------------------------------------------------------


def test_a_full_pool_has_the_next_task_wait_for_room(gate: Gate) -> None:
    with WorkerPool(max_workers=1, max_pending=3) as pool:
        held = gate.hold(pool)
        first = [pool.submit(tasks.echo, n) for n in range(2)]
        came: list[Task[Any]] = []
        thread = threading.Thread(target=lambda: came.append(pool.submit(tasks.echo, 9)))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive() and not came
        gate.open()
        thread.join(20)
        assert came[0].result(20) == 9
        assert [task.result(20) for task in [held, *first]] == [None, 0, 1]


def test_a_full_pool_raises_if_told_to(gate: Gate) -> None:
    with WorkerPool(max_workers=1, max_pending=2, when_full="raise") as pool:
        held = gate.hold(pool)
        pool.submit(tasks.echo, 1)
        with pytest.raises(QueueFull, match="2 tasks"):
            pool.submit(tasks.echo, 2)
        gate.open()
        held.result(20)
        pool.when_idle().result(20)
        assert pool.submit(tasks.echo, 3).result(20) == 3


def test_threads_that_offer_at_once_never_exceed_the_bound() -> None:
    with WorkerPool(max_workers=2, max_pending=5) as pool:
        most: list[int] = []

        def offer() -> None:
            for n in range(200):
                pool.submit(tasks.echo, n)
                most.append(pool._gatherer.unfinished)

        threads = [threading.Thread(target=offer) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(most) == 800 and max(most) <= 5


def test_offering_from_a_callback_of_a_full_pool_goes_on() -> None:
    with WorkerPool(max_workers=1, max_pending=2) as pool:
        more: list[Task[Any]] = []
        for n in range(50):
            task = pool.submit(tasks.echo, n)
            task.add_done_callback(lambda _: more.append(pool.submit(tasks.echo, -1)))
        wait_until(lambda: len(more) == 50, timeout=30.0)


def test_a_full_pool_does_not_hold_up_the_event_loop(gate: Gate) -> None:
    with WorkerPool(tasks.echo, max_workers=1, max_pending=2) as pool:
        gate.hold(pool)
        pool.submit(tasks.echo, 0)

        async def main() -> tuple[int, list[Any]]:
            offered = asyncio.ensure_future(pool.add_task_async(5))
            turns = 0
            while turns < 20:
                await asyncio.sleep(0.005)
                assert not offered.done()
                turns += 1
            gate.open()
            results = [await (await offered)]
            for n in range(100):
                results.append(await (await pool.submit_async(tasks.echo, n)))
            return turns, results

        turns, results = asyncio.run(main())
        assert turns == 20 and results == [5, *range(100)]


def test_a_place_that_a_coroutine_waited_for_is_not_taken_by_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with WorkerPool(tasks.echo, max_workers=1, max_pending=1) as pool:
        add_task, threads = pool.add_task, []

        def add_task_late(arg: int) -> Any:
            thread = threading.Thread(target=pool.submit, args=(tasks.echo, 0))
            thread.start()
            thread.join(0.1)
            threads.append(thread)
            task = add_task(arg)
            assert thread.is_alive()  # it waits: we have not, which would have held up the loop
            return task

        async def main() -> int:
            with pytest.raises(ValueError, match="timeout"):
                await pool.add_task_async(0, timeout=-1.0)  # its place is free again
            monkeypatch.setattr(pool, "add_task", add_task_late)
            return await (await pool.add_task_async(5))

        assert asyncio.run(main()) == 5
        for thread in threads:
            thread.join(20)


def test_who_waits_for_room_is_told_when_the_pool_is_shut(gate: Gate) -> None:
    pool: Pool = WorkerPool(max_workers=1, max_pending=1)
    gate.hold(pool)
    errors: list[BaseException] = []

    def offer() -> None:
        try:
            pool.submit(tasks.echo, 1)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=offer)
    thread.start()
    wait_until(lambda: pool._gatherer._conditions, timeout=20.0)
    pool.shutdown(wait=False)
    gate.open()
    thread.join(20)
    assert [type(error) for error in errors] == [PoolClosed]
    pool.shutdown()


def test_a_map_with_a_buffer_reads_no_more_than_that_of_an_endless_iterator() -> None:
    read = 0

    def numbers() -> Any:
        nonlocal read
        while True:
            read += 1
            yield read

    with WorkerPool(max_workers=2) as pool:
        results = pool.map(tasks.echo, numbers(), buffersize=16)
        assert [next(results) for _ in range(100)] == list(range(1, 101))
        assert read <= 100 + 16 + 1


def test_an_endless_map_keeps_nothing_of_what_was_taken() -> None:
    with WorkerPool(max_workers=1) as pool:
        results = pool.map(tasks.echo, itertools.count(), buffersize=64)
        for _ in range(5000):
            next(results)
        mapping: Any = results._mapping
        assert mapping._arrived.qsize() <= 64 and len(mapping._tasks) <= 64


@pytest.mark.parametrize("option", ["max_pending", "max_tasks_per_child", "max_memory_per_child"])
def test_bounds_are_positive(option: str) -> None:
    with pytest.raises(ValueError, match=option):
        WorkerPool(max_workers=1, **{option: 0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="when_full"):
        WorkerPool(max_workers=1, when_full="drop")


# ---- quarantine ----------------------------------------------------------------------


def test_a_key_that_killed_two_workers_fails_at_once(tmp_path: Path) -> None:
    with WorkerPool(max_workers=1) as pool:
        for _ in range(2):
            with pytest.raises(WorkerDied, match="exited with code 3"):
                pool.options(key="bad").submit(die, str(tmp_path / "a")).result(20)
        begun = time.monotonic()
        with pytest.raises(WorkerDied, match=r"key 'bad'\) is not run: 2 workers died") as caught:
            pool.options(key="bad").submit(tasks.echo, 1).result(20)
        assert time.monotonic() - begun < 10 and caught.value.deaths == 2
        cure = "once the cause is gone, use another key or a new pool"
        assert str(caught.value).endswith(cure)
        assert cure in " ".join((ROOT / "docs/control.md").read_text().split())
        assert pool.options(key="good").submit(tasks.echo, 1).result(20) == 1
        assert len(list(tmp_path.glob("*.died"))) == 2


def test_retries_and_queued_tasks_of_such_a_key_end_too(tmp_path: Path) -> None:
    with WorkerPool(max_workers=1) as pool:
        bad = pool.options(key="bad", retries=50).submit(die, str(tmp_path / "a"))
        queued = [pool.options(key="bad", retries=50).submit(die, str(tmp_path / "a")) for _ in range(5)]
        others = [pool.options(key=n).submit(tasks.echo, n) for n in range(20)]
        for task in [bad, *queued]:
            with pytest.raises(WorkerDied):
                task.result(20)
        assert [task.result(20) for task in others] == list(range(20))
        assert len(list(tmp_path.glob("*.died"))) == 2


def test_tasks_see_which_attempt_they_are(tmp_path: Path) -> None:
    with WorkerPool(max_workers=1) as pool:
        assert pool.submit(jobs.attempt_of).result(20) == 1
        assert pool.options(retries=3).submit(jobs.die_until_attempt, 3).result(20) == 3


def test_forced_cancels_do_not_count_as_deaths(tmp_path: Path) -> None:
    with WorkerPool(max_workers=1, grace=0.05) as pool:
        for n in range(3):
            task = pool.options(key="slow", timeout=0.05).submit(jobs.in_c_code, str(tmp_path / str(n)))
            assert type(task.exception(20)).__name__ == "TaskTimeout"
        assert pool.options(key="slow").submit(tasks.echo, 1).result(20) == 1


# ---- replacement ---------------------------------------------------------------------


def test_a_worker_is_replaced_after_so_many_tasks() -> None:
    with WorkerPool(max_workers=1, max_tasks_per_child=5) as pool:
        pids = [pool.submit(tasks.pid_of).result(20) for _ in range(20)]
    assert [len(list(group)) for _, group in itertools.groupby(pids)] == [5, 5, 5, 5]


def test_no_task_is_lost_while_workers_are_replaced() -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=0, max_tasks_per_child=50) as pool:
        results = [pool.submit(tasks.echo, n) for n in range(1000)]
        coroutines = [pool.submit(jobs.briefly, n) for n in range(200)]
        assert [task.result(60) for task in results] == list(range(1000))
        assert [task.result(60) for task in coroutines] == list(range(200))
        assert len(pool.workers) >= 1


def test_a_worker_that_grew_is_replaced() -> None:
    with WorkerPool(max_workers=1, max_memory_per_child=200 << 20) as pool:
        pids = [pool.submit(grow, 60).result(30) for _ in range(12)]
        assert 2 <= len(set(pids)) <= 6
        assert pool.submit(tasks.echo, 1).result(20) == 1


def test_workers_that_are_replaced_run_their_exit_hooks_and_break_nothing(tmp_path: Path) -> None:
    with WorkerPool(max_workers=2, max_tasks_per_child=1) as pool:
        assert sorted(pool.map(tasks.echo, range(20), chunksize=1)) == list(range(20))
        pool.wait_ready(20)


# ---- the arguments of a pool ---------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": "a\0b"}, ValueError),
        ({"name": "\ud800"}, ValueError),
        ({"name": 5}, TypeError),
        ({"memory": 1 << 63}, ValueError),
        ({"memory": 1 << 70}, ValueError),
        ({"grace": float("nan")}, ValueError),
        ({"spin": float("nan")}, ValueError),
        ({"tasks_per_worker": float("nan")}, ValueError),
    ],
)
def test_a_pools_argument_that_makes_no_sense_is_named(
    options: dict[str, Any], error: type[Exception]
) -> None:
    [name] = options
    with pytest.raises(error, match=f"^{name} must be "):
        WorkerPool(max_workers=1, **options)
