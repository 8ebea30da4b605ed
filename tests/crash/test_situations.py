"""Single situations: who dies where, and what becomes of the pool.

SPDX-License-Identifier: BSD-3-Clause
"""

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pool_tasks as tasks
import pytest
from crash import crash_tasks
from helpers import children_of, is_alive, wait_until
from pool_support import Gate, script_environment
from stress import storm_tasks

from workpool import WorkerDied, WorkerPool

Pool = WorkerPool[Any, Any]

# A pool gives up when so many workers in a row die before they have started.
START_DEATHS = 5
DECODE_DEATHS = 2


def kill_all(pool: Pool) -> set[int]:
    """SIGKILL every worker, wait until others sit there, and return who was killed."""
    pids = {worker.pid for worker in pool.workers}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(pool.workers) == len(pids) and not pids & {w.pid for w in pool.workers}, 30.0)
    return pids


def all_slots_are_free(pool: Pool, slots: int) -> bool:
    return pool.statistics().slots_free == slots


# ---- before the first task -----------------------------------------------------------


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_start_hook_that_kills_breaks_the_pool_and_fails_what_is_queued(tmp_path: Path, how: str) -> None:
    trace = str(tmp_path / "trace")

    def fall() -> None:
        crash_tasks.sign(trace, 0)
        if how == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGKILL)

    with WorkerPool(crash_tasks.with_hooks(start=fall), max_workers=2) as pool:
        queued = [pool.add_task(number) for number in range(10)]
        errors = [task.exception(30) for task in queued]
        assert {type(error) for error in errors} == {WorkerDied}
        with pytest.raises(WorkerDied):
            pool.add_task(0)
        assert "while it started" in str(errors[0])
    # A second worker may have been on its way.
    assert len(Path(trace).read_text().splitlines()) in range(START_DEATHS, START_DEATHS + 3)


def test_start_hook_that_kills_now_and_then_costs_nothing(tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")

    def fall_at_first() -> None:
        crash_tasks.sign(trace, 0)
        if len(Path(trace).read_text().splitlines()) < START_DEATHS:
            os._exit(3)

    with WorkerPool(crash_tasks.with_hooks(start=fall_at_first), max_workers=1) as pool:
        assert [pool.add_task(number).result(30) for number in range(10)] == list(range(10))


def test_workers_killed_while_they_start() -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        queued = [pool.submit(tasks.echo, number) for number in range(200)]
        killed = 0
        for _ in range(2):  # fewer than break it
            killed += len(kill_all(pool))
        # Where this process is held up, one of them has begun a task: that one is lost with it, and no other.
        died = [task for task in queued if isinstance(task.exception(30), WorkerDied)]
        assert len(died) <= killed
        kept = [number for number, task in enumerate(queued) if task not in died]
        assert [queued[number].result() for number in kept] == kept


# ---- arguments that kill -------------------------------------------------------------


def test_poisoned_tasks_are_tried_so_often_each_and_the_others_run_once(tmp_path: Path) -> None:
    trace, healthy = tmp_path / "poison", tmp_path / "healthy"
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        slots = pool.statistics().slots_free
        poisoned, others = [], []
        for number in range(60):
            others.append(pool.submit(crash_tasks.sign, str(healthy), number))
            if number % 20 == 10:
                poisoned.append(pool.submit(tasks.echo, tasks.Poison(str(trace))))
        assert [task.result(30) for task in others] == list(range(60))
        for task in poisoned:
            error = task.exception(30)
            assert isinstance(error, WorkerDied)
            assert "unpickled the arguments" in str(error)
        wait_until(lambda: all_slots_are_free(pool, slots))
    assert len(trace.read_text().splitlines()) == 3 * (1 + DECODE_DEATHS)
    assert sorted(map(int, healthy.read_text().split())) == list(range(60))


def test_poisoned_child_fails_its_parent_and_not_the_pool(tmp_path: Path) -> None:
    # Whoever waits runs it in its own place: there is one life for each attempt.
    trace = str(tmp_path / "poison")

    def parent() -> str:
        from workpool import current_client

        error = current_client().submit(tasks.echo, crash_tasks.Fatal(trace)).exception()
        return type(error).__name__

    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        task = pool.submit(parent)
        try:
            assert task.result(30) == "WorkerDied"  # the other worker took the child each time
        except WorkerDied:
            pass
        pool.when_idle().result(30)
        assert pool.submit(tasks.echo, 1).result(30) == 1
    assert len(Path(trace).read_text().split()) <= 1 + DECODE_DEATHS


# ---- memory --------------------------------------------------------------------------


def test_memory_error_of_a_task_is_its_own() -> None:
    with WorkerPool(max_workers=1, initializer=_ledger_of_ten) as pool:
        assert isinstance(pool.submit(storm_tasks.out_of_memory, 1).exception(30), MemoryError)
        pid = pool.workers[0].pid
        assert pool.submit(tasks.pid_of).result(30) == pid


def test_worker_that_falls_for_want_of_memory_is_replaced() -> None:
    with WorkerPool(max_workers=1, initializer=_ledger_of_ten) as pool:
        for _ in range(3):
            error = pool.submit(storm_tasks.die_of_memory, 1).exception(30)
            assert isinstance(error, WorkerDied)
            assert error.exitcode == -signal.SIGSEGV
        assert pool.submit(tasks.echo, 1).result(30) == 1


def _ledger_of_ten() -> None:
    import mmap

    storm_tasks.ledger = mmap.mmap(-1, 10 * storm_tasks.RECORD)


@pytest.mark.parametrize("spare", [0, 1 << 16, 1 << 20, 8 << 20])
def test_worker_that_stays_short_of_memory_fails_tasks_and_hangs_none(spare: int) -> None:
    with WorkerPool(max_workers=1, memory=32 << 20) as pool:
        slots = pool.statistics().slots_free
        pid = pool.submit(tasks.pid_of).result(30)
        pool.submit(crash_tasks.starve, spare).exception(30)
        data = bytes(300_000)
        offered: list[Any] = []
        for number in range(100):
            offered.append(pool.submit(tasks.echo, number))
            offered.append(pool.submit(tasks.echo, data))
            offered.append(pool.submit(crash_tasks.large, 32 << 20))
        for number, task in enumerate(offered):
            # What fails may fail in many ways: an import for want of memory is an ImportError.
            if task.exception(30) is None:
                assert task.result() == (number // 3, data, 32 << 20)[number % 3]
        with contextlib.suppress(ProcessLookupError):  # the next one is not short of anything
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in {worker.pid for worker in pool.workers})
        assert pool.submit(crash_tasks.large, 32 << 20).result(30) == 32 << 20
        wait_until(lambda: all_slots_are_free(pool, slots))


# ---- many deaths ---------------------------------------------------------------------


@pytest.mark.timeout(180)
def test_fifty_tasks_in_a_row_that_each_kill_their_worker(tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready(30)
        slots, descriptors = pool.statistics().slots_free, len(os.listdir("/proc/self/fd"))
        deaths, others = [], []
        for number in range(50):
            deaths.append(pool.submit(tasks.exit_at_once, number))
            others.append(pool.submit(crash_tasks.sign, trace, number))
        assert [task.exception(50).exitcode for task in deaths] == list(range(50))  # type: ignore[union-attr]
        assert [task.result(50) for task in others] == list(range(50))
        pool.wait_ready(30)
        wait_until(lambda: all_slots_are_free(pool, slots))
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
    assert sorted(map(int, Path(trace).read_text().split())) == list(range(50))


def test_all_workers_killed_at_once_again_and_again(tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")
    with WorkerPool(max_workers=3, tasks_per_worker=0) as pool:
        offered, kills = [], 0
        for round_ in range(6):
            pool.wait_ready(30)
            offered += [pool.submit(crash_tasks.sign_slowly, trace, 100 * round_ + n) for n in range(100)]
            time.sleep(0.01 * round_)
            kills += len(kill_all(pool))
        errors = [task.exception(50) for task in offered]
        died = [number for number, error in enumerate(errors) if error is not None]
        assert {type(errors[number]) for number in died} <= {WorkerDied}
        assert len(died) <= kills
    signed = list(map(int, Path(trace).read_text().split()))
    assert len(signed) == len(set(signed))  # none entered twice
    assert set(range(600)) - set(signed) <= set(died)  # none lost


def test_all_workers_stopped_then_killed_or_not() -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready(30)
        pids = sorted(worker.pid for worker in pool.workers)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        offered = [pool.submit(tasks.echo, number) for number in range(1000)]
        time.sleep(0.05)
        assert not any(task.done() for task in offered[10:])
        os.kill(pids[0], signal.SIGKILL)
        os.kill(pids[1], signal.SIGCONT)
        errors = [task.exception(30) for task in offered]
        assert sum(error is not None for error in errors) <= 1


# ---- the parent ----------------------------------------------------------------------


@pytest.mark.parametrize("park", ["futex", "poll"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_parent_killed_while_nested_tasks_run(tmp_path: Path, number: int, park: str) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import resource, sys, time\n"
        "from crash import crash_tasks\n"
        "from workpool import WorkerPool\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "pool = WorkerPool(max_workers=3, tasks_per_worker=0)\n"
        "pool.wait_ready()\n"
        "tasks = [pool.submit(crash_tasks.recurse, 12) for _ in range(8)]\n"
        "tasks += [pool.submit(time.sleep, 100)]\n"
        "while pool.statistics().tasks_running < 3: time.sleep(0.001)\n"
        "print(*[worker.pid for worker in pool.workers], flush=True)\n"
        "time.sleep(100)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True,
        env={**script_environment(), "WORKPOOL_PARK": park},
    )  # fmt: skip
    assert process.stdout is not None
    pids = list(map(int, process.stdout.readline().split()))
    assert len(pids) == 3
    assert all(is_alive(pid) for pid in pids)
    time.sleep(0.05)
    os.kill(process.pid, number)
    assert process.wait(20) == -number
    process.stdout.close()
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_parent_killed_while_a_worker_is_stopped(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\n"
        "from workpool import WorkerPool\n"
        "pool = WorkerPool(max_workers=2, tasks_per_worker=0)\n"
        "pool.wait_ready()\n"
        "print(*[worker.pid for worker in pool.workers], flush=True)\n"
        "time.sleep(100)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=script_environment()
    )
    assert process.stdout is not None
    pids = list(map(int, process.stdout.readline().split()))
    os.kill(pids[0], signal.SIGSTOP)
    process.kill()
    process.wait(20)
    process.stdout.close()
    wait_until(lambda: not is_alive(pids[1]))
    os.kill(pids[0], signal.SIGCONT)
    wait_until(lambda: not is_alive(pids[0]))


# ---- the end -------------------------------------------------------------------------


def test_worker_killed_in_its_exit_hook_does_not_hold_up_the_shutdown(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    path = gate.path

    def stay() -> None:
        tasks.enter(path)

    pool: Pool = WorkerPool(crash_tasks.with_hooks(end=stay), max_workers=2, tasks_per_worker=0)
    pool.wait_ready(30)
    assert pool.add_task(1).result(30) == 1
    pids = [worker.pid for worker in pool.workers]
    pool.shutdown(wait=False)
    wait_until(lambda: gate.entered == 2)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    pool.shutdown()
    assert not children_of(os.getpid()) & set(pids)


def test_workers_killed_while_the_pool_is_shut_down() -> None:
    for delay in (0.0, 0.0005, 0.002, 0.01, 0.03):
        pool: Pool = WorkerPool(max_workers=2, tasks_per_worker=0)
        pool.wait_ready(30)
        offered = [pool.submit(tasks.echo, number) for number in range(300)]
        pool.shutdown(wait=False)
        time.sleep(delay)
        for worker in pool.workers:
            try:
                os.kill(worker.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        pool.shutdown()
        errors = [task.exception(0) for task in offered]  # all settled by now
        assert sum(error is not None for error in errors) <= 2
        assert {type(error) for error in errors} <= {type(None), WorkerDied}


# ---- how soon ------------------------------------------------------------------------


def test_time_from_sigkill_to_the_failed_future(tmp_path: Path) -> None:
    took = []
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        for number in range(15):
            pool.wait_ready(30)
            (tmp_path / str(number)).mkdir()
            gate = Gate(tmp_path / str(number))
            held = gate.hold(pool)
            assert held.worker is not None
            begun = time.perf_counter()
            os.kill(held.worker.pid, signal.SIGKILL)
            assert isinstance(held.exception(30), WorkerDied)
            took.append(time.perf_counter() - begun)
            gate.open()
    print(
        f"\nSIGKILL to failed future: median {statistics.median(took) * 1e3:.2f} ms, "
        f"worst {max(took) * 1e3:.2f} ms, of {len(took)}"
    )
