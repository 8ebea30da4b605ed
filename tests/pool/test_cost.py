"""Costs: what is estimated and learned, and where tasks are put by it.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import wait_until
from placement_tasks import append, bound, hold_seat, nap, read, use, where
from pool_support import Gate, script_environment

from workpool import Task, WorkerDied, WorkerPool
from workpool.placement import stable_hash

Pool = WorkerPool[Any, Any]


def loads(pool: Pool) -> list[float]:
    return [worker.load for worker in pool.workers]


@pytest.fixture
def held(pool: Pool, tmp_path: Path) -> Gate:
    """Both workers of ``pool`` are busy until this opens."""
    pool.wait_ready(20)
    gate = Gate(tmp_path)
    for seat in (1, 2):
        hold_seat(pool, seat, gate)
    return gate


def test_a_task_is_put_where_the_load_is_least_after_adding_it(pool: Pool, held: Gate) -> None:
    assert loads(pool) == [0.0, 0.0]
    queued = [pool.options(cost=5.0).submit(where)]
    assert loads(pool) == [5.0, 0.0]
    queued += [pool.options(cost=cost).submit(where) for cost in (2.0, 2.0, 2.0)]
    assert loads(pool) == [5.0, 6.0]
    queued.append(pool.options(cost=1.5, worker_affinity=2, affinity_strength="force").submit(where))
    assert loads(pool) == [5.0, 7.5]
    assert queued[1].cancel()
    assert loads(pool) == [5.0, 5.5]
    held.open()
    for task in queued[2:]:
        task.result(20)
    queued[0].result(20)
    assert loads(pool) == [0.0, 0.0]


def test_the_load_is_taken_off_however_a_task_ends(pool: Pool, held: Gate) -> None:
    failing = pool.options(cost=1.0).submit(tasks.fail, ValueError())
    unpicklable = pool.options(cost=1.0).submit(tasks.echo, tasks.Unpicklable())
    assert loads(pool) == [1.0, 0.0]
    assert isinstance(unpicklable.exception(20), tasks.OwnError)
    dying = pool.options(cost=3.0).submit(tasks.kill_self)
    held.open()
    assert isinstance(failing.exception(20), ValueError)
    assert isinstance(dying.exception(20), WorkerDied)
    wait_until(lambda: len(pool.workers) == 2)
    assert loads(pool) == [0.0, 0.0]
    bound_one = pool.options(cost=1.0, worker_affinity=1, affinity_strength="force")
    bound_one.submit(where).result(20)
    os.kill(pool.workers[0].pid, signal.SIGKILL)
    assert bound_one.submit(where).result(20) == 1
    assert loads(pool) == [0.0, 0.0]


def test_estimates_of_the_pool_place_tasks_without_options(tmp_path: Path) -> None:
    extra = {1: 10.0, 2: 0.0}

    def worker_cost(task: Task[Any], worker: Any) -> float:
        return extra[worker.id]

    with WorkerPool(
        where, max_workers=2, tasks_per_worker=0, worker_cost=worker_cost,
        inherent_cost=lambda task: task.argument if isinstance(task.argument, float) else 0.0,
    ) as pool:  # fmt: skip
        pool.wait_ready(20)
        gate = Gate(tmp_path)
        holds = [hold_seat(pool, seat, gate) for seat in (1, 2)]
        base = loads(pool)
        queued = [pool.add_task(2.0) for _ in range(3)]
        assert loads(pool) == [base[0], base[1] + 6.0]
        extra[1] = 0.0
        queued.append(pool.add_task(2.0))
        assert sum(loads(pool)) == sum(base) + 8.0
        gate.open()
        for task in (*queued, *holds):
            task.result(20)
        assert loads(pool) == [0.0, 0.0]


@pytest.mark.parametrize("bad", [lambda task: -1.0, lambda task: "much", lambda task: 1 / 0])
def test_an_estimator_that_fails_fails_the_task_alone(bad: Any) -> None:
    with WorkerPool(tasks.echo, max_workers=1, inherent_cost=bad) as pool:
        assert isinstance(pool.add_task(1).exception(20), (ValueError, TypeError, ZeroDivisionError))
        assert pool.options(cost=1.0).add_task(2).result(20) == 2
    with pytest.raises(TypeError, match="inherent_cost must be a callable"):
        WorkerPool(inherent_cost=3)  # type: ignore[arg-type]


def test_costs_are_learned_by_key_smoothed_and_carried_over(pool: Pool) -> None:
    view = pool.options(key=("tile", 3))
    view.submit(nap, 0.05).result(20)
    first = pool.learned_costs()[("tile", 3)]
    assert 0.05 <= first < 0.2
    view.submit(nap, 0.0).result(20)
    second = pool.learned_costs()[("tile", 3)]
    assert 0.6 * first < second < 0.8 * first
    pool.options(key="fails").submit(tasks.fail, ValueError()).exception(20)
    pool.options(key=[1]).submit(where).result(20)  # it cannot be hashed: it only names the task
    assert list(pool.learned_costs()) == [("tile", 3)]
    with WorkerPool(max_workers=2, tasks_per_worker=0) as other:
        other.load_costs({"big": 40.0, "small": 1})
        assert other.learned_costs() == {"big": 40.0, "small": 1.0}
        with pytest.raises(ValueError, match="the cost of 'x'"):
            other.load_costs({"x": -1.0})
        other.wait_ready(20)
        task = bound(other, 1, "force", nap, 0.2)
        other.options(key="big").submit(where)
        assert sum(loads(other)) in (40.0, 0.0)
        task.result(20)


def test_the_longest_known_go_first_in_a_burst(pool: Pool, held: Gate, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    costs = [1.0, 9.0, 2.0, 30.0, 4.0, 8.0]
    queued = [pool.options(cost=cost, worker_affinity=1).submit(append, str(trace), cost) for cost in costs]
    os.kill(pool.workers[1].pid, signal.SIGSTOP)  # one worker, so that there is one order
    try:
        held.open()
        for task in queued:
            task.result(20)
    finally:
        os.kill(pool.workers[1].pid, signal.SIGCONT)
    assert [float(line) for line in read(trace)] == sorted(costs, reverse=True)


def test_map_with_known_costs_offers_the_longest_first_and_keeps_the_order(tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    def work(item: float) -> float:
        append(str(trace), item)
        return 2 * item

    items = [0.003, 0.05, 0.001, 0.9, 0.2]
    with WorkerPool(max_workers=1, inherent_cost=lambda task: task.argument) as pool:
        assert list(pool.map(work, items)) == [2 * item for item in items]
        begun = [float(line) for line in read(trace)]
        assert begun[1:3] == [0.2, 0.05] and sorted(begun) == sorted(items)
        assert sorted(pool.map(work, items, ordered=False)) == sorted(2 * item for item in items)
        assert list(pool.map(work, items, buffersize=2)) == [2 * item for item in items]
        with pytest.raises(TypeError, match=r"must be a number of seconds, not \(2, 3\)"):
            pool.map(pow, [2, 3], [3, 2])  # the estimator is not made for two arguments


def test_map_with_a_key_for_each_item_learns_them_one_by_one(pool: Pool) -> None:
    view = pool.options(key=lambda item: ("item", item))
    items = [0.0, 0.03, 0.01]
    assert list(view.map(nap, items)) == items
    learned = pool.learned_costs()
    assert set(learned) == {("item", item) for item in items}
    assert learned[("item", 0.03)] >= 0.03
    assert list(view.map(nap, items)) == items
    assert list(pool.options(key=lambda a, b: a).map(max, [1, 2], [2, 1])) == [2, 2]
    pool.options(key="chunks")
    assert list(pool.options(key="all").map(abs, range(100))) == list(range(100))
    assert "all" not in pool.learned_costs()  # a chunk's time is no measure of anything


def test_an_error_in_a_map_with_known_costs_comes_at_its_place(pool: Pool) -> None:
    results = pool.options(key=lambda item: item).map(tasks.fail_on_three, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    results.close()  # type: ignore[attr-defined]
    with pytest.raises(TimeoutError):
        list(pool.options(key=lambda item: item).map(nap, [0.5], timeout=0.01))


def test_an_idle_worker_takes_what_was_put_elsewhere(pool: Pool, gate: Gate) -> None:
    pool.wait_ready(20)
    held = hold_seat(pool, 2, gate)
    use(pool, 1, 5)
    queued = [pool.options(cost=1.0).submit(where) for _ in range(20)]
    assert [task.result(20) for task in queued] == [1] * 20  # half of them were put at worker 2
    assert not held.done()


def test_keys_hash_the_same_in_every_process() -> None:
    keys: list[Any] = ["a", b"a", 3, 3.0, True, None, ("a", 1, ("b",)), 2**70, -1, 1.5]
    here = [stable_hash(key) for key in keys]
    assert here[2] == here[3] and stable_hash(object()) == 0
    program = f"from workpool.placement import stable_hash; print([stable_hash(k) for k in {keys!r}])"
    for seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", program], env={**script_environment(), "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert told.strip() == str(here)


def test_loads_stay_right_with_several_submitting_threads(pool: Pool) -> None:
    def submit() -> None:
        for task in [pool.options(cost=0.1, key=i % 7).submit(where) for i in range(300)]:
            task.result(20)

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads(pool) == [0.0, 0.0]
    assert set(pool.learned_costs()) == set(range(7))
