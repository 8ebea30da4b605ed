"""A pool from its first worker to its end: ready, idle, shut down, disposed, dropped.

SPDX-License-Identifier: BSD-3-Clause
"""

import gc
import os
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import children_of, is_alive, wait_until
from pool_support import Gate

from workpool import ArenaFull, PoolClosed, WorkerDied, WorkerPool, current_client

Pool = WorkerPool[Any, Any]


@pytest.fixture(scope="module")
def shared() -> Iterator[Pool]:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready()
        yield pool


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "workpool" in thread.name}


# ---- launching -----------------------------------------------------------------------------


def test_new_pool_has_no_worker_until_there_is_work() -> None:
    WorkerPool(max_workers=1).shutdown()  # the standard library's resource tracker starts with the first
    before = children_of(os.getpid())
    with WorkerPool(max_workers=2) as pool:
        assert pool.workers == ()
        assert pool.is_idle
        assert children_of(os.getpid()) == before
        pool.submit(tasks.echo, 1).result(20)
        assert len(pool.workers) == 1


def test_one_worker_is_launched_for_so_many_tasks_and_a_further_one_for_more(gate: Gate) -> None:
    with WorkerPool(max_workers=3, tasks_per_worker=2) as pool:
        gate.hold(pool)
        pool.submit(tasks.echo, 2)
        assert len(pool.workers) == 1
        third = pool.submit(tasks.echo, 3)  # three for one worker are more than two
        assert third.result(20) == 3  # by the second worker: the first is held
        assert len(pool.workers) == 2
        gate.hold(pool)
        for number in range(3):  # five are unfinished
            pool.submit(tasks.echo, number)
        wait_until(lambda: len(pool.workers) == 3)
        gate.open()


def test_finished_tasks_do_not_launch_workers() -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=2) as pool:
        for number in range(50):
            assert pool.submit(tasks.echo, number).result(20) == number
        assert len(pool.workers) == 1


def test_tasks_per_worker_of_0_launches_all_at_once_and_before_any_task() -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready(20)
        assert [worker.id for worker in pool.workers] == [1, 2]
        assert len({worker.pid for worker in pool.workers} & children_of(os.getpid())) == 2


def test_map_launches_for_its_items() -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=3) as pool:
        assert list(pool.map(tasks.echo, range(3))) == [0, 1, 2]
        assert len(pool.workers) == 1
        list(pool.map(tasks.echo, range(100)))
        wait_until(lambda: len(pool.workers) == 2)


# ---- ready, idle, workers ------------------------------------------------------------------


def test_wait_ready_returns_when_the_start_hooks_have_run(tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")

    def run(arg: Any) -> Any:
        return arg

    run.on_worker_start = lambda client: tasks.mark(trace, client.worker_id)  # type: ignore[attr-defined]
    with WorkerPool(run, max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready(20)
        assert sorted(Path(trace).read_text().split()) == ["1", "2"]
        assert [worker.state for worker in pool.workers if worker.state == "starting"] == []


def test_wait_ready_of_a_pool_without_workers_launches_one() -> None:
    with WorkerPool(max_workers=2) as pool:
        pool.wait_ready(20)
        assert len(pool.workers) == 1


def test_wait_ready_gives_up_after_its_timeout(gate: Gate) -> None:
    path = gate.path

    def run(arg: Any) -> Any:
        return arg

    run.on_worker_start = lambda client: tasks.enter(path)  # type: ignore[attr-defined]
    with WorkerPool(run, max_workers=1) as pool:
        with pytest.raises(TimeoutError):
            pool.wait_ready(0.01)
        assert pool.workers[0].state == "starting"
        gate.open()
        pool.wait_ready(20)
        assert pool.workers[0].state != "starting"


def test_when_idle_of_an_idle_pool_is_done_at_once(shared: Pool) -> None:
    wait_until(lambda: shared.is_idle)
    assert shared.when_idle().done()
    assert shared.when_idle().result(0) is None


def test_when_idle_is_done_with_the_last_task_and_not_before(shared: Pool, gate: Gate) -> None:
    held = gate.hold(shared)
    idle = shared.when_idle()
    assert shared.submit(tasks.echo, 1).result(20) == 1
    assert not shared.is_idle
    assert not idle.done()
    with pytest.raises(TimeoutError):
        idle.result(0.01)
    gate.open()
    idle.result(20)
    assert held.done()
    assert shared.is_idle


def test_many_threads_wait_for_idleness_at_once(shared: Pool, gate: Gate) -> None:
    gate.hold(shared)
    done: list[None] = []
    waiting = [threading.Thread(target=lambda: done.append(shared.when_idle().result(20))) for _ in range(6)]
    for thread in waiting:
        thread.start()
    gate.open()
    for thread in waiting:
        thread.join(20)
    assert done == [None] * 6


def test_state_of_a_worker_says_what_it_does(shared: Pool, gate: Gate) -> None:
    wait_until(lambda: [worker.state for worker in shared.workers] == ["idle", "idle"])
    held = gate.hold(shared)
    assert held.worker is not None
    assert held.worker.state == "running"
    assert sorted(worker.state for worker in shared.workers) == ["idle", "running"]
    gate.open()
    wait_until(lambda: [worker.state for worker in shared.workers] == ["idle", "idle"])


def test_worker_of_an_ended_pool_is_dead_with_status_0() -> None:
    with WorkerPool(max_workers=1) as pool:
        pool.wait_ready(20)
        worker = pool.workers[0]
    assert (worker.state, worker.exitcode, is_alive(worker.pid)) == ("dead", 0, False)


def test_repr_names_the_pool_and_says_that_it_is_closed() -> None:
    pool: Pool = WorkerPool(max_workers=1, name="named")
    assert repr(pool) == "<WorkerPool 'named' 0/1 workers>"
    pool.shutdown()
    assert repr(pool) == "<WorkerPool 'named' closed>"


# ---- the end -------------------------------------------------------------------------------


def test_shutdown_of_an_unused_pool_returns_and_can_be_repeated() -> None:
    pool: Pool = WorkerPool(max_workers=2)
    for _ in range(3):
        pool.shutdown()
    pool.dispose()
    assert pool.workers == ()


def test_shutdown_runs_what_is_queued_and_leaves_no_worker_and_no_thread() -> None:
    before = threads()
    pool: Pool = WorkerPool(max_workers=2, tasks_per_worker=0)
    queued = [pool.submit(tasks.echo, number) for number in range(200)]
    pids = [worker.pid for worker in pool.workers]
    pool.shutdown()
    assert [task.result(0) for task in queued] == list(range(200))
    assert [pid for pid in pids if is_alive(pid)] == []
    assert threads() <= before


def test_shutdown_with_cancel_futures_ends_what_runs_and_cancels_the_rest(gate: Gate) -> None:
    pool: Pool = WorkerPool(max_workers=1)
    held = gate.hold(pool, "held")
    queued = [pool.submit(tasks.echo, number) for number in range(20)]
    queued[-1].add_done_callback(lambda task: gate.open())
    pool.shutdown(cancel_futures=True)
    assert held.result(0) == "held"
    for task in queued:
        assert task.cancelled()
        with pytest.raises(CancelledError) as caught:
            task.result(0)
        assert type(caught.value) is CancelledError


def test_shutdown_without_waiting_refuses_at_once_and_finishes_behind(gate: Gate) -> None:
    pool: Pool = WorkerPool(max_workers=1)
    held = gate.hold(pool)
    queued = pool.submit(tasks.echo, 1)
    pid = pool.workers[0].pid
    pool.shutdown(wait=False)
    with pytest.raises(PoolClosed):
        pool.submit(tasks.echo, 2)
    assert not held.done()
    gate.open()
    assert queued.result(20) == 1
    pool.shutdown(wait=True)
    assert not is_alive(pid)


def test_shutdown_without_waiting_but_cancelling(gate: Gate) -> None:
    pool: Pool = WorkerPool(max_workers=1)
    held = gate.hold(pool, "held")
    queued = [pool.submit(tasks.echo, number) for number in range(5)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(task.cancelled() for task in queued)
    gate.open()
    assert held.result(20) == "held"
    pool.shutdown()


def test_shutdown_by_several_threads_at_once() -> None:
    pool: Pool = WorkerPool(max_workers=2)
    queued = [pool.submit(tasks.echo, number) for number in range(50)]
    ending = [threading.Thread(target=pool.shutdown) for _ in range(4)]
    for thread in ending:
        thread.start()
    for thread in ending:
        thread.join(20)
    assert not any(thread.is_alive() for thread in ending)
    assert [task.result(0) for task in queued] == list(range(50))


def test_dispose_ends_what_runs_cancels_what_waits_and_is_final(gate: Gate) -> None:
    pool: Pool = WorkerPool(max_workers=1)
    held = gate.hold(pool, "held")
    pid = pool.workers[0].pid
    waits = pool.submit(tasks.echo, 1)
    waits.add_done_callback(lambda task: gate.open())
    pool.dispose()
    assert held.result(0) == "held"
    assert waits.cancelled()
    assert not is_alive(pid)
    with pytest.raises(PoolClosed):
        pool.submit(tasks.echo, 1)


def test_with_drains_and_results_are_there_afterwards() -> None:
    with WorkerPool(max_workers=2) as pool:
        queued = [pool.submit(tasks.echo, number) for number in range(100)]
        large = pool.submit(tasks.echo, bytes(1 << 20))
    assert [task.result(0) for task in queued] == list(range(100))
    assert large.result(0) == bytes(1 << 20)


def test_tasks_that_tasks_add_after_shutdown_still_run() -> None:
    def grow(depth: int) -> int:
        return depth and 1 + current_client().submit(grow, depth - 1).result()

    pool: Pool = WorkerPool(max_workers=1)
    task = pool.submit(grow, 20)
    pool.shutdown()
    assert task.result(0) == 20


def test_shutdown_while_workers_die_ends() -> None:
    pool: Pool = WorkerPool(max_workers=2)
    deaths = [pool.submit(tasks.exit_at_once, 1) for _ in range(3)]
    others = [pool.submit(tasks.echo, number) for number in range(10)]
    pool.shutdown()
    assert [type(task.exception(0)) for task in deaths] == [WorkerDied] * 3
    assert [task.result(0) for task in others] == list(range(10))


def test_dropped_pool_finishes_its_tasks_and_goes() -> None:
    before = threads()
    pool: Pool = WorkerPool(max_workers=1)
    queued = [pool.submit(tasks.echo, number) for number in range(20)]
    pids = [worker.pid for worker in pool.workers]
    del pool
    gc.collect()
    assert [task.result(20) for task in queued] == list(range(20))
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    wait_until(lambda: threads() <= before)


def test_dropped_pool_without_tasks_goes() -> None:
    pool: Pool = WorkerPool(max_workers=1)
    pool.wait_ready(20)
    pid = pool.workers[0].pid
    del pool
    gc.collect()
    wait_until(lambda: not is_alive(pid))


def test_dropped_pool_goes_though_results_of_its_map_are_still_to_be_taken() -> None:
    pool: Pool = WorkerPool(max_workers=1)
    results = pool.map(tasks.echo, range(50))
    pid = pool.submit(os.getpid).result(20)
    del pool
    gc.collect()
    wait_until(lambda: not is_alive(pid))
    assert list(results) == list(range(50))


def test_results_are_asked_of_a_task_whose_pool_is_gone() -> None:
    def leave() -> Any:
        with WorkerPool(max_workers=1) as pool:
            return pool.submit(tasks.echo, b"x" * 100_000), pool.submit(tasks.divide, 1, 0)

    kept, failed = leave()
    gc.collect()
    assert kept.result() == b"x" * 100_000
    assert isinstance(failed.exception(), ZeroDivisionError)


# ---- several, many, other ways -------------------------------------------------------------


def test_two_pools_at_once_do_not_meet(gate: Gate) -> None:
    with WorkerPool(max_workers=1) as one, WorkerPool(max_workers=1) as other:
        held = gate.hold(one, "held")
        futures = [other.submit(tasks.pid_of) for _ in range(20)]
        assert {task.result(20) for task in futures} == {other.workers[0].pid}
        assert not held.done()
        assert not one.is_idle
        wait_until(lambda: other.is_idle)
        gate.open()
        assert held.result(20) == "held"
    assert one.name != other.name


def test_pool_that_ends_leaves_the_other_alone(shared: Pool) -> None:
    with WorkerPool(max_workers=1) as other:
        other.submit(tasks.echo, 1).result(20)
    assert shared.submit(tasks.echo, 2).result(20) == 2


def test_50_000_tasks_far_beyond_the_slots_all_come_back(shared: Pool) -> None:
    futures = [shared.submit(tasks.echo, number) for number in range(50_000)]
    assert [task.result(40) for task in futures] == list(range(50_000))
    wait_until(lambda: shared.is_idle)
    statistics = shared.statistics()
    assert (statistics.tasks_backlog, statistics.tasks_queued, statistics.tasks_running) == (0, 0, 0)


def test_pool_that_polls_does_everything_basic(monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    monkeypatch.setenv("WORKPOOL_PARK", "poll")
    with WorkerPool(tasks.echo, max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready(20)
        assert pool.add_task(1).result(20) == 1
        assert list(pool.map(tasks.echo, range(1000))) == list(range(1000))
        held = gate.hold(pool)
        wait_until(lambda: "idle" in [worker.state for worker in pool.workers])
        assert pool.submit(tasks.echo_later, 2).result(20) == 2  # by one that was parked
        gate.open()
        held.result(20)
        assert pool.submit(lambda: current_client().submit(tasks.echo, 3).result()).result(20) == 3
        assert isinstance(pool.submit(tasks.divide, 1, 0).exception(20), ZeroDivisionError)
        assert isinstance(pool.submit(tasks.exit_at_once, 1).exception(20), WorkerDied)
        assert pool.submit(tasks.echo, 4).result(20) == 4
        pool.when_idle().result(20)


def test_unknown_way_to_park_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKPOOL_PARK", "bench")
    with pytest.raises(Exception, match="WORKPOOL_PARK must be 'futex' or 'poll', not 'bench'"):
        WorkerPool(max_workers=1)


def test_argument_that_does_not_fit_says_how_much_and_what_raises_it_and_the_pool_goes_on() -> None:
    with WorkerPool(max_workers=1, memory=1 << 20) as pool:
        task = pool.submit(tasks.echo, bytes(2_000_000))
        with pytest.raises(ArenaFull, match=r"memory=") as caught:
            task.result(20)
        assert isinstance(caught.value, MemoryError)
        assert 2_000_000 <= caught.value.asked <= 2_100_000
        assert 1 << 20 <= caught.value.budget <= 1.05 * (1 << 20)
        assert f"{caught.value.asked:,} bytes" in str(caught.value)
        assert f"{caught.value.budget:,} bytes" in str(caught.value)
        assert pool.submit(tasks.echo, bytes(100_000)).result(20) == bytes(100_000)


def test_result_that_does_not_fit_says_so_and_the_pool_goes_on() -> None:
    with WorkerPool(max_workers=1, memory=1 << 20) as pool:
        with pytest.raises(ArenaFull, match=r"memory="):
            pool.submit(bytes, 2_000_000).result(20)
        assert pool.submit(bytes, 100_000).result(20) == bytes(100_000)


def test_arena_that_is_full_of_unread_results_is_free_again_once_they_are_dropped() -> None:
    with WorkerPool(max_workers=1, memory=1 << 20) as pool:
        futures = [pool.submit(bytes, 300_000) for _ in range(8)]  # 2.4 MB
        outcomes = [type(task.exception(20)) for task in futures]
        assert set(outcomes) <= {type(None), ArenaFull}
        assert type(None) in outcomes
        del futures
        gc.collect()
        assert len(pool.submit(bytes, 300_000).result(20)) == 300_000
