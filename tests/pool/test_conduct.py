"""How workers behave: logging, stacks, titles, threads of libraries, pools inside pools.

SPDX-License-Identifier: BSD-3-Clause
"""

import importlib.util
import io
import logging
import os
import threading
from pathlib import Path
from typing import Any

import cancel_tasks as jobs
import pool_tasks as tasks
import pytest
from helpers import wait_until
from pool_support import Gate

from workpool import TaskTimeout, WorkerPool

Pool = WorkerPool[Any, Any]


def log_something(name: str, text: str) -> None:
    import logging

    log = logging.getLogger(name)
    log.info("of %s: %s", os.getpid(), text)
    log.debug("not wanted")
    try:
        raise ValueError("in the worker")
    except ValueError:
        log.exception("it failed", extra={"lock": threading.Lock()})


def environment_of(names: list[str]) -> list[str | None]:
    return [os.environ.get(name) for name in names]


def pool_in_a_pool(values: list[int]) -> tuple[list[int], list[int], str]:
    with WorkerPool(max_workers=4) as inner:
        pids = [inner.submit(tasks.pid_of).result() for _ in range(8)]
        with WorkerPool(tasks.echo) as other:
            assert other.add_task(5).result() == 5
        return list(inner.map(abs, values)), pids, repr(inner)


def inner_options() -> str:
    with WorkerPool() as inner:
        try:
            inner.options(timeout=0.05, key="k").submit(jobs.mixed, -1).result()
        except TaskTimeout as error:
            return str(error)
    return "no time-out"


# ---- logging -------------------------------------------------------------------------


def test_records_of_workers_reach_the_parents_handlers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with WorkerPool(max_workers=1) as pool:
        pid = pool.submit(tasks.pid_of).result(20)
        pool.submit(log_something, "my.logger", "hello").result(20)
    mine = [record for record in caplog.records if record.name == "my.logger"]
    assert [record.levelname for record in mine] == ["INFO", "ERROR"]
    assert mine[0].getMessage() == f"of {pid}: hello" and mine[0].process == pid
    assert "ValueError: in the worker" in str(mine[1].exc_text)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_records_come_once_with_every_start_method(caplog: pytest.LogCaptureFixture, method: str) -> None:
    caplog.set_level(logging.INFO)
    with WorkerPool(max_workers=1, start_method=method) as pool:
        pool.submit(log_something, "my.logger", "hello").result(20)
    assert len([record for record in caplog.records if record.name == "my.logger"]) == 2


def test_a_flood_of_records_without_anybody_who_gathers_holds_up_no_worker() -> None:
    with WorkerPool(max_workers=1) as pool:
        task = pool.submit(log_much, 5000)
        wait_until(lambda: task.slot_phase == 5, timeout=50.0)  # done, and not gathered
        assert task.result(20) == 5000


def log_much(records: int) -> int:
    import logging

    for number in range(records):
        logging.getLogger("flood").warning("record %d of many", number)
    return records


def test_printed_text_passes_through(capfd: pytest.CaptureFixture[str]) -> None:
    with WorkerPool(max_workers=1) as pool:
        pool.submit(print, "from a task", flush=True).result(20)
    assert "from a task" in capfd.readouterr().out


# ---- stacks and titles ---------------------------------------------------------------


def test_dump_stacks_shows_where_each_worker_is(gate: Gate, tmp_path: Path) -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=0, grace=0.1) as pool:
        pool.wait_ready(20)
        task = pool.submit(jobs.in_c_code, str(tmp_path / "stuck"))
        wait_until((tmp_path / "stuck.entered").exists, timeout=20.0)
        out = io.StringIO()
        text = pool.dump_stacks(out)
        assert out.getvalue().strip() == text.strip()
        assert "in in_c_code" in text
        assert text.count("(pid ") == 2 and "worker 1" in text and "worker 2" in text
        assert task.cancel(force=True)
        assert pool.submit(tasks.echo, 1).result(20) == 1


def test_a_worker_says_in_its_title_whose_it_is() -> None:
    with WorkerPool(max_workers=1, name="mine") as pool:
        pid = pool.submit(tasks.pid_of).result(20)
        if importlib.util.find_spec("setproctitle") is None:
            assert Path(f"/proc/{pid}/comm").read_text().strip() == "wp1 mine"
        else:
            assert Path(f"/proc/{pid}/cmdline").read_text().startswith("mine worker 1")


# ---- threads of libraries ------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"), [({}, "1"), ({"inner_threads": 3}, "3")], ids=["default", "three"]
)
def test_libraries_have_the_threads_that_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], expected: str
) -> None:
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
    for name in names:
        monkeypatch.delenv(name, raising=False)
    with WorkerPool(max_workers=1, **options) as pool:
        assert pool.submit(environment_of, names).result(20) == [expected] * 3
    assert "OMP_NUM_THREADS" not in os.environ


def blas_threads() -> list[int]:
    import threadpoolctl

    return [library["num_threads"] for library in threadpoolctl.threadpool_info()]


@pytest.mark.parametrize("threads", [1, 2])
def test_libraries_that_a_fork_has_loaded_already_are_limited_too(threads: int) -> None:
    pytest.importorskip("threadpoolctl")
    import numpy as np  # loads its BLAS into this process

    with WorkerPool(max_workers=1, start_method="fork", inner_threads=threads) as pool:
        found = pool.submit(blas_threads).result(20)
    assert np.ones(2).sum() == 2.0
    assert found and set(found) == {threads}


def test_what_the_user_has_set_stays_and_none_leaves_all_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS"]
    with WorkerPool(max_workers=1) as pool:
        assert pool.submit(environment_of, names).result(20) == ["7", "1"]
    with WorkerPool(max_workers=1, inner_threads=None) as pool:
        assert pool.submit(environment_of, names).result(20) == ["7", None]


# ---- environment ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKPOOL_START_METHOD", "thread"), ("WORKPOOL_MEMORY", "much"), ("WORKPOOL_MEMORY", "0"),
        ("WORKPOOL_SPIN", "-1"), ("WORKPOOL_GRACE", "inf"), ("WORKPOOL_GRACE", "soon"),
        ("WORKPOOL_PARK", "bench"), ("WORKPOOL_MAX_WORKERS", "0"),
    ],
)  # fmt: skip
def test_a_variable_that_makes_no_sense_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name} must be .*not '{value}'"):
        WorkerPool()


def test_variables_stand_for_options_that_are_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKPOOL_START_METHOD", "spawn")
    monkeypatch.setenv("WORKPOOL_MEMORY", "20M")
    with WorkerPool(max_workers=1) as pool:
        assert pool._supervisor.launcher.method == "spawn"
        assert pool._runtime.segments.arena_bytes == 20 << 20
    with WorkerPool(max_workers=1, start_method="exec", memory=30 << 20) as pool:
        assert pool._supervisor.launcher.method == "exec"
        assert pool._runtime.segments.arena_bytes == 30 << 20


# ---- pools in pools ------------------------------------------------------------------


def test_a_pool_inside_a_worker_is_the_same_pool() -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready(20)
        outer = {worker.pid for worker in pool.workers}
        results, pids, text = pool.submit(pool_in_a_pool, [-1, 2, -3]).result(30)
        assert results == [1, 2, 3] and set(pids) <= outer and "outer" in text
        assert "0.05 s" in pool.submit(inner_options).result(30)
        assert {worker.pid for worker in pool.workers} == outer
