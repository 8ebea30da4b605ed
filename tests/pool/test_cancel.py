"""Cancelling running tasks: by flag, by force, and what becomes of everybody else.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cancel_tasks as jobs
import pool_tasks as tasks
import pytest
from helpers import wait_until
from pool_support import Gate

from workpool import Task, WorkerPool

Pool = WorkerPool[Any, Any]

# Long enough for code that can be interrupted on a busy machine, so that no test replaces
# a worker by accident; short where replacing is what is tested.
PATIENT, BRIEF = 20.0, 0.1


@pytest.fixture
def two() -> Iterator[Pool]:
    with WorkerPool(max_workers=2, tasks_per_worker=0, grace=PATIENT) as pool:
        pool.wait_ready(20)
        yield pool


def running(pool: Pool, fn: Callable[..., Any], tmp_path: Path, *args: Any) -> Task[Any]:
    path = tmp_path / fn.__name__
    task = pool.submit(fn, str(path), *args)
    wait_until(lambda: Path(f"{path}.entered").exists(), timeout=20.0)
    return task


def pids(pool: Pool) -> list[int]:
    return [worker.pid for worker in pool.workers]


def assert_cancelled(task: Task[Any]) -> None:
    with pytest.raises(concurrent.futures.CancelledError) as caught:
        task.result(30)
    assert type(caught.value) is concurrent.futures.CancelledError
    assert task.cancelled() and task.done() and not task.running()


@pytest.mark.parametrize(
    "job",
    [
        jobs.count, jobs.nap, jobs.clean_up, jobs.check_the_flag, jobs.raise_other, jobs.swallow_once,
        jobs.sleep_in_coroutine, jobs.count_in_coroutine, jobs.run_below,
    ],
)  # fmt: skip
def test_forced_cancel_ends_running_python_code_and_keeps_the_worker(
    two: Pool, tmp_path: Path, job: Callable[..., Any]
) -> None:
    before = pids(two)
    if job is jobs.run_below:
        task = two.submit(job, str(tmp_path / "child"))
        wait_until((tmp_path / "child.entered").exists, timeout=20.0)
    else:
        task = running(two, job, tmp_path)
    begun = time.monotonic()
    assert task.cancel(force=True)
    assert_cancelled(task)
    two.when_idle().result(30)
    assert time.monotonic() - begun < PATIENT
    assert pids(two) == before
    assert [two.submit(tasks.echo, n).result(10) for n in range(20)] == list(range(20))
    if job in (jobs.clean_up, jobs.sleep_in_coroutine):
        assert (tmp_path / f"{job.__name__}.cleaned").exists()


@pytest.mark.parametrize("job", [jobs.in_c_code, jobs.swallow])
def test_a_task_that_does_not_end_is_killed_and_only_that_one(
    tmp_path: Path, gate: Gate, job: Callable[..., Any]
) -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready(20)
        task = running(pool, job, tmp_path)
        held = gate.hold(pool, "other")
        queued = [pool.submit(tasks.echo, n) for n in range(50)]
        seat = task.worker.id if task.worker is not None else 0
        before = pids(pool)
        assert task.cancel(force=True, grace=BRIEF)
        assert_cancelled(task)
        assert [other.result(20) for other in queued] == list(range(50))
        gate.open()
        assert held.result(20) == "other"
        wait_until(lambda: len(pool.workers) == 2, timeout=20.0)
        changed = [worker.id for worker, pid in zip(pool.workers, before, strict=True) if worker.pid != pid]
        assert changed == [seat]


def test_plain_cancel_of_a_running_task_is_a_flag_that_it_may_ignore(two: Pool, tmp_path: Path) -> None:
    task = running(two, jobs.look_at_the_flag, tmp_path)
    assert not task.cancel()
    assert task.result(30) == "saw it"
    assert not task.cancelled()


def test_plain_cancel_ends_a_task_that_checks(two: Pool, tmp_path: Path) -> None:
    task = running(two, jobs.check_the_flag, tmp_path)
    assert not task.cancel()
    assert_cancelled(task)


def test_plain_cancel_ends_a_coroutine_where_it_awaits(two: Pool, tmp_path: Path) -> None:
    task = running(two, jobs.sleep_in_coroutine, tmp_path)
    others = [two.submit(jobs.briefly, n) for n in range(10)]
    task.cancel()
    assert_cancelled(task)
    assert (tmp_path / "sleep_in_coroutine.cleaned").exists()
    assert [other.result(20) for other in others] == list(range(10))


def test_the_flag_can_be_read_through_its_address(two: Pool, tmp_path: Path) -> None:
    task = running(two, jobs.read_the_flag_by_address, tmp_path)
    task.cancel()
    assert task.result(30) != 0


def test_queued_descendants_of_a_cancelled_task_never_run(tmp_path: Path) -> None:
    with WorkerPool(max_workers=1, tasks_per_worker=0, grace=PATIENT) as pool:
        task = running(pool, jobs.with_children, tmp_path, 300)
        wait_until(lambda: list(tmp_path.glob("*.child")), timeout=20.0)
        assert task.cancel(force=True)
        assert_cancelled(task)
        pool.when_idle().result(30)
        assert len(list(tmp_path.glob("*.child"))) < 300


def test_a_worker_cancels_its_own_child(two: Pool, tmp_path: Path) -> None:
    assert two.submit(jobs.cancel_a_child, str(tmp_path / "child")).result(30) == "CancelledError"
    assert len(two.run_on_workers(tasks.pid_of)) == 2


def test_cancelling_twice_or_after_the_end_says_what_it_is(two: Pool, tmp_path: Path) -> None:
    done = two.submit(tasks.echo, 1)
    assert done.result(10) == 1
    assert not done.cancel(force=True) and done.result() == 1
    task = running(two, jobs.count, tmp_path)
    assert task.cancel(force=True)
    task.cancel(force=True)
    assert_cancelled(task)
    assert task.cancel(force=True)


@pytest.mark.parametrize(("grace", "error"), [("x", TypeError), (-1, ValueError), (float("nan"), ValueError)])
def test_a_grace_that_makes_no_sense_is_refused_and_nothing_asked(
    two: Pool, tmp_path: Path, grace: Any, error: type[Exception]
) -> None:
    task = running(two, jobs.look_at_the_flag, tmp_path)
    with pytest.raises(error, match="grace"):
        task.cancel(force=True, grace=grace)
    assert task.running()
    task.cancel()
    assert task.result(30) == "saw it"


def test_awaiting_a_task_that_is_cancelled_raises(tmp_path: Path, two: Pool) -> None:
    task = running(two, jobs.count, tmp_path)

    async def main() -> str:
        asyncio.get_running_loop().call_later(0.01, lambda: task.cancel(force=True))
        try:
            await task
        except concurrent.futures.CancelledError:
            return "cancelled"
        return "not"

    assert asyncio.run(main()) == "cancelled"


def test_shutdown_with_cancel_futures_lets_running_tasks_end(gate: Gate) -> None:
    pool: Pool = WorkerPool(max_workers=1)
    held = gate.hold(pool, "held")
    queued = [pool.submit(tasks.echo, n) for n in range(1000)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(task.cancelled() for task in queued)
    gate.open()
    assert held.result(20) == "held"
    pool.shutdown()


def test_the_callback_and_the_waiters_of_a_cancelled_task_are_told(two: Pool, tmp_path: Path) -> None:
    told: list[bool] = []
    task = running(two, jobs.count, tmp_path)
    task.add_done_callback(lambda done: told.append(done.cancelled()))
    assert task.cancel(force=True)
    done, left = concurrent.futures.wait([task], timeout=30)
    assert (done, left) == ({task}, set())
    wait_until(lambda: told == [True])


def test_forced_cancels_reach_no_other_task(two: Pool) -> None:
    """Short tasks that follow one another at once, and cancels that come when they may be over."""
    wrong = 0
    cancelled = 0
    for round_ in range(60):
        batch = [two.submit(jobs.mixed, -1 if n % 10 == 0 else n) for n in range(100)]
        promised = [
            task.cancel(force=True) if n % 10 == 0 or n % 7 == round_ % 7 else None
            for n, task in enumerate(batch)
        ]
        for n, task in enumerate(batch):
            if promised[n] is None or (n % 10 and not promised[n]):
                wrong += task.result(30) != n + 1
            else:
                assert_cancelled(task)
                cancelled += 1
    assert wrong == 0 and cancelled >= 600
