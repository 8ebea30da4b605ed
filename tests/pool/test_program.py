"""One pool for the whole program: made once, shared, made anew where it cannot go on.

SPDX-License-Identifier: BSD-3-Clause
"""

import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import is_alive, wait_until

import workpool
from workpool import WorkerDied, get_pool, program

Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _no_pool_left() -> Iterator[None]:
    yield
    if program._pool is not None:
        program._pool.shutdown()
        program._pool = None


def test_everybody_gets_the_same_pool() -> None:
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(get_pool(max_workers=2))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert {id(pool) for pool in [*got, get_pool()]} == {id(got[0])}


def test_map_of_the_module_runs_there() -> None:
    pool = get_pool(max_workers=2)
    assert list(workpool.map(tasks.add, range(5), range(5))) == [0, 2, 4, 6, 8]
    assert set(workpool.map(tasks.echo, range(5), chunksize=2, ordered=False)) == set(range(5))
    assert get_pool() is pool
    assert pool.workers


def test_another_size_takes_its_place_and_the_former_goes_on_while_it_is_held() -> None:
    first = get_pool(max_workers=1)
    task = first.submit(tasks.pid_of)
    second = get_pool(max_workers=2)
    assert second is not first
    assert get_pool() is second
    assert (first._max_workers, second._max_workers) == (1, 2)
    assert first.submit(tasks.echo, 1).result(20) == 1
    pid = task.result(20)
    del first
    wait_until(lambda: not is_alive(pid))
    assert second.submit(tasks.echo, 2).result(20) == 2


def test_pool_that_was_shut_down_is_made_anew() -> None:
    first = get_pool(max_workers=1)
    with first:
        pass
    assert get_pool(max_workers=1).submit(tasks.echo, 1).result(20) == 1
    assert get_pool() is not first


def test_pool_that_broke_is_made_anew() -> None:
    broken = program._pool = workpool.WorkerPool(max_workers=1, initializer=tasks.fail_to_start)
    with pytest.raises(WorkerDied):
        broken.submit(tasks.echo, 1).result(20)
    assert get_pool().submit(tasks.echo, 1).result(20) == 1
    broken.shutdown()


@pytest.mark.parametrize("number", [0, -1, 1000])
def test_a_size_that_cannot_be_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="max_workers"):
        get_pool(max_workers=number)


def test_inside_a_worker_it_is_the_pool_of_the_worker() -> None:
    def ask(depth: int) -> list[int]:
        inner = get_pool(max_workers=64)
        if inner is not get_pool() or inner is not get_pool(max_workers=3):
            raise AssertionError("another pool each time")
        pids = list(workpool.map(tasks.pid_of, range(3)))
        return [*pids, *(inner.submit(ask, depth - 1).result() if depth else [])]

    pool = get_pool(max_workers=2)
    pids = set(pool.submit(ask, 3).result(30))
    assert pids <= {worker.pid for worker in pool.workers}


def test_a_forked_child_has_one_of_its_own(script: Script) -> None:
    done = script("""
import os, warnings, workpool
warnings.simplefilter("ignore")  # of a fork of a process with threads, which this is about
parent = workpool.get_pool(max_workers=1)
print(sum(workpool.map(abs, [1, -2])), flush=True)
pid = os.fork()
if pid == 0:
    child = workpool.get_pool(max_workers=1)
    print(child is not parent, sum(workpool.map(abs, [3, -4])), flush=True)
    child.shutdown()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), workpool.get_pool() is parent)
print(sum(workpool.map(abs, [5, -6])))
""")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["3", "True 7", "0 True", "11"]


def test_it_ends_with_the_interpreter_after_its_tasks(script: Script) -> None:
    done = script("""
import time, workpool
def say(text):
    time.sleep(0.2)
    print(text, flush=True)
workpool.get_pool(max_workers=1).submit(say, "done")
print(workpool.get_pool().submit(__import__("os").getpid).result(), flush=True)
""")
    assert (done.returncode, done.stderr) == (0, "")
    said, pid = done.stdout.split()
    assert said == "done"
    assert not is_alive(int(pid))


def test_importing_the_package_imports_nothing_of_it(script: Script) -> None:
    done = script("import sys, workpool; print([name for name in sys.modules if 'workpool.' in name])")
    assert done.stdout.strip() == "[]"


def test_star_import_leaves_the_builtin_map() -> None:
    assert "map" not in workpool.__all__
    assert "get_pool" in workpool.__all__
