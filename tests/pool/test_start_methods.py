"""Every start method gives the same pool.

SPDX-License-Identifier: BSD-3-Clause
"""

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pool_tasks as tasks
import pytest

from workpool import WorkerDied, WorkerPool, current_client

Pool = WorkerPool[Any, Any]

METHODS = ["exec", "spawn", "forkserver", "fork"]


@pytest.fixture(scope="module", params=METHODS)
def started(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with WorkerPool(tasks.echo, max_workers=2, tasks_per_worker=0, start_method=request.param) as pool:
        pool.wait_ready()
        yield pool


def test_tasks_of_every_kind_run(started: Pool) -> None:
    offset = 40
    assert started.add_task({"a": 1}).result(20) == {"a": 1}
    assert started.submit(tasks.add, 1, b=2).result(20) == 3
    assert started.submit(lambda value: value + offset, 2).result(20) == 42
    assert list(started.map(tasks.echo, range(200))) == list(range(200))
    assert len(started.submit(tasks.echo, bytes(300_000)).result(20)) == 300_000
    assert started.submit(tasks.pid_of).result(20) in {worker.pid for worker in started.workers}


def test_coroutine_tasks_overlap(started: Pool) -> None:
    where = started.options(worker_affinity=1, affinity_strength="force")
    names = ("a", "b")
    both = [where.submit(tasks.meet, *pair) for pair in (names, names[::-1])]
    assert [task.result(20) for task in both] == ["a", "b"]


def test_nested_tasks_run(started: Pool) -> None:
    def ask(depth: int) -> int:
        return depth and 1 + current_client().submit(ask, depth - 1).result()

    assert started.submit(ask, 20).result(20) == 20


def test_exception_has_its_remote_traceback(started: Pool) -> None:
    error = started.submit(tasks.divide, 1, 0).exception(20)
    assert isinstance(error, ZeroDivisionError)
    assert "return a / b" in str(error.__cause__)


@pytest.mark.parametrize("method", METHODS)
def test_hooks_and_initializer_run_and_a_death_is_survived(method: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with WorkerPool(
        tasks.with_hooks(str(trace)), max_workers=1, start_method=method,
        initializer=tasks.initialize, initargs=(method,),
    ) as pool:  # fmt: skip
        assert pool.add_task("a").result(20) == (1, True, ["a"], "a")
        assert pool.submit(tasks.read_environment, "WORKPOOL_TEST_INITIALIZED").result(20) == method
        pid = pool.workers[0].pid
        error = pool.submit(tasks.kill_self).exception(20)
        assert isinstance(error, WorkerDied)
        assert (error.pid, error.exitcode) == (pid, -signal.SIGKILL)
        error = pool.submit(tasks.exit_at_once, 3).exception(20)
        assert isinstance(error, WorkerDied)
        assert error.exitcode == 3
        # A replacement begins anew, with its hooks.
        assert pool.add_task("b").result(20) == (1, True, ["b"], "b")
        assert not trace.exists()
    assert trace.read_text() == "1\n"


def test_context_is_taken_instead_of_a_name() -> None:
    context = multiprocessing.get_context("fork")
    with WorkerPool(max_workers=1, mp_context=context) as pool:
        assert pool.submit(tasks.echo, 1).result(20) == 1
        assert pool.workers[0].pid in {child.pid for child in multiprocessing.active_children()}


def test_name_and_context_together_are_refused() -> None:
    with pytest.raises(ValueError, match="start_method or mp_context, not both"):
        WorkerPool(max_workers=1, start_method="exec", mp_context=multiprocessing.get_context("fork"))


@pytest.mark.parametrize("method", METHODS)
def test_worker_speaks_to_a_manager_of_multiprocessing(method: str) -> None:
    with multiprocessing.Manager() as manager:
        known = manager.dict()
        with WorkerPool(max_workers=1, start_method=method) as pool:
            list(pool.map(tasks.put, [known] * 3, range(3)))
        assert dict(known) == {0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize("method", METHODS[1:])
def test_locks_and_queues_reach_the_initializer_as_a_worker_starts(method: str) -> None:
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    with WorkerPool(max_workers=1, mp_context=context, initializer=tasks.greet, initargs=(queue,)) as pool:
        assert pool.submit(tasks.echo, 1).result(20) == 1
    assert queue.get() == "hello"
    queue.close()


def test_locks_in_initargs_of_the_default_start_method_are_refused_at_once() -> None:
    with pytest.raises(RuntimeError, match="through inheritance"):
        WorkerPool(max_workers=1, initializer=tasks.greet, initargs=(multiprocessing.Lock(),))


@pytest.mark.parametrize("method", ["exec", "fork"])
def test_pool_that_gets_no_thread_says_so_and_leaves_no_worker(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.endswith("supervisor"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with WorkerPool(max_workers=2, start_method=method) as pool:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.submit(tasks.echo, 1)
        assert pool.workers == ()
