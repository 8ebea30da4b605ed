"""Tasks of tasks: every way to wait for them, at any depth, in however few workers.

SPDX-License-Identifier: BSD-3-Clause
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nested_tasks as nested
import pool_tasks as tasks
import pytest
from helpers import wait_until
from pool_support import Gate

from workpool import RemoteError, WorkerDied, WorkerPool

Pool = WorkerPool[Any, Any]


@pytest.fixture(scope="module", params=[1, 2])
def any_pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """A pool of one worker, which must help itself, or of two, that steal from each other."""
    with WorkerPool(max_workers=request.param, tasks_per_worker=0) as pool:
        pool.wait_ready()
        yield pool


def lines_of(trace: Path) -> list[int]:
    return [int(line) for line in trace.read_text().split()] if trace.exists() else []


# ---- ways to wait ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "args", "expected"),
    [
        (nested.fib, (12,), 144),
        (nested.mapped, (10,), [2 * number for number in range(10)]),
        (nested.mapped, (0,), []),
        (nested.mapped_of_maps, (5,), [[2 * k for k in range(n)] for n in range(5)]),
        (nested.keyworded, (), ((1,), {"fn": 2, "key": 3})),
        (nested.waited, (40,), (40, 0)),
        (nested.first_completed, (10,), (True, list(range(10)))),
        (nested.completed, (40,), list(range(40))),
        (nested.called_back, (20,), list(range(20))),
        (nested.awaited, (10,), list(range(10))),
        (nested.gathered, (10,), list(range(10))),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_nested_tasks_are_waited_for_in_every_way(any_pool: Pool, fn: Any, args: Any, expected: Any) -> None:
    assert any_pool.submit(fn, *args).result(30) == expected


def test_thread_of_a_task_submits_and_another_worker_runs_it(pool: Pool) -> None:
    assert pool.submit(nested.submitted_by_a_thread, 10).result(30) == list(range(10))


def test_many_tasks_that_nest_at_once_all_complete(any_pool: Pool) -> None:
    assert [task.result(30) for task in [any_pool.submit(nested.fib, n % 8) for n in range(40)]] == [
        (0, 1, 1, 2, 3, 5, 8, 13)[n % 8] for n in range(40)
    ]


def test_chain_of_500_that_each_wait_for_the_next(any_pool: Pool) -> None:
    assert any_pool.submit(nested.chain, 500).result(40) == 500


def test_more_children_than_slots_all_run(any_pool: Pool) -> None:
    assert any_pool.submit(nested.children, 3000).result(40) == sum(range(3000))


def test_task_is_itself_again_after_it_has_run_its_child(any_pool: Pool) -> None:
    ids = any_pool.submit(nested.own_info, 5).result(20)
    assert len(ids) == len(set(ids)) == 6


def test_cancelled_children_never_run_and_the_others_do(any_pool: Pool, gate: Gate) -> None:
    held = [gate.hold(any_pool) for _ in range(len(any_pool.workers) - 1)]  # nobody steals them
    assert any_pool.submit(nested.cancelled, 50).result(20) == (25, 25)
    gate.open()
    assert [task.result(20) for task in held] == [None] * len(held)


def test_waiting_for_a_child_gives_up_after_its_timeout(pool: Pool, gate: Gate) -> None:
    # Two workers: the child runs in the other, or begins here and then ends before it is told of.
    held = gate.hold(pool)
    task = pool.submit(nested.timed_out, gate.path)
    wait_until(lambda: gate.entered == 2 or task.done())
    gate.open()
    assert task.result(20) in ("in time", "too late")
    held.result(20)


def test_client_add_task_runs_the_entrypoint_again() -> None:
    with WorkerPool(nested.entry, max_workers=2, tasks_per_worker=0) as pool:
        assert pool.add_task(((1, 2), (3, (4, 5)), 6)).result(20) == 21


def test_child_sees_its_key_and_meta_and_its_task_its_argument() -> None:
    with WorkerPool(nested.tagged, max_workers=1) as pool:
        assert pool.add_task("top").result(20) == (
            "child", ("k", 1), {"m": 2}, (("k", 1), {"m": 2}, 1),
        )  # fmt: skip


@pytest.mark.parametrize("method", ["exec", "fork"])
def test_child_runs_where_it_is_bound_even_if_nobody_sat_there(method: str) -> None:
    with WorkerPool(nested.sent, max_workers=3, start_method=method) as pool:
        pool.wait_ready()
        for _ in range(3):
            assert pool.add_task([(seat, "force", 0) for seat in (1, 2, 3, 2)]).result(30) == [1, 2, 3, 2]


def test_child_bound_to_a_worker_that_was_retired_still_runs_there() -> None:
    with WorkerPool(nested.sent, max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready()
        pool.resize_down_to(1)
        assert pool.add_task([(2, "force", 0), (1, "force", 0)]).result(30) == [2, 1]


def test_child_may_prefer_a_worker_and_have_a_priority() -> None:
    with WorkerPool(nested.sent, max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready()
        preferred = [(1 + n % 2, ("light", "strong")[n // 2 % 2], n % 5 - 2) for n in range(40)]
        assert set(pool.add_task(preferred).result(30)) <= {1, 2}
        assert set(pool.add_task([(None, None, 3 - n) for n in range(6)]).result(30)) <= {1, 2}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"worker_affinity": 9}, "ValueError: worker_affinity names no worker of this pool"),
        ({"worker_affinity": "main"}, "ValueError: worker_affinity='main' is for tasks that the parent"),
        ({"affinity_strength": "force"}, "ValueError: affinity_strength='force' without worker_affinity"),
        ({"priority": 100}, "ValueError: priority must be from -8 to 7"),
        ({"cost": -1}, "ValueError: cost must be a finite number"),
        ({"retries": 300}, "ValueError: retries must be from 0"),
        ({"timeout": 0}, "ValueError: timeout must be greater than 0"),
    ],
)
def test_options_out_of_range_are_refused_in_a_worker_as_in_the_parent(options: Any, said: str) -> None:
    with WorkerPool(nested.sent_wrongly, max_workers=1) as pool:
        assert pool.add_task(options).result(20).startswith(said)


def test_options_of_a_pool_inside_a_worker_are_those_of_its_tasks() -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready()
        told = pool.submit(nested.bound_through_an_inner_pool, [1, 2]).result(30)
    assert told == [[1, 2], [1, 1], [2, 2]]


def test_retries_out_of_range_are_refused_as_by_the_pool() -> None:
    with WorkerPool(nested.refused, max_workers=1) as pool:
        said = {retries: pool.add_task(retries).result(20) for retries in (0, 3, -1, 255, 300, 1.5)}
    assert {retries: text.split(":")[0] for retries, text in said.items()} == {
        0: "ran", 3: "ran", -1: "ValueError", 255: "ValueError", 300: "ValueError", 1.5: "TypeError",
    }  # fmt: skip


# ---- errors ------------------------------------------------------------------------------


def test_exception_travels_up_through_every_level(any_pool: Pool) -> None:
    with pytest.raises(tasks.OwnError, match="at the bottom") as caught:
        any_pool.submit(nested.fail_below, 3).result(20)
    assert 'raise tasks.OwnError("at the bottom")' in str(caught.value.__cause__)


def test_exception_of_a_child_can_be_caught_by_its_parent(any_pool: Pool) -> None:
    assert any_pool.submit(nested.catch_below).result(20) == "caught at the bottom"


@pytest.mark.parametrize(("what", "error"), [("result", RemoteError.__name__), ("argument", "TypeError")])
def test_what_cannot_be_pickled_is_the_childs_error(any_pool: Pool, what: str, error: str) -> None:
    assert any_pool.submit(nested.unpicklable_child, what).result(20) == error


def test_child_that_kills_the_worker_its_parent_waits_in_takes_the_parent_with_it() -> None:
    with WorkerPool(nested.dying_child, max_workers=1) as pool:
        assert isinstance(pool.add_task("top").exception(20), WorkerDied)
        assert pool.submit(tasks.echo, 1).result(20) == 1


# ---- helping never runs what must not run here -----------------------------------------------


def test_lock_held_while_waiting_does_not_meet_unrelated_work(gate: Gate) -> None:
    with WorkerPool(max_workers=1) as pool:
        gate.hold(pool)  # all below are queued before the first begins
        mixed = []
        for number in range(20):
            mixed.append(pool.submit(nested.wait_locked, number))
            mixed.append(pool.submit(nested.take_lock, number))
        gate.open()
        assert [task.result(30) for task in mixed] == [number // 2 for number in range(40)]


# ---- coroutines --------------------------------------------------------------------------


def test_coroutine_tasks_that_await_their_own_need_neither_a_place_nor_a_worker_more() -> None:
    with WorkerPool(max_workers=1, worker_concurrency=1) as pool:
        assert pool.submit(nested.chain_later, 30).result(30) == 30
        assert pool.submit(nested.fib_later, 7).result(30) == 13
        both = [pool.submit(nested.chain_later, 10), pool.submit(nested.chain, 10)]
        assert [task.result(30) for task in both] == [10, 10]


def test_many_coroutine_tasks_that_await_children_at_once(any_pool: Pool) -> None:
    futures = [any_pool.submit(nested.awaited, 5) for _ in range(30)]
    assert [task.result(30) for task in futures] == [list(range(5))] * 30


# ---- children nobody waits for ---------------------------------------------------------------


def test_pool_is_idle_only_when_forgotten_children_have_run(gate: Gate, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with WorkerPool(max_workers=1) as pool:
        pool.submit(nested.fire_and_forget, str(trace), 5, gate.path).result(20)
        wait_until(lambda: gate.entered == 1)
        idle = pool.when_idle()
        assert not pool.is_idle
        assert not idle.done()
        assert lines_of(trace) == []
        gate.open()
        idle.result(20)
        assert pool.is_idle
        assert sorted(lines_of(trace)) == list(range(5))


def test_when_idle_waits_for_grandchildren(any_pool: Pool, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    any_pool.submit(nested.family, str(trace), 6)
    any_pool.when_idle().result(30)
    assert Counter(lines_of(trace)) == {6 - level: 2**level for level in range(7)}


def test_leaving_with_runs_the_children_that_nobody_waits_for(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with WorkerPool(max_workers=2) as pool:
        pool.submit(nested.family, str(trace), 5)
    assert Counter(lines_of(trace)) == {5 - level: 2**level for level in range(6)}


def test_forgotten_children_beyond_the_slots_all_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with WorkerPool(max_workers=1) as pool:
        pool.submit(nested.fire_and_forget, str(trace), 1500)
        pool.when_idle().result(30)
    assert Counter(lines_of(trace)) == Counter(range(1500))


def test_what_another_thread_of_the_task_has_gathered_ends_a_wait() -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        assert pool.submit(nested.gathered_by_a_thread, 6000).result(50) == 6000
