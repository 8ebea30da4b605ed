"""Time limits of tasks.

SPDX-License-Identifier: BSD-3-Clause
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cancel_tasks as jobs
import pool_tasks as tasks
import pytest
from helpers import wait_until
from pool_support import Gate

from workpool import TaskTimeout, WorkerPool

Pool = WorkerPool[Any, Any]


@pytest.mark.parametrize(
    "job",
    [
        jobs.count,
        jobs.nap,
        jobs.raise_other,
        jobs.swallow_once,
        jobs.sleep_in_coroutine,
        jobs.count_in_coroutine,
    ],
)
def test_a_task_past_its_time_fails_with_task_timeout_and_the_worker_stays(
    tmp_path: Path, job: Callable[..., Any]
) -> None:
    with WorkerPool(max_workers=1, grace=20.0) as pool:
        [pid] = [pool.submit(tasks.pid_of).result(20)]
        task = pool.options(timeout=0.05, key="slow").submit(job, str(tmp_path / "job"))
        with pytest.raises(TaskTimeout, match=r"key 'slow'.*0\.05 s") as caught:
            task.result(30)
        assert isinstance(caught.value, TimeoutError)
        assert pool.submit(tasks.pid_of).result(20) == pid


def test_the_error_shows_where_the_task_was(tmp_path: Path) -> None:
    with WorkerPool(max_workers=1) as pool:
        error = pool.options(timeout=0.05).submit(jobs.count, str(tmp_path / "job")).exception(30)
        assert isinstance(error, TaskTimeout)
        assert "in count" in str(error.__cause__)


def test_a_task_in_c_code_past_its_time_is_killed_and_the_next_runs(tmp_path: Path) -> None:
    with WorkerPool(max_workers=1, grace=0.1) as pool:
        pid = pool.submit(tasks.pid_of).result(20)
        task = pool.options(timeout=0.05).submit(jobs.in_c_code, str(tmp_path / "job"))
        later = pool.submit(tasks.pid_of)
        with pytest.raises(TaskTimeout):
            task.result(30)
        assert later.result(30) != pid


def test_the_time_is_counted_from_the_start(gate: Gate) -> None:
    with WorkerPool(max_workers=1, grace=20.0) as pool:
        held = gate.hold(pool)
        limited = pool.options(timeout=0.3).submit(tasks.echo, "in time")
        end = time.monotonic() + 0.6
        wait_until(lambda: time.monotonic() > end)
        gate.open()
        held.result(20)
        assert limited.result(20) == "in time"


def test_a_retry_has_all_of_the_time_again(tmp_path: Path) -> None:
    with WorkerPool(max_workers=1, grace=20.0) as pool:
        limited = pool.options(timeout=4.0, retries=1)
        # Both attempts together take longer than the limit.
        assert limited.submit(jobs.die_then_stay, str(tmp_path / "a"), 2.1, 2.1).result(60) == 2


def test_a_retry_has_no_more_than_its_time(tmp_path: Path) -> None:
    with WorkerPool(max_workers=1, grace=20.0) as pool:
        limited = pool.options(timeout=1.0, retries=1)
        with pytest.raises(TaskTimeout):
            limited.submit(jobs.die_then_stay, str(tmp_path / "a"), 0.0, 60.0).result(60)
        assert (tmp_path / "a.attempt2").exists()


def test_many_tasks_with_limits_beyond_the_slots_end_well() -> None:
    with WorkerPool(max_workers=2, grace=20.0) as pool:
        limited = pool.options(timeout=20.0)
        results = [limited.submit(tasks.echo, n) for n in range(20_000)]
        stuck = pool.options(timeout=0.05).submit(jobs.mixed, -1)
        with pytest.raises(TaskTimeout):
            stuck.result(30)
        assert [task.result(30) for task in results] == list(range(20_000))


def test_add_task_takes_a_timeout_too_and_so_does_a_child(tmp_path: Path) -> None:
    with WorkerPool(jobs.count, max_workers=2, grace=20.0) as pool:
        with pytest.raises(TaskTimeout):
            pool.add_task(str(tmp_path / "a"), timeout=0.05).result(30)
        told = pool.submit(jobs.child_with_a_limit, str(tmp_path / "b"), 0.05).result(30)
        assert "0.05 s" in told


def test_each_item_of_a_map_has_the_time() -> None:
    with WorkerPool(max_workers=2, grace=20.0) as pool:
        results = pool.options(timeout=0.05).map(jobs.mixed, [1, 2, -1, 4])
        assert [next(results), next(results)] == [2, 3]
        with pytest.raises(TaskTimeout):
            next(results)


@pytest.mark.parametrize("days", [25, 40, 1e6, 1e300])
def test_a_long_limit_is_none_that_is_met(days: float, tmp_path: Path) -> None:
    with WorkerPool(max_workers=1) as pool:
        long = pool.options(timeout=days * 86_400.0)
        assert long.submit(jobs.briefly, 1).result(20) == 1
        task = pool.options(timeout=0.05, key="k").submit(jobs.count, str(tmp_path / "job"))
        with pytest.raises(TaskTimeout):  # somebody still looks
            task.result(20)


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError)])
def test_a_timeout_is_a_positive_number_of_seconds(limit: Any, error: type[Exception]) -> None:
    with WorkerPool(max_workers=1) as pool, pytest.raises(error, match="timeout"):
        pool.options(timeout=limit).submit(tasks.echo, 1)
