"""``workpool top`` and what it sees: another process's pool, looked at and left alone.

SPDX-License-Identifier: BSD-3-Clause
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pool_tasks as tasks
import pytest
from helpers import wait_until
from pool_support import Gate, script_environment

from workpool import WorkerPool, _look, watching

COMMAND = [sys.executable, "-m", "workpool", "top"]

STANDING_POOL = """
import sys
from workpool import WorkerPool

pool = WorkerPool(max_workers=2, tasks_per_worker=0, name="standing")
pool.submit(abs, -1).result()
pool.wait_ready()
print("ready", flush=True)
sys.stdin.read()
"""


def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=30, env=script_environment()
    )


def rows(printed: str) -> dict[int, list[str]]:
    """The cells of each worker's row, without units, by its id."""
    lines = printed.splitlines()
    head = next(number for number, line in enumerate(lines) if line.lstrip().startswith("worker"))
    return {int(cells[0]): cells for cells in map(str.split, lines[head + 1 :])}


@pytest.fixture
def standing() -> Iterator[subprocess.Popen[str]]:
    """A process with a pool of two workers, named `standing`."""
    with subprocess.Popen(
        [sys.executable, "-c", STANDING_POOL],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=script_environment(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def watched(pid: int) -> watching.Watched:
    return next(pool for pool in watching.find_pools()[0] if pool.pid == pid)


def test_workers_are_shown_with_their_tasks(pool: WorkerPool[Any, Any], gate: Gate) -> None:
    pool.wait_ready()
    held = gate.hold(pool)
    seat = held.worker.id
    bound = pool.options(worker_affinity=seat, affinity_strength="force", cost=2.0)
    waiting = [bound.submit(tasks.echo, number) for number in range(5)]
    done = top(str(os.getpid()), "--once")
    assert done.returncode == 0, done.stderr
    assert f"process {os.getpid()}: 2 workers, 1 running, 5 queued (0 for anyone)" in done.stdout
    shown = rows(done.stdout)
    assert [shown[worker.id][1] for worker in pool.workers] == [str(worker.pid) for worker in pool.workers]
    # State, tasks that have been run, steals, queued, load.
    assert shown[seat][2:7] == ["running", "0", "0", "5", "10.00"]
    assert shown[3 - seat][2] == "idle"
    gate.open()
    assert [task.result(20) for task in waiting] == list(range(5))


def test_what_is_seen_is_what_the_pool_says_of_itself(pool: WorkerPool[Any, Any]) -> None:
    assert list(pool.map(tasks.echo, range(500), chunksize=1)) == list(range(500))
    array = pool.zeros(1 << 20)
    wait_until(lambda: pool.is_idle)
    seen, told = watched(os.getpid()).snapshot(), pool.statistics()
    assert (seen.tasks_done, seen.tasks_queued, seen.tasks_running) == (told.tasks_done, 0, 0)
    assert [w.tasks_run for w in seen.workers] == [w.tasks_run for w in told.workers]
    assert [w.steals for w in seen.workers] == [w.steals for w in told.workers]
    assert seen.arena_bytes == told.arena_bytes >= array.nbytes
    # The pool tells of the mapping, in whole spans and with the first, which holds nothing.
    assert 0 <= told.arena_budget_bytes - seen.arena_budget_bytes < 1 << 16
    assert sum(w.busy_seconds for w in seen.workers) == pytest.approx(
        sum(w.busy_seconds for w in told.workers)
    )


def test_the_mapping_can_only_be_read(pool: WorkerPool[Any, Any]) -> None:
    pool.submit(tasks.echo, 1).result(20)
    found = watched(os.getpid())
    (mapped,) = [
        line
        for line in Path("/proc/self/maps").read_text().splitlines()
        if f" {found.identity[1]} " in line and line.split()[1].startswith("r-")
    ]
    assert mapped.split()[1] == "r--s"


def test_several_pools_are_listed_and_one_is_chosen_by_name_or_process(
    pool: WorkerPool[Any, Any], standing: subprocess.Popen[str]
) -> None:
    pool.submit(tasks.echo, 1).result(20)
    listed = top()
    assert listed.returncode == 0, listed.stderr
    pids = [line.split()[0] for line in listed.stdout.splitlines()[1:]]
    assert {str(os.getpid()), str(standing.pid)} <= set(pids)
    a_worker = watched(standing.pid).snapshot().workers[0].pid
    for name in ("standing", str(standing.pid), str(a_worker)):
        shown = top(name, "--once")
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.startswith(f"standing of process {standing.pid}: 2 workers")


def test_unknown_pool_is_refused_with_the_names_of_those_that_run(standing: subprocess.Popen[str]) -> None:
    done = top("nobodys")
    assert done.returncode == 2
    assert f"standing (pid {standing.pid})" in done.stderr


@contextlib.contextmanager
def view_of(standing: subprocess.Popen[str]) -> Iterator[tuple[subprocess.Popen[str], IO[str], IO[str]]]:
    """A view of that process's pool that has begun; its output and its errors."""
    with subprocess.Popen(
        [*COMMAND, str(standing.pid), "--interval", "0.05"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=script_environment(),
    ) as view:  # fmt: skip
        assert view.stdout is not None and view.stderr is not None
        assert view.stdout.readline().startswith("standing of process")
        yield view, view.stdout, view.stderr


@pytest.mark.parametrize("end", [signal.SIGKILL, None], ids=["killed", "shut down"])
def test_view_ends_with_its_pool(standing: subprocess.Popen[str], end: signal.Signals | None) -> None:
    with view_of(standing) as (view, out, _):
        if end is None:
            assert standing.stdin is not None
            standing.stdin.close()
        else:
            standing.send_signal(end)
        printed = out.read()
        assert view.wait(20) == 0
    assert printed.splitlines()[-1] == f"the pool of process {standing.pid} has ended"


def test_ctrl_c_ends_the_view_and_not_the_pool(standing: subprocess.Popen[str]) -> None:
    with view_of(standing) as (view, _, err):
        view.send_signal(signal.SIGINT)
        assert "Traceback" not in err.read()
        assert view.wait(20) == 0
    assert watched(standing.pid).lives
    assert standing.poll() is None


def test_reader_that_goes_away_ends_the_view_quietly(standing: subprocess.Popen[str]) -> None:
    with view_of(standing) as (view, out, err):
        out.close()
        assert view.wait(20) == 128 + signal.SIGPIPE
        assert err.read() == ""


def test_memory_that_is_no_control_segment_is_refused_by_its_head() -> None:
    for head, check in ((bytes(64), _look.ALIEN), (b"workpool" + b"\xff" * 56, _look.OTHER_RELEASE)):
        with pytest.raises(_look.NotAPool) as refused:
            _look.Look(head + bytes(1 << 16))
        assert refused.value.check == check
