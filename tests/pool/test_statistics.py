"""statistics(): what it counts, and that a snapshot is one.

SPDX-License-Identifier: BSD-3-Clause
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import wait_until
from pool_support import Gate

from workpool import PoolClosed, PoolStatistics, WorkerPool, current_client

Pool = WorkerPool[Any, Any]


@pytest.fixture(scope="module")
def shared() -> Iterator[Pool]:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready()
        yield pool


def idle(pool: Pool) -> PoolStatistics:
    """A snapshot of a pool in which nothing is on its way any more."""
    wait_until(lambda: pool.is_idle and [worker.state for worker in pool.workers] == ["idle", "idle"])
    return pool.statistics()


def test_new_pool_has_counted_nothing() -> None:
    with WorkerPool(max_workers=2, memory=4 << 20) as pool:
        told = pool.statistics()
        counts = (told.tasks_submitted, told.tasks_done, told.tasks_backlog, told.tasks_queued)
        assert (counts, told.tasks_running, told.workers) == ((0, 0, 0, 0), 0, ())
        assert told.slots_free >= 16384
        assert told.segment_bytes > 0
        assert 4 << 20 <= told.arena_budget_bytes <= 1.05 * (4 << 20)


def test_submitted_and_done_count_every_task_however_it_ends(shared: Pool, gate: Gate) -> None:
    before = idle(shared)
    held = [gate.hold(shared) for _ in range(2)]
    futures = [shared.submit(tasks.echo, number) for number in range(50)]
    futures += [shared.submit(tasks.divide, 1, 0) for _ in range(50)]
    cancelled = [shared.submit(tasks.echo, number) for number in range(10)]
    assert all(task.cancel() for task in cancelled)
    gate.open()
    for task in [*held, *futures]:
        task.exception(20)
    after = idle(shared)
    assert after.tasks_submitted - before.tasks_submitted == 112
    assert after.tasks_done - before.tasks_done == 112
    assert after.slots_free == before.slots_free
    ran = sum(worker.tasks_run for worker in after.workers) - sum(w.tasks_run for w in before.workers)
    assert ran == 102


def test_what_runs_what_is_queued_and_what_waits_for_a_slot_are_told_apart(shared: Pool, gate: Gate) -> None:
    slots = idle(shared).slots_free
    held = [gate.hold(shared) for _ in range(2)]
    queued = [shared.submit(tasks.echo, number) for number in range(30)]
    told = shared.statistics()
    assert (told.tasks_running, told.tasks_queued, told.tasks_backlog) == (2, 30, 0)
    assert told.slots_free == slots - 32
    more = [shared.submit(tasks.echo, number) for number in range(17_000)]
    told = shared.statistics()
    assert told.tasks_backlog > 0
    assert told.tasks_running + told.tasks_queued + told.tasks_backlog == 2 + 30 + 17_000
    gate.open()
    for task in [*held, *queued, *more]:
        task.result(30)
    told = idle(shared)
    assert (told.tasks_running, told.tasks_queued, told.tasks_backlog) == (0, 0, 0)
    assert told.slots_free == slots


def test_workers_are_told_of_by_id_with_what_they_did(shared: Pool, gate: Gate) -> None:
    before = idle(shared)
    held = gate.hold(shared)
    assert held.worker is not None
    told = {worker.id: worker for worker in shared.statistics().workers}
    assert {number: worker.pid for number, worker in told.items()} == {w.id: w.pid for w in shared.workers}
    assert told[held.worker.id].state == "running"
    gate.open()
    held.result(20)
    number = held.worker.id - 1
    after = idle(shared)
    assert after.workers[number].tasks_run - before.workers[number].tasks_run == 1
    spent = after.workers[number].busy_seconds - before.workers[number].busy_seconds
    assert held.task_cost is not None
    assert spent == pytest.approx(held.task_cost, rel=0.5, abs=0.01)
    assert after.workers[number].parks > 0


def test_nested_tasks_are_run_but_not_submitted_by_the_parent(shared: Pool) -> None:
    def ask(n: int) -> int:
        return sum(task.result() for task in [current_client().submit(tasks.echo, 1) for _ in range(n)])

    before = idle(shared)
    assert shared.submit(ask, 25).result(20) == 25
    after = idle(shared)
    assert after.tasks_submitted - before.tasks_submitted == 1
    assert sum(w.tasks_run for w in after.workers) - sum(w.tasks_run for w in before.workers) == 26


def test_wake_of_a_sleeping_worker_is_counted() -> None:
    with WorkerPool(max_workers=1, spin=0) as pool:
        pool.wait_ready(20)

        def woke() -> bool:
            pool.submit(tasks.echo, 1).result(20)
            return pool.statistics().wakes > 0 and pool.statistics().workers[0].parks > 1

        wait_until(woke)


def test_replacement_goes_on_counting() -> None:
    with WorkerPool(max_workers=1) as pool:
        for number in range(10):
            pool.submit(tasks.echo, number).result(20)
        pid = pool.workers[0].pid
        pool.submit(tasks.exit_at_once, 1).exception(20)
        pool.submit(tasks.echo, 1).result(20)
        (worker,) = pool.statistics().workers
        assert (worker.id, worker.pid != pid) == (1, True)
        assert worker.tasks_run >= 11


def test_snapshot_is_frozen_and_does_not_move(shared: Pool) -> None:
    told = shared.statistics()
    copy = dataclasses.asdict(told)
    with pytest.raises(dataclasses.FrozenInstanceError):
        told.tasks_done = 5  # type: ignore[misc]
    shared.submit(tasks.echo, 1).result(20)
    assert dataclasses.asdict(told) == copy
    assert shared.statistics().tasks_submitted == told.tasks_submitted + 1


def test_closed_pool_has_no_statistics() -> None:
    pool: Pool = WorkerPool(max_workers=1)
    pool.shutdown()
    with pytest.raises(PoolClosed):
        pool.statistics()
