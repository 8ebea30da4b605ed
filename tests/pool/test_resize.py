"""Size: launching and retiring workers, and doing something on each.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import is_alive, wait_until
from placement_tasks import bound, hold_seat, nap, use, where, where_and_pid
from pool_support import Gate

from workpool import PoolClosed, WorkerDied, WorkerPool

Pool = WorkerPool[Any, Any]


def ids(pool: Pool) -> list[int]:
    return [worker.id for worker in pool.workers]


@pytest.mark.parametrize("method", ["exec", "spawn", "forkserver"])
def test_resize_up_to_launches_until_there_are_so_many(method: str) -> None:
    with WorkerPool(max_workers=3, start_method=method) as pool:
        pool.resize_up_to(2)
        assert ids(pool) == [1, 2]
        pool.resize_up_to(1)
        assert ids(pool) == [1, 2]
        pool.resize_up_to(3)
        assert ids(pool) == [1, 2, 3]
        pool.wait_ready(30)
        assert pool.run_on_workers(where) == [1, 2, 3]


def test_sizes_out_of_bounds_are_refused(pool: Pool) -> None:
    for n in (3, 0, -1):
        with pytest.raises(ValueError, match=r"from 1 to 2 \(max_workers\)"):
            pool.resize_up_to(n)
    for n in (3, -1):
        with pytest.raises(ValueError, match="from 0 to 2"):
            pool.resize_down_to(n)
    with pytest.raises(TypeError):
        pool.resize_up_to(1.0)  # type: ignore[arg-type]
    pool.shutdown()
    with pytest.raises(PoolClosed):
        pool.resize_down_to(1)


def test_an_idle_worker_is_retired_first(pool: Pool, gate: Gate) -> None:
    pool.wait_ready(20)
    held = hold_seat(pool, 2, gate)
    first = pool.workers[0].pid
    pool.resize_down_to(1)
    assert ids(pool) == [2]
    wait_until(lambda: not is_alive(first))
    gate.open()
    assert held.result(20) == 2
    pool.resize_up_to(2)
    assert ids(pool) == [1, 2]
    wait_until(lambda: ids(pool) == [1, 2] and pool.workers[0].pid != first)


def test_a_busy_worker_ends_its_task_before_it_goes(pool: Pool, gate: Gate) -> None:
    pool.wait_ready(20)
    for seat in (1, 2):
        hold_seat(pool, seat, gate)
    held = pool._seat.unfinished()
    second = pool.workers[1].pid
    pool.resize_down_to(1)
    assert ids(pool) == [1]
    time.sleep(0.05)
    assert is_alive(second)
    gate.open()
    assert sorted(task.result(20) for task in held) == [1, 2]
    wait_until(lambda: not is_alive(second))
    assert pool.submit(where).result(20) == 1


def test_what_is_queued_at_a_retired_worker_is_run_by_others(pool: Pool, gate: Gate, tmp_path: Path) -> None:
    pool.wait_ready(20)
    doors = [Gate(tmp_path / name) for name in ("one", "two")]
    for seat, door in enumerate(doors, 1):
        door._folder.mkdir()
        hold_seat(pool, seat, door)
    queued = [bound(pool, 2, strength) for strength in ("light", "strong") * 10]
    queued += [pool.submit(where) for _ in range(10)]
    pool.resize_down_to(1)
    assert ids(pool) == [1]
    doors[0].open()
    assert [task.result(20) for task in queued] == [1] * 30  # though worker 2 is held still
    doors[1].open()


def test_tasks_nested_in_a_retiring_worker_are_not_lost(pool: Pool) -> None:
    pool.wait_ready(20)
    parents = [pool.submit(nest, 30) for _ in range(4)]
    pool.resize_down_to(1)
    assert [task.result(20) for task in parents] == [sum(range(30))] * 4


def nest(count: int) -> int:
    from workpool import current_client

    children = [current_client().submit(abs, i) for i in range(count)]
    return sum(task.result() for task in children)


def test_a_retiring_worker_runs_what_is_bound_to_it_and_takes_no_more(pool: Pool, gate: Gate) -> None:
    pool.wait_ready(20)
    hold_seat(pool, 1, gate), hold_seat(pool, 2, gate)
    queued = [bound(pool, 2, "force", where_and_pid) for _ in range(5)]
    second = pool.workers[1].pid
    pool.resize_down_to(1)
    assert ids(pool) == [1]
    with pytest.raises(ValueError, match="worker 2 is gone: resize_down_to"):
        bound(pool, 2, "force")
    assert bound(pool, 2, "strong") and bound(pool, 2, "light")
    gate.open()
    assert {task.result(20) for task in queued} == {(2, second)}
    wait_until(lambda: not is_alive(second))
    pool.when_idle().result(20)


def test_a_retiring_worker_that_dies_is_replaced_for_what_is_bound_to_it(pool: Pool, gate: Gate) -> None:
    pool.wait_ready(20)
    hold_seat(pool, 1, gate)
    held = hold_seat(pool, 2, gate)
    task = bound(pool, 2, "force", where_and_pid)
    second = pool.workers[1].pid
    pool.resize_down_to(1)
    os.kill(second, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        held.result(20)
    seat, pid = task.result(20)
    assert seat == 2 and pid != second and ids(pool) == [1]
    wait_until(lambda: not is_alive(pid))
    gate.open()


def test_demand_launches_a_retired_worker_again() -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=3) as pool:
        pool.resize_up_to(2)
        pool.wait_ready(20)
        pool.resize_down_to(1)
        assert ids(pool) == [1]
        for task in [pool.submit(nap, 0.05) for _ in range(10)]:
            task.result(20)
        assert ids(pool) == [1, 2]
        assert bound(pool, 2, "force").result(20) == 2
        pool.resize_down_to(0)
        assert ids(pool) == []
        assert pool.submit(where).result(20) == 1


def test_retiring_all_of_them_leaves_one_while_there_is_work(pool: Pool, gate: Gate) -> None:
    pool.wait_ready(20)
    hold_seat(pool, 1, gate), hold_seat(pool, 2, gate)
    queued = [pool.submit(where) for _ in range(5)]
    pool.resize_down_to(0)
    gate.open()
    assert all(task.result(20) in (1, 2) for task in queued)


def test_run_on_workers_of_a_new_pool_runs_on_all_it_shall_have() -> None:
    with WorkerPool(max_workers=3, tasks_per_worker=0) as pool:  # its thread has hardly begun to launch
        assert pool.run_on_workers(where) == [1, 2, 3]


def test_run_on_workers_runs_once_on_each_in_the_order_of_ids(pool: Pool) -> None:
    pool.wait_ready(20)
    assert pool.run_on_workers(where) == [1, 2]
    assert pool.run_on_workers(tasks.add, 1, 2) == [3, 3]
    use(pool, 2, 3)
    with pytest.raises(ValueError, match="three"):
        pool.run_on_workers(tasks.fail_on_three, 3)
    with WorkerPool(max_workers=2) as empty:
        assert empty.run_on_workers(where) == []


def test_storm_of_sizes_loses_nothing(pool: Pool) -> None:
    queued: list[Any] = []
    for i in range(12):
        queued += [pool.submit(nap, 0.001) for _ in range(20)]
        queued += [bound(pool, 1, "strong", nap, 0.001) for _ in range(5)]
        pool.resize_down_to(1)
        if i % 3 == 2:
            os.kill(pool.workers[0].pid, signal.SIGKILL)
        pool.resize_up_to(2)
    errors = [task.exception(20) for task in queued]
    assert all(error is None or isinstance(error, WorkerDied) for error in errors)
    assert sum(error is not None for error in errors) <= 4
