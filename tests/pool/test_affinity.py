"""Affinity: who may run a task. The rows of API.md, section 4, with workers held busy.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import wait_until
from placement_tasks import begun, bound, here, hold_seat, nap, use, where, where_and_pid
from pool_support import Gate

from workpool import EntrypointError, WorkerDied, WorkerPool, current_client

Pool = WorkerPool[Any, Any]


@pytest.fixture
def pool() -> Iterator[Pool]:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready(20)
        yield pool


# ---- the rows of the table -------------------------------------------------------------


@pytest.mark.parametrize("method", ["exec", "spawn", "forkserver", "fork"])
def test_each_strength_finds_an_idle_target_with_every_start_method(method: str) -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=0, start_method=method) as pool:
        pool.wait_ready(30)
        for strength in ("strong", "force"):
            for seat in (1, 2, 2, 1, 2):
                assert bound(pool, seat, strength).result(20) == seat
        assert bound(pool, "main", None, here).result(20)[0] == os.getpid()


@pytest.mark.parametrize("method", ["exec", "spawn", "forkserver", "fork"])
def test_each_row_holds_behind_a_busy_target_with_every_start_method(method: str, gate: Gate) -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=0, start_method=method) as pool:
        pool.wait_ready(30)
        held = hold_seat(pool, 2, gate)
        bound_by_force = bound(pool, 2, "force", where_and_pid)
        assert bound(pool, 2, "light").result(20) == 1
        assert bound(pool, 2, "strong").result(20) == 1  # it is stuck
        assert bound(pool, "main", None, here).result(20)[0] == os.getpid()
        assert not held.done() and not bound_by_force.running() and not bound_by_force.done()
        victim = pool.workers[1].pid
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            held.result(20)
        seat, pid = bound_by_force.result(20)
        assert seat == 2 and pid not in (victim, pool.workers[0].pid)


def test_a_light_task_goes_to_its_idle_target_first(pool: Pool) -> None:
    found = []
    for _ in range(50):
        found.append(bound(pool, 2, "light").result(20))
        wait_until(lambda: all(worker.state == "idle" for worker in pool.workers))
        time.sleep(0.001)  # both parked: whoever is woken is the target
    assert found.count(2) > 25  # who polls (WORKPOOL_PARK) looks now and then, and may be first


def test_a_light_task_is_taken_by_anyone_when_its_target_is_busy(pool: Pool, gate: Gate) -> None:
    held = hold_seat(pool, 2, gate)
    assert [bound(pool, 2, None).result(20) for _ in range(20)] == [1] * 20
    assert not held.done()


def test_a_strong_task_goes_to_its_idle_target(pool: Pool) -> None:
    seats = [1 + i % 2 for i in range(100)]
    assert [bound(pool, seat, "strong").result(20) for seat in seats] == seats


def test_strong_tasks_stay_while_their_target_goes_on(pool: Pool) -> None:
    use(pool, 2, 20)
    batch = [bound(pool, 2, "strong", where_and_pid, nap(0)) for _ in range(10)]
    assert {task.result(20)[0] for task in batch} == {2}


def test_a_strong_task_behind_a_stuck_target_moves_though_all_were_parked(pool: Pool, gate: Gate) -> None:
    held = hold_seat(pool, 2, gate)
    wait_until(lambda: pool.workers[0].state == "idle")
    time.sleep(0.1)  # worker 1 has parked
    assert bound(pool, 2, "strong").result(20) == 1
    assert not held.done()


def test_a_strong_task_starts_elsewhere_within_three_mean_task_times_of_being_due(
    pool: Pool, gate: Gate
) -> None:
    mean = 0.02
    for task in [bound(pool, seat, "force", nap, mean) for seat in (1, 2) * 10]:
        task.result(20)
    late = []
    for round_ in range(3):
        door = Gate(gate._folder / str(round_))
        door._folder.mkdir()
        hold_seat(pool, 2, door)
        entered = time.monotonic()
        task = bound(pool, 2, "strong", begun)
        seat, at = task.result(20)
        assert seat == 1
        late.append(at - (entered + 3 * mean))
        door.open()
        pool.when_idle().result(20)
        for task in [bound(pool, 2, "force", nap, mean) for _ in range(5)]:
            task.result(20)
    assert median(late) <= 3 * mean


def test_a_force_task_waits_for_its_target_whoever_is_idle(pool: Pool, gate: Gate) -> None:
    held = hold_seat(pool, 2, gate)
    task = bound(pool, 2, "force")
    use(pool, 1, 200)
    time.sleep(0.1)  # longer than any strong task would wait
    assert not task.done() and not task.running()
    assert bound(pool, 1, "force").result(20) == 1
    gate.open()
    assert task.result(20) == 2
    assert held.result(20) == 2


def test_force_survives_the_death_of_its_worker(pool: Pool, gate: Gate) -> None:
    held = hold_seat(pool, 2, gate)
    queued = [bound(pool, 2, "force", where_and_pid) for _ in range(10)]
    victim = pool.workers[1].pid
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        held.result(20)
    ran = {task.result(20) for task in queued}
    assert {seat for seat, _ in ran} == {2}
    assert victim not in {pid for _, pid in ran}


def test_light_and_strong_tasks_of_a_killed_worker_run_elsewhere_or_again(pool: Pool, gate: Gate) -> None:
    hold_seat(pool, 2, gate)
    other = hold_seat(pool, 1, gate)
    queued = [bound(pool, 2, strength) for strength in ("light", "strong") * 20]
    os.kill(pool.workers[1].pid, signal.SIGKILL)
    gate.open()
    assert all(task.result(20) in (1, 2) for task in queued)
    assert other.result(20) == 1


def test_storm_of_kills_loses_no_bound_task(pool: Pool) -> None:
    queued = [bound(pool, 1 + i % 2, ("light", "strong", "force")[i % 3], nap, 0.002) for i in range(300)]
    for i in range(6):
        pids = [worker.pid for worker in pool.workers]
        if len(pids) == 2:
            os.kill(pids[i % 2], signal.SIGKILL)
        queued[40 * (i + 1)].exception(20)
    outcomes = [task.exception(20) for task in queued]
    assert all(error is None or isinstance(error, WorkerDied) for error in outcomes)
    assert sum(error is not None for error in outcomes) <= 6


def test_force_launches_the_worker_it_names() -> None:
    with WorkerPool(max_workers=3) as pool:
        assert bound(pool, 3, "force").result(20) == 3
        assert [worker.id for worker in pool.workers] == [3]
        assert bound(pool, 2, "strong").result(20) == 2
        assert [worker.id for worker in pool.workers] == [2, 3]


def test_force_beyond_the_last_slot_reaches_its_worker(pool: Pool) -> None:
    queued = [bound(pool, 1 + i % 2, "force") for i in range(17_000)]
    assert [task.result(30) for task in queued] == [1 + i % 2 for i in range(17_000)]


def test_a_task_has_no_affinity_by_default(pool: Pool, gate: Gate) -> None:
    for seat in (1, 2):
        door = Gate(gate._folder / str(seat))
        door._folder.mkdir()
        hold_seat(pool, seat, door)
        assert {pool.submit(where).result(20) for _ in range(20)} == {3 - seat}
        door.open()


# ---- options ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"worker_affinity": 0}, ValueError, "names no worker of this pool: 0 is not from 1 to 2"),
        ({"worker_affinity": 3}, ValueError, "3 is not from 1 to 2"),
        ({"worker_affinity": -1}, ValueError, "names no worker"),
        ({"worker_affinity": "first"}, ValueError, "a worker's id or 'main', not 'first'"),
        ({"worker_affinity": True}, TypeError, "not True"),
        ({"worker_affinity": 1.0}, TypeError, "not 1.0"),
        ({"worker_affinity": 1, "affinity_strength": "hard"}, ValueError, "'light', 'strong' or 'force'"),
        ({"affinity_strength": "strong"}, ValueError, "without worker_affinity"),
        ({"cost": -1.0}, ValueError, "cost"),
        ({"cost": float("nan")}, ValueError, "cost"),
        ({"cost": "much"}, TypeError, "cost must be a number of seconds"),
        ({"priority": 8}, ValueError, "from -8 to 7"),
        ({"priority": 1.5}, TypeError, "whole number"),
        ({"retries": -1}, ValueError, "retries"),
        ({"retries": 253}, ValueError, "retries"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_right(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with WorkerPool(tasks.echo, max_workers=2) as pool:
        with pytest.raises(error, match=text):
            pool.add_task(1, **options)
        with pytest.raises(error, match=text):
            pool.options(**options)
        assert pool.is_idle
        with pytest.raises(TypeError, match="unknown task options: colour"):
            pool.options(colour="red")  # type: ignore[call-arg]


def test_add_task_takes_the_options_too(pool: Pool) -> None:
    with WorkerPool(where, max_workers=2) as own:
        assert own.add_task(None, worker_affinity=2, affinity_strength="force", key="k").result(20) == 2
    assert list(pool.options(worker_affinity=2, affinity_strength="force").map(where, range(5))) == [2] * 5


# ---- in the parent ---------------------------------------------------------------------


class Unpicklable:
    def __reduce__(self) -> Any:
        raise AssertionError("pickled")


def test_main_runs_in_the_thread_that_waits_and_pickles_nothing(pool: Pool) -> None:
    value = Unpicklable()
    for _ in range(50):
        pid, thread, back = bound(pool, "main", None, here, value).result(20)
        assert pid == os.getpid() and thread == threading.get_ident() and back is value
    task = bound(pool, "main", "force", nap, 0.01)
    assert task.result(20) == 0.01
    assert task.task_cost is not None and task.task_cost >= 0.01
    assert task.worker is None and not task.running()


def test_main_runs_in_a_thread_that_waits_for_something_else(pool: Pool, gate: Gate) -> None:
    held = hold_seat(pool, 1, gate)
    found: list[Any] = []
    waiter = threading.Thread(target=lambda: found.append(held.result(20)))
    waiter.start()
    wait_until(lambda: pool._gatherer._lead)
    task = bound(pool, "main", None, here)
    wait_until(task.done)
    assert task.result(0)[1] == waiter.ident
    gate.open()
    waiter.join()
    assert found == [1]


def test_main_runs_though_nobody_waits(pool: Pool) -> None:
    done = threading.Event()
    task = bound(pool, "main", None, here)
    task.add_done_callback(lambda _: done.set())
    assert done.wait(20)
    assert task.result(0)[0] == os.getpid()
    later = bound(pool, "main", None, here)
    wait_until(later.done)


def test_main_runs_in_the_event_loop_that_awaits(pool: Pool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert (await bound(pool, "main", None, here))[1] == threading.get_ident()

        async def which(value: int) -> Any:
            await asyncio.sleep(0)
            return asyncio.get_running_loop(), value

        assert await bound(pool, "main", None, which, 3) == (loop, 3)
        both = await asyncio.gather(*(bound(pool, "main", None, which, i) for i in range(5)))
        assert both == [(loop, i) for i in range(5)]

    asyncio.run(main())
    assert bound(pool, "main", None, tasks.echo_later, 4).result(20) == 4  # and without a loop


def test_main_calls_the_entrypoint_with_the_main_client() -> None:
    def entrypoint(arg: Any, client: Any) -> Any:
        return arg, client, current_client()

    with WorkerPool(entrypoint, max_workers=1) as pool:
        value = object()
        arg, client, current = pool.add_task(value, worker_affinity="main").result(20)
        assert arg is value and client is current and client.worker_id == "main"
    with pytest.raises(RuntimeError):
        current_client()
    with WorkerPool(max_workers=1) as pool, pytest.raises(EntrypointError):
        pool.add_task(1, worker_affinity="main").result(20)


def test_main_runs_pre_task_and_coroutine_entrypoints() -> None:
    seen: list[Any] = []

    async def entrypoint(arg: Any) -> Any:
        await asyncio.sleep(0)
        return arg + 1

    def before(arg: Any) -> None:
        seen.append(arg)
        time.sleep(0.01)

    entrypoint.pre_task = before  # type: ignore[attr-defined]
    with WorkerPool(entrypoint, max_workers=1) as pool:
        task = pool.add_task(1, worker_affinity="main")
        assert task.result(20) == 2
        assert seen == [1]
        assert task.pre_task_cost is not None and task.pre_task_cost >= 0.01


def test_main_tasks_keep_their_errors_and_order_and_can_be_cancelled(pool: Pool) -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        bound(pool, "main", None, tasks.fail, error).result(20)
    assert caught.value is error
    order: list[int] = []
    several = [bound(pool, "main", None, order.append, i) for i in range(10)]
    assert several[3].cancel() and several[3].cancelled()
    pool.when_idle().result(20)
    assert order == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_a_main_task_may_wait_for_workers_and_for_other_main_tasks(pool: Pool) -> None:
    def inner(depth: int) -> Any:
        assert bound(pool, 1, "force").result(20) == 1
        return 0 if depth == 0 else 1 + bound(pool, "main", None, inner, depth - 1).result(20)

    assert bound(pool, "main", None, inner, 5).result(20) == 5


def test_a_main_task_that_waits_is_not_in_the_way_of_another_that_it_waits_for(pool: Pool) -> None:
    order: list[str] = []
    passed = threading.Event()

    def first() -> None:
        other = bound(pool, "main", None, lambda: passed.set())
        order.append("first")
        assert bound(pool, 1, "force", nap, 0.1).result(20) == 0.1
        assert passed.wait(20)  # by a thread of the pool's: this one waits for something else
        other.result(20)

    bound(pool, "main", None, first).result(20)
    assert order == ["first"]


def test_shutdown_runs_the_main_tasks_that_are_queued() -> None:
    done: list[int] = []
    with WorkerPool(max_workers=1) as pool:
        for i in range(5):
            bound(pool, "main", None, done.append, i)
    assert done == list(range(5))
    assert not pool.workers


def test_a_long_main_task_does_not_hold_up_the_workers_results(pool: Pool) -> None:
    found: list[Any] = []
    started, ended = threading.Event(), threading.Event()

    def long() -> None:
        started.set()
        assert ended.wait(20)

    main = bound(pool, "main", None, long)
    thread = threading.Thread(target=main.result, args=(20,))
    thread.start()
    assert started.wait(20)
    pool.submit(where).add_done_callback(lambda task: found.append(task.result()))
    wait_until(lambda: found)
    assert pool.submit(where).result(20) in (1, 2)
    assert list(pool.map(abs, range(100))) == list(range(100))
    ended.set()
    thread.join()
