"""Start and exit hooks, pre_task and initializer: when they run, and what if they raise.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import pool_tasks as tasks
import pytest

import workpool
from workpool import WorkerDied, WorkerPool


def test_hooks_given_as_attributes_run_in_order(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with WorkerPool(tasks.with_hooks(str(trace)), max_workers=1) as pool:
        assert pool.add_task("a").result() == (1, True, ["a"], "a")
        assert pool.add_task("b").result() == (1, True, ["a", "b"], "b")
        assert not trace.exists()
    assert trace.read_text() == "1\n"


def test_exit_hook_runs_once_in_each_worker(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with WorkerPool(tasks.with_hooks(str(trace)), max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready()
    assert sorted(trace.read_text().split()) == ["1", "2"]


def test_dispose_runs_exit_hooks(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    pool = WorkerPool(tasks.with_hooks(str(trace)), max_workers=2, tasks_per_worker=0)
    pool.wait_ready()
    pool.dispose()
    assert sorted(trace.read_text().split()) == ["1", "2"]


def test_hooks_of_a_module_are_its_functions(tmp_path: Path) -> None:
    path = tmp_path / "hooked.py"
    path.write_text(
        "started = []\n"
        "def on_worker_start(client): started.append(client.worker_id)\n"
        "def pre_task(arg, client): started.append(arg)\n"
        f"def on_worker_exit(client): open({str(tmp_path / 'exit')!r}, 'w').write(repr(started))\n"
        "def worker_entrypoint(arg): return list(started)\n"
    )
    with WorkerPool(path, max_workers=1) as pool:
        assert pool.add_task("x").result() == [1, "x"]
    assert (tmp_path / "exit").read_text() == "[1, 'x']"


def test_hooks_by_decorator_run(tmp_path: Path) -> None:
    path = tmp_path / "decorated.py"
    path.write_text(
        "import workpool\n"
        "@workpool.entrypoint\n"
        "def worker_entrypoint(arg, client): return client.state.n, arg\n"
        "@worker_entrypoint.on_worker_start\n"
        "def start(client): client.state.n = 0\n"
        "@worker_entrypoint.pre_task\n"
        "def pre(arg, client): client.state.n += 1\n"
        "@worker_entrypoint.on_worker_exit\n"
        f"def end(client): open({str(tmp_path / 'exit')!r}, 'w').write(str(client.state.n))\n"
    )
    with WorkerPool(path, max_workers=1) as pool:
        assert [pool.add_task(i).result() for i in range(3)] == [(1, 0), (2, 1), (3, 2)]
    assert (tmp_path / "exit").read_text() == "3"


def test_decorated_closure_keeps_its_hooks() -> None:
    @workpool.entrypoint
    def entry(arg: int, client: workpool.WorkerClient) -> tuple[int, int]:
        return client.state.n, arg

    @entry.on_worker_start
    def start(client: workpool.WorkerClient) -> None:
        client.state.n = 7

    assert entry.__name__ == "entry"
    with WorkerPool(entry, max_workers=1) as pool:
        assert pool.add_task(1).result() == (7, 1)


def test_decorated_coroutine_function_is_awaited() -> None:
    @workpool.entrypoint
    async def entry(arg: int) -> int:
        await asyncio.sleep(0)
        return arg + 1

    with WorkerPool(entry, max_workers=1) as pool:
        assert pool.add_task(1).result() == 2


def test_coroutine_hooks_are_awaited(tmp_path: Path) -> None:
    trace = str(tmp_path / "exit")

    def entry(arg: Any, client: Any) -> Any:
        return client.state.seen

    async def start(client: Any) -> None:
        await asyncio.sleep(0)
        client.state.seen = ["start"]

    async def pre(arg: Any, client: Any) -> None:
        await asyncio.sleep(0)
        client.state.seen.append(arg)

    async def end(client: Any) -> None:
        await asyncio.sleep(0)
        tasks.mark(trace, len(client.state.seen))

    entry.on_worker_start, entry.pre_task, entry.on_worker_exit = start, pre, end  # type: ignore[attr-defined]
    with WorkerPool(entry, max_workers=1) as pool:
        assert pool.add_task("a").result() == ["start", "a"]
        assert pool.add_task("b").result() == ["start", "a", "b"]
    assert Path(trace).read_text() == "3\n"


def test_hook_without_parameters_is_not_given_the_client() -> None:
    def entry(arg: int) -> str | None:
        return tasks.read_environment("WORKPOOL_TEST_INITIALIZED")

    entry.on_worker_start = lambda: tasks.initialize("hook")  # type: ignore[attr-defined]
    with WorkerPool(entry, max_workers=1) as pool:
        assert pool.add_task(1).result() == "hook"


def test_initializer_runs_in_every_worker_before_the_start_hook() -> None:
    def entry(arg: int, client: Any) -> Any:
        return client.state.found

    def start(client: Any) -> None:
        client.state.found = tasks.read_environment("WORKPOOL_TEST_INITIALIZED")

    entry.on_worker_start = start  # type: ignore[attr-defined]
    with WorkerPool(entry, max_workers=1, initializer=tasks.initialize, initargs=("yes",)) as pool:
        assert pool.add_task(1).result() == "yes"


@pytest.mark.parametrize("where", ["initializer", "hook"])
def test_start_that_raises_breaks_the_pool_and_is_the_cause(where: str) -> None:
    def entry(arg: int) -> int:
        return arg

    if where == "hook":
        entry.on_worker_start = tasks.fail_to_start  # type: ignore[attr-defined]
    initializer = tasks.fail_to_start if where == "initializer" else None
    with WorkerPool(entry, max_workers=2, initializer=initializer) as pool:
        queued = [pool.add_task(i) for i in range(20)]
        for task in queued:
            with pytest.raises(WorkerDied) as caught:
                task.result()
            assert isinstance(caught.value.__cause__, tasks.OwnError)
            assert "fail_to_start" in str(caught.value.__cause__.__cause__)
        with pytest.raises(WorkerDied):
            pool.add_task(1)
        with pytest.raises(WorkerDied):
            pool.wait_ready()
        with pytest.raises(WorkerDied):
            pool.map(tasks.echo, [1])


def test_map_over_a_pool_that_cannot_start_fails_and_the_pool_can_be_left() -> None:
    with WorkerPool(max_workers=2, initializer=tasks.fail_to_start) as pool:
        results = pool.map(tasks.echo, range(1000), chunksize=1)
        with pytest.raises(WorkerDied):
            next(results)


def test_map_that_nobody_reads_does_not_hold_up_a_broken_pool() -> None:
    with WorkerPool(max_workers=2, initializer=tasks.fail_to_start) as pool:
        pool.map(tasks.echo, range(1000), chunksize=1)


def test_exit_hook_that_raises_is_reported_and_the_pool_ends(capfd: pytest.CaptureFixture[str]) -> None:
    def entry(arg: int) -> int:
        return arg

    entry.on_worker_exit = tasks.fail_to_start  # type: ignore[attr-defined]
    with WorkerPool(entry, max_workers=1) as pool:
        assert pool.add_task(1).result() == 1
    assert "cannot start" in capfd.readouterr().err


def test_pre_task_that_raises_fails_the_task_alone() -> None:
    def entry(arg: int) -> int:
        return arg

    def pre(arg: int) -> None:
        if arg == 1:
            raise ValueError("not this one")

    entry.pre_task = pre  # type: ignore[attr-defined]
    with WorkerPool(entry, max_workers=1) as pool:
        with pytest.raises(ValueError, match="not this one"):
            pool.add_task(1).result()
        assert pool.add_task(2).result() == 2


def test_time_of_pre_task_is_not_the_tasks_cost() -> None:
    def entry(arg: int) -> int:
        return arg

    entry.pre_task = lambda arg: time.sleep(0.05)  # type: ignore[attr-defined]
    with WorkerPool(entry, max_workers=1) as pool:
        task = pool.add_task(1)
        task.result()
    assert task.pre_task_cost is not None
    assert task.task_cost is not None
    assert task.pre_task_cost >= 0.05
    assert task.task_cost < 0.04


def test_pre_task_is_for_the_entrypoint_alone() -> None:
    with WorkerPool(tasks.with_hooks(None), max_workers=1) as pool:
        pool.add_task("a").result()
        assert pool.submit(tasks.echo, "b").result() == "b"
        assert pool.add_task("c").result() == (1, True, ["a", "c"], "c")


def test_hook_that_is_not_callable_breaks_the_pool() -> None:
    def entry(arg: int) -> int:
        return arg

    entry.on_worker_start = 3  # type: ignore[attr-defined]
    with WorkerPool(entry, max_workers=1) as pool, pytest.raises(WorkerDied) as caught:
        pool.add_task(1).result()
    assert isinstance(caught.value.__cause__, workpool.EntrypointError)
