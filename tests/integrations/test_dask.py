"""dask on workpool: as the scheduler of one machine, and as an executor of a cluster's workers.

SPDX-License-Identifier: BSD-3-Clause
"""

import operator
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import integration_tasks as tasks
import numpy as np
import pytest
from helpers import ROOT, is_alive, wait_until
from pool_support import script_environment

from workpool import WorkerPool

pytest.importorskip("dask")

import dask
import dask.array
import dask.bag

Pool = WorkerPool[Any, Any]


@pytest.fixture(scope="module", autouse=True)
def pool() -> Iterator[Pool]:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready()
        yield pool


# ---- dask.compute(..., scheduler=pool) ---------------------------------------------------


def an_array() -> Any:
    x = dask.array.random.default_rng(1).random((400, 400), chunks=(100, 100))
    return (x * 2 + x.T).std(axis=0)


def a_bag() -> Any:
    offset = 7  # a closure
    numbers = dask.bag.from_sequence(range(500), npartitions=5)
    return numbers.map(lambda x: x + offset).filter(lambda x: x % 3).groupby(lambda x: x % 5).map(len)


def a_frame() -> Any:
    pandas = pytest.importorskip("pandas")
    frames = pytest.importorskip("dask.dataframe")
    table = pandas.DataFrame({"group": np.arange(1000) % 7, "value": np.arange(1000.0)})
    return frames.from_pandas(table, npartitions=4).groupby("group").value.agg(["sum", "std"])


def a_delayed() -> Any:
    parts = [dask.delayed(tasks.thirds)(x) for x in range(50)]
    return dask.delayed(sum)([dask.delayed(operator.mul)(part, 2) for part in parts])


@pytest.mark.parametrize("make", [an_array, a_bag, a_frame, a_delayed])
def test_results_are_those_of_dasks_own_scheduler(pool: Pool, make: Any) -> None:
    before = pool.statistics().tasks_submitted
    (found,) = dask.compute(make(), scheduler=pool)
    assert pool.statistics().tasks_submitted > before
    (expected,) = dask.compute(make(), scheduler="sync")
    if hasattr(expected, "equals"):
        assert found.equals(expected)
    else:
        np.testing.assert_array_equal(found, expected)


def test_pool_is_the_scheduler_of_a_context(pool: Pool) -> None:
    expected = a_delayed().compute(scheduler="sync")
    with dask.config.set(scheduler=pool):
        assert a_delayed().compute() == expected
        assert dask.persist(a_delayed())[0].compute() == expected
    with dask.config.set(pool=pool):
        assert a_delayed().compute(scheduler="processes") == expected
        assert a_delayed().compute(scheduler="threads") == expected
    assert pool.submit(abs, -1).result() == 1


def test_error_of_a_task_is_itself(pool: Pool) -> None:
    with pytest.raises(ValueError, match="no 3") as caught:
        dask.compute(*(dask.delayed(tasks.fail)(x) for x in range(20)), scheduler=pool)
    assert "integration_tasks" in str(caught.value.__cause__)


def test_tasks_run_in_the_workers(pool: Pool) -> None:
    found = dask.compute(*(dask.delayed(tasks.pid)(x) for x in range(10)), scheduler=pool)
    assert set(found) <= {worker.pid for worker in pool.workers}


# ---- executor="workpool" in a distributed.Worker -----------------------------------------


@pytest.fixture
def cluster() -> Iterator[tuple[Any, Any]]:
    """Two workers in this process, as if of two nodes, each with a pool by the preload module."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, processes=False, dashboard_address=None,
            preload=["workpool.integrations.dask"],
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        yield cluster, client


def test_annotated_tasks_run_in_the_pools_of_both_workers(cluster: tuple[Any, Any]) -> None:
    workers, client = cluster
    pools = [worker.executors["workpool"] for worker in workers.workers.values()]
    assert [pool._max_workers for pool in pools] == [2, 2]
    with dask.annotate(executor="workpool"):
        pids = set(client.gather(client.map(tasks.pid, range(40), pure=False)))
        total = client.submit(sum, client.map(tasks.square, range(10)))
        assert total.result() == 285
        blocks = dask.array.ones((4, 1000), chunks=(1, 1000)).map_blocks(lambda rows: rows * os.getpid())
        mean = blocks.mean().compute()
        with pytest.raises(ValueError, match="no 3"):
            client.submit(tasks.fail, 3).result()
    by_pool = [{worker.pid for worker in pool.workers} for pool in pools]
    assert pids <= set().union(*by_pool)
    assert all(pids & own for own in by_pool)
    assert mean != os.getpid()
    assert client.submit(os.getpid, pure=False).result() == os.getpid()  # not annotated: a thread


def test_as_many_tasks_run_at_once_as_the_worker_has_threads(
    cluster: tuple[Any, Any], tmp_path: Path
) -> None:
    _, client = cluster
    with dask.annotate(executor="workpool"):
        assert all(client.gather(client.map(tasks.meet, range(4), folder=str(tmp_path), others=4)))


def test_closing_a_worker_ends_its_pool_and_what_runs_there(cluster: tuple[Any, Any], tmp_path: Path) -> None:
    workers, client = cluster
    name, worker = next(iter(workers.workers.items()))
    pool, processes = worker.executors["workpool"], worker.executors["workpool"].workers
    with dask.annotate(executor="workpool"):
        future = client.submit(tasks.stay, str(tmp_path), workers=[worker.address], allow_other_workers=True)
    wait_until((tmp_path / "entered").exists)
    future.release()
    workers.sync(worker.close)
    assert (tmp_path / "interrupted").exists()
    assert "closed" in repr(pool)
    assert not [process for process in processes if is_alive(process.pid)]
    del workers.workers[name]


# ---- docs/beyond-one-machine.md ----------------------------------------------------------


def test_page_of_two_nodes_does_what_it_says(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    page = (ROOT / "docs" / "beyond-one-machine.md").read_text()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        page = page.replace("8786", str(free.getsockname()[1]))
    found = re.search(r"^```python\n(# two_nodes\.py\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found
    (tmp_path / "two_nodes.py").write_text(found[1])
    with ExitStack() as stack:
        for line in re.findall(r"^dask (.*)$", page, re.MULTILINE):
            command = [sys.executable, "-m", "dask", *line.split()]
            if "worker" in command:
                command.append("--no-nanny")  # a process less for each
            stack.enter_context(background(command, tmp_path))
        done = subprocess.run(
            [sys.executable, "two_nodes.py"], cwd=tmp_path, env=script_environment(), capture_output=True,
            text=True, timeout=50,
        )  # fmt: skip
    assert done.stdout == "2 nodes, 4 processes\n", done.stderr


@contextmanager
def background(command: list[str], folder: Path) -> Iterator[None]:
    """Run a program until the block is left, and end it by Ctrl-C."""
    with (folder / f"{time.monotonic_ns()}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=script_environment(), stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
