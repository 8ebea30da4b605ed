"""submit, add_task and options: arguments go there, results come back.

SPDX-License-Identifier: BSD-3-Clause
"""

import functools
import operator
import os
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import wait_until

from workpool import Task, WorkerPool

Pool = WorkerPool[Any, Any]


def test_submitted_function_returns_its_result(pool: Pool) -> None:
    assert pool.submit(tasks.add, 1, 2).result() == 3


def test_keywords_reach_the_function(pool: Pool) -> None:
    assert pool.submit(tasks.keywords, 1, fn=2, key=3, timeout=4).result() == (
        (1,),
        {"fn": 2, "key": 3, "timeout": 4},
    )


def test_task_runs_in_another_process(pool: Pool) -> None:
    assert pool.submit(tasks.pid_of).result() != os.getpid()


@pytest.mark.parametrize(
    ("fn", "args", "expected"),
    [
        (pow, (2, 10), 1024),
        (len, ("abc",), 3),
        (operator.add, (1, 2), 3),
        (int, ("12",), 12),
        ("abc".upper, (), "ABC"),
        (functools.partial(tasks.add, 1, c=10), (2,), 13),
        (tasks.Doubler(3), (4,), 12),
        (tasks.Doubler(3).method, (4,), 7),
        (tasks.Doubler, (3,), None),
        (lambda x: x + 1, (1,), 2),
    ],
)
def test_every_kind_of_callable_can_be_submitted(
    lasting_pool: Pool, fn: Any, args: Any, expected: object
) -> None:
    result = lasting_pool.submit(fn, *args).result()
    assert type(result) is tasks.Doubler if expected is None else result == expected


def test_closure_carries_what_it_closes_over(pool: Pool) -> None:
    offset = 40

    def shifted(value: int) -> int:
        return value + offset

    assert pool.submit(shifted, 2).result() == 42


def test_partial_that_changes_between_two_calls_is_not_taken_for_the_old_one(pool: Pool) -> None:
    doubler = tasks.Doubler(2)
    assert pool.submit(doubler, 5).result() == 10
    doubler.factor = 3
    assert pool.submit(doubler, 5).result() == 15


def test_function_made_at_the_address_of_a_dead_one_is_not_taken_for_it(pool: Pool) -> None:
    for number in range(200):
        assert pool.submit(eval(f"lambda: {number}")).result() == number


def test_large_argument_and_result_survive(pool: Pool) -> None:
    data = os.urandom(3_000_000)
    assert pool.submit(tasks.echo, data).result() == data


def test_many_sizes_around_the_inline_limit_survive(pool: Pool) -> None:
    sizes = [*range(300), 4095, 4096, 4097, 65535, 65536, 65537]
    values = [bytes(size) for size in sizes]
    futures = [pool.submit(tasks.echo, value) for value in values]
    assert [task.result() for task in futures] == values


def test_add_task_runs_the_entrypoint() -> None:
    with WorkerPool(tasks.echo, max_workers=1) as pool:
        task = pool.add_task({"a": 1})
        assert task.argument == {"a": 1}
        assert task.result() == {"a": 1}


def test_add_task_without_entrypoint_fails_and_says_so(pool: Pool) -> None:
    with pytest.raises(TypeError, match="no entrypoint"):
        pool.add_task(1).result()


def test_pool_with_an_entrypoint_still_takes_submit() -> None:
    with WorkerPool(tasks.echo, max_workers=1) as pool:
        assert (pool.add_task(1).result(), pool.submit(tasks.add, 1, 2).result()) == (1, 3)


def test_worker_sees_key_and_meta_and_attempt() -> None:
    with WorkerPool(max_workers=1) as pool:
        task = pool.options(key=("k", 1), meta={"m": 2}).submit(tasks.current_task)
        assert task.result() == (("k", 1), {"m": 2}, 1, 1)
        assert (task.key, task.meta) == (("k", 1), {"m": 2})
        assert pool.submit(tasks.current_task).result() == (None, None, 1, 1)


def test_options_apply_to_add_task_and_map() -> None:
    with WorkerPool(lambda arg, client: (arg, client.task.key), max_workers=1) as pool:
        view = pool.options(key="k")
        assert view.add_task(1).result() == (1, "k")
        assert list(view.map(lambda _: tasks.current_task()[0], [1, 2])) == ["k", "k"]


def test_unknown_option_is_refused(pool: Pool) -> None:
    with pytest.raises(TypeError, match="colour"):
        pool.options(colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        WorkerPool(colour="red")  # type: ignore[call-arg]


@pytest.mark.parametrize("retries", [-1, 1000, 1.5, "1"])
def test_retries_out_of_range_are_refused(retries: Any) -> None:
    with WorkerPool(tasks.echo, max_workers=1) as pool, pytest.raises((ValueError, TypeError)):
        pool.add_task(1, retries=retries)


def test_task_tells_what_it_cost_and_who_ran_it(pool: Pool) -> None:
    task = pool.submit(tasks.pid_of)
    pid = task.result()
    assert task.worker is not None
    assert task.worker.pid == pid
    assert task.task_cost is not None
    assert 0 <= task.task_cost < 10
    assert task.pre_task_cost == 0


def test_ids_of_tasks_differ(pool: Pool) -> None:
    assert len({pool.submit(tasks.echo, i).id for i in range(100)}) == 100


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"max_workers": 0}, ValueError),
        ({"max_workers": -1}, ValueError),
        ({"max_workers": 1 << 20}, ValueError),
        ({"tasks_per_worker": -1}, ValueError),
        ({"worker_concurrency": 0}, ValueError),
        ({"memory": 0}, ValueError),
        ({"spin": -1}, ValueError),
        ({"start_method": "teleport"}, ValueError),
        ({"initializer": 1}, TypeError),
        ({"tasks_per_worker": "3"}, TypeError),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        WorkerPool(**{"max_workers": 1, **arguments})


def test_refused_constructor_leaves_no_descriptor() -> None:
    class Nonsense:
        pass

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(3):
        with pytest.raises(Exception):  # noqa: B017
            WorkerPool(max_workers=1, mp_context=Nonsense())  # type: ignore[arg-type]
    wait_until(lambda: descriptors() <= before)


def test_pools_leave_no_descriptor() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with WorkerPool(max_workers=2) as pool:
        pool.submit(tasks.echo, 1).result()
    before = descriptors()
    for _ in range(5):
        with WorkerPool(max_workers=2) as pool:
            pool.submit(tasks.echo, 1).result()
    wait_until(lambda: descriptors() <= before)


def test_type_of_a_submitted_task_is_task(pool: Pool) -> None:
    assert type(pool.submit(tasks.echo, 1)) is Task
