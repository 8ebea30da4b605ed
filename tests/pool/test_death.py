"""A worker's death: its task fails, or is run again; everybody else's goes on.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import pickle
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any, NoReturn

import pool_tasks as tasks
import pytest
from helpers import wait_until
from pool_support import Gate

from workpool import WorkerDied, WorkerPool, WorkpoolError, current_client

Pool = WorkerPool[Any, Any]

# What a task whose arguments kill is claimed beyond its own attempts: WP_DECODE_DEATHS.
DECODE_DEATHS = 2


def lines_of(trace: Path) -> list[str]:
    return trace.read_text().splitlines() if trace.exists() else []


def replaced(pool: Pool, pids: set[int]) -> Callable[[], bool]:
    """Whether as many workers as before live, and none of those."""
    return lambda: len(pool.workers) == len(pids) and not {worker.pid for worker in pool.workers} & pids


@pytest.mark.parametrize(
    ("fn", "args", "exitcode", "words"),
    [
        (tasks.kill_self, (signal.SIGKILL,), -signal.SIGKILL, "was killed by SIGKILL"),
        (tasks.kill_self, (signal.SIGTERM,), -signal.SIGTERM, "was killed by SIGTERM"),
        (tasks.segfault, (), -signal.SIGSEGV, "was killed by SIGSEGV"),
        (tasks.exit_at_once, (7,), 7, "exited with code 7"),
        (tasks.exit_at_once, (0,), 0, "exited with code 0"),
    ],
    ids=["SIGKILL", "SIGTERM", "segfault", "exit-7", "exit-0"],
)
def test_task_that_ends_its_worker_fails_with_who_how_and_which(
    pool: Pool, fn: Any, args: tuple[Any, ...], exitcode: int, words: str
) -> None:
    pool.wait_ready()
    pids = {worker.id: worker.pid for worker in pool.workers}
    task = pool.options(key=("row", 3)).submit(fn, *args)
    with pytest.raises(WorkerDied) as caught:
        task.result(20)
    error = caught.value
    assert (error.exitcode, error.task_id, error.key) == (exitcode, task.id, ("row", 3))
    assert error.pid == pids[error.worker_id]
    assert str(error) == (
        f"worker {error.worker_id} (pid {error.pid}) {words} while it ran task {task.id} (key ('row', 3))"
    )
    assert isinstance(error, BrokenExecutor)
    assert isinstance(error, WorkpoolError)
    assert pool.submit(tasks.echo, "on").result(20) == "on"


def test_task_without_a_key_is_named_by_its_number_alone(pool: Pool) -> None:
    task = pool.submit(tasks.exit_at_once, 3)
    error = task.exception(20)
    assert isinstance(error, WorkerDied)
    assert error.key is None
    assert str(error).endswith(f"while it ran task {task.id}")


def test_worker_killed_from_outside_fails_the_task_it_ran(pool: Pool, gate: Gate) -> None:
    held, other = gate.hold(pool, "held"), gate.hold(pool, "other")
    assert held.worker is not None
    victim = held.worker
    os.kill(victim.pid, signal.SIGKILL)
    error = held.exception(20)
    assert isinstance(error, WorkerDied)
    assert (error.worker_id, error.pid, error.exitcode) == (victim.id, victim.pid, -signal.SIGKILL)
    gate.open()
    assert other.result(20) == "other"


def test_worker_died_survives_pickling() -> None:
    error = WorkerDied(2, 345, -9, 6, "k")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_replacement_inherits_the_id_and_runs_what_is_forced_there(pool: Pool) -> None:
    pool.wait_ready()
    before = {worker.id: worker.pid for worker in pool.workers}
    there = pool.options(worker_affinity=2, affinity_strength="force")
    died, later = there.submit(tasks.exit_at_once, 1), there.submit(tasks.current_task)
    assert isinstance(died.exception(20), WorkerDied)
    assert later.result(20)[3] == 2
    after = {worker.id: worker.pid for worker in pool.workers}
    assert (set(after), after[1]) == ({1, 2}, before[1])
    assert after[2] != before[2]


def test_idle_workers_that_are_killed_are_replaced(pool: Pool) -> None:
    pool.wait_ready()
    pids = {worker.pid for worker in pool.workers}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(replaced(pool, pids))
    assert [pool.submit(tasks.echo, number).result(20) for number in range(10)] == list(range(10))
    assert [worker.id for worker in pool.workers] == [1, 2]


def test_tasks_of_everybody_else_run_exactly_once(pool: Pool, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")
    marks, deaths = [], []
    for number in range(300):
        marks.append(pool.submit(tasks.mark, trace, number))
        if number % 75 == 30:
            deaths.append(pool.submit(tasks.exit_at_once, 9))
    assert [task.result(30) for task in marks] == list(range(300))
    assert [type(task.exception(30)) for task in deaths] == [WorkerDied] * 4
    assert Counter(map(int, lines_of(tmp_path / "trace"))) == Counter(range(300))


def test_tasks_queued_behind_killers_in_the_only_worker_all_complete() -> None:
    with WorkerPool(max_workers=1) as pool:
        pool.wait_ready()
        deaths = [pool.submit(tasks.exit_at_once, code) for code in (4, 5, 6)]
        others = [pool.submit(tasks.echo, number) for number in range(50)]
        assert [task.exception(20).exitcode for task in deaths] == [4, 5, 6]  # type: ignore[union-attr]
        assert [task.result(20) for task in others] == list(range(50))


def test_many_deaths_in_a_row_do_not_break_the_pool() -> None:
    with WorkerPool(max_workers=1) as pool:
        for code in range(1, 9):
            error = pool.submit(tasks.exit_at_once, code).exception(20)
            assert isinstance(error, WorkerDied)
            assert error.exitcode == code
        assert pool.submit(tasks.echo, 1).result(20) == 1


def test_large_arguments_and_results_of_fallen_tasks_give_their_memory_back() -> None:
    with WorkerPool(max_workers=1, memory=8 << 20) as pool:
        for _ in range(4):  # 12 MB in all
            died = pool.submit(lambda data: os._exit(1), bytes(3 << 20))
            assert isinstance(died.exception(20), WorkerDied)
        assert len(pool.submit(tasks.echo, bytes(3 << 20)).result(20)) == 3 << 20


def test_both_coroutine_tasks_of_a_worker_fall_with_it(tmp_path: Path) -> None:
    both = str(tmp_path / "both")

    async def fall(which: str) -> None:
        import asyncio

        tasks.mark(both, which)
        while len(Path(both).read_text().split()) < 2:
            await asyncio.sleep(0.001)
        if which == "killer":
            os._exit(5)
        await asyncio.sleep(30)

    with WorkerPool(max_workers=1, worker_concurrency=2) as pool:
        fallen = [pool.submit(fall, which) for which in ("killer", "beside")]
        errors = [task.exception(20) for task in fallen]
        assert [(type(error), error.exitcode) for error in errors] == [(WorkerDied, 5)] * 2  # type: ignore[union-attr]
        assert pool.submit(tasks.echo_later, 1).result(20) == 1


# ---- arguments that kill -----------------------------------------------------------------


def test_argument_that_kills_while_it_is_unpickled_is_tried_so_often_and_no_more(
    pool: Pool, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    task = pool.options(key="poison").submit(tasks.echo, tasks.Poison(str(trace)))
    with pytest.raises(WorkerDied, match=r"while it unpickled the arguments of task .* 'poison'") as caught:
        task.result(30)
    assert caught.value.exitcode == 9
    assert len(lines_of(trace)) == 1 + DECODE_DEATHS
    assert [pool.submit(tasks.echo, number).result(20) for number in range(5)] == list(range(5))


def test_retries_add_to_the_attempts_of_an_argument_that_kills(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with WorkerPool(tasks.echo, max_workers=1) as pool:
        error = pool.add_task(tasks.Poison(str(trace)), retries=1).exception(30)
        assert isinstance(error, WorkerDied)
        assert len(lines_of(trace)) == 2 + DECODE_DEATHS


# ---- retries -----------------------------------------------------------------------------


def test_task_with_retries_runs_again_and_sees_its_attempt(pool: Pool, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")

    def run(arg: str) -> int:
        task = current_client().task
        assert task is not None
        tasks.mark(trace, task.attempt)
        if task.attempt <= 2:
            os._exit(3)
        return task.attempt

    assert pool.options(retries=2).submit(run, "x").result(30) == 3
    assert lines_of(tmp_path / "trace") == ["1", "2", "3"]


def test_task_that_uses_up_its_retries_fails_with_worker_died(tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")
    with WorkerPool(lambda arg: tasks.die_first(trace, 99, arg), max_workers=1) as pool:
        error = pool.add_task("x", retries=2).exception(30)
        assert isinstance(error, WorkerDied)
        assert error.exitcode == 3
    assert len(lines_of(tmp_path / "trace")) == 3


def test_exception_is_not_retried(pool: Pool, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")

    def run() -> NoReturn:
        tasks.mark(trace)
        raise tasks.OwnError("no death")

    with pytest.raises(tasks.OwnError):
        pool.options(retries=3).submit(run).result(20)
    assert len(lines_of(tmp_path / "trace")) == 1


def test_argument_of_a_retried_task_is_the_same_each_time(tmp_path: Path) -> None:
    data = os.urandom(200_000)
    trace = str(tmp_path / "trace")
    with WorkerPool(max_workers=1) as pool:
        assert pool.options(retries=1).submit(tasks.die_first, trace, 1, data).result(30) == data


@pytest.mark.parametrize("retries", [253, 254, 255])
def test_retries_that_would_wrap_the_count_of_attempts_are_refused(pool: Pool, retries: int) -> None:
    # One byte counts attempts, those of an argument that kills included: past it there is no end.
    with pytest.raises(ValueError, match="retries"):
        pool.options(retries=retries)


# ---- stopped is not dead -------------------------------------------------------------------


def test_stopped_worker_is_neither_dead_nor_replaced(pool: Pool, gate: Gate) -> None:
    held = gate.hold(pool, "held")
    assert held.worker is not None
    stopped = held.worker
    other = next(worker for worker in pool.workers if worker.id != stopped.id)
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        gate.open()
        assert [pool.submit(tasks.pid_of).result(20) for _ in range(20)] == [other.pid] * 20
        # The supervisor sees a real death, and after that still no other one.
        os.kill(other.pid, signal.SIGKILL)
        wait_until(lambda: any(w.id == other.id and w.pid != other.pid for w in pool.workers))
        replacement = next(worker for worker in pool.workers if worker.id == other.id)
        assert pool.submit(tasks.pid_of).result(20) == replacement.pid
        assert [worker.pid for worker in pool.workers if worker.id == stopped.id] == [stopped.pid]
        assert not held.done()
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
    assert held.result(20) == "held"


def test_stopped_worker_that_is_killed_is_replaced(pool: Pool, gate: Gate) -> None:
    held = gate.hold(pool)
    assert held.worker is not None
    os.kill(held.worker.pid, signal.SIGSTOP)
    os.kill(held.worker.pid, signal.SIGKILL)
    assert isinstance(held.exception(20), WorkerDied)
    wait_until(lambda: len(pool.workers) == 2)


# ---- what a fallen task had submitted ------------------------------------------------------


def test_children_of_a_fallen_task_are_cancelled(tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")

    def fall() -> None:
        client = current_client()
        for number in range(20):
            client.submit(tasks.mark, trace, number)
        os._exit(2)

    with WorkerPool(max_workers=1) as pool:
        assert isinstance(pool.submit(fall).exception(20), WorkerDied)
        pool.when_idle().result(20)
        assert pool.submit(tasks.echo, 1).result(20) == 1
    assert not (tmp_path / "trace").exists()


def test_child_that_runs_elsewhere_ends_and_then_the_pool_is_idle(pool: Pool, gate: Gate) -> None:
    path = gate.path

    def fall() -> None:
        child = current_client().submit(tasks.enter, path, 1)
        wait_until(lambda: list(Path(path).parent.glob("gate.*.entered")))
        assert not child.done()
        os._exit(2)

    died = pool.submit(fall)
    assert isinstance(died.exception(20), WorkerDied)
    idle = pool.when_idle()
    assert not idle.done()
    gate.open()
    idle.result(20)
    assert pool.submit(tasks.echo, 1).result(20) == 1


def test_children_of_an_earlier_task_outlive_a_death_in_their_worker(tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")

    def leave() -> None:
        for number in range(10):
            current_client().submit(tasks.mark, trace, number)

    def fall() -> None:
        os._exit(2)

    with WorkerPool(max_workers=1) as pool:
        # Both are there before the first begins, so the worker may well take them together.
        left, died = pool.submit(leave), pool.submit(fall)
        left.result(20)
        assert isinstance(died.exception(20), WorkerDied)
        pool.when_idle().result(20)
    assert Counter(map(int, lines_of(tmp_path / "trace"))) == Counter(range(10))


def test_slots_of_a_fallen_home_are_given_back(tmp_path: Path) -> None:
    def fall() -> None:
        for _ in range(900):  # of 1,024
            current_client().submit(tasks.echo, 1)
        os._exit(2)

    def count() -> int:
        children = [current_client().submit(tasks.echo, number) for number in range(900)]
        return sum(child.result(20) for child in children)

    with WorkerPool(max_workers=1) as pool:
        for _ in range(3):
            assert isinstance(pool.submit(fall).exception(20), WorkerDied)
        assert pool.submit(count).result(30) == sum(range(900))
        pool.when_idle().result(20)
        assert pool.statistics().tasks_queued == 0


def test_parent_of_a_fallen_child_gets_worker_died_and_goes_on(pool: Pool, gate: Gate) -> None:
    path = gate.path

    def ask() -> tuple[str, int]:
        client = current_client()
        child = client.submit(fall)
        # Not here: the other worker shall run it, so nobody waits for it yet.
        wait_until(lambda: Path(f"{path}.open").exists())
        try:
            child.result(20)
        except WorkerDied as error:
            return "died", error.exitcode
        return "lived", 0

    def fall() -> None:
        Path(f"{path}.open").touch()
        os._exit(6)

    assert pool.submit(ask).result(30) == ("died", 6)
