"""Events: what listeners are told, and by whom.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import logging
import os
import signal
import threading
from concurrent.futures import CancelledError
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import wait_until
from placement_tasks import bound, where
from pool_support import Gate

from workpool import PoolClosed, WorkerDied, WorkerPool

Pool = WorkerPool[Any, Any]


def test_each_task_is_told_of_once_when_added_and_once_when_complete(pool: Pool) -> None:
    added: list[Any] = []
    complete: list[Any] = []
    pool.on("task-added", added.append)
    pool.on("task-complete", lambda error, result, task: complete.append((error, result, task)))
    plain = [pool.submit(tasks.echo, i) for i in range(20)]
    failing = pool.submit(tasks.fail, ValueError("x"))
    unpicklable = pool.submit(tasks.echo, tasks.Unpicklable())
    keyed = pool.options(key="k", meta=1).submit(tasks.echo, 1)
    main = bound(pool, "main", None, len, "abc")
    several = [*plain, failing, unpicklable, keyed, main]
    assert added == several
    for task in several:
        task.exception(20)
    wait_until(lambda: len(complete) == len(several))
    told = {task: (error, result) for error, result, task in complete}
    assert set(told) == set(several)
    assert all(told[task] == (None, i) for i, task in enumerate(plain))
    assert told[failing] == (failing.exception(), None) and told[main] == (None, 3)
    assert isinstance(told[unpicklable][0], tasks.OwnError)


def test_complete_is_told_though_nobody_waits_and_of_tasks_added_before(pool: Pool, gate: Gate) -> None:
    held = gate.hold(pool)
    queued = [pool.submit(tasks.echo, i) for i in range(5)]
    complete: list[Any] = []
    pool.on("task-complete", lambda error, result, task: complete.append(task))
    later = pool.submit(tasks.echo, 6)
    gate.open()
    wait_until(lambda: len(complete) == 7)
    assert set(complete) == {held, later, *queued}


def test_a_cancelled_task_is_complete_with_that_error(pool: Pool, gate: Gate) -> None:
    complete: list[Any] = []
    pool.on("task-complete", lambda error, result, task: complete.append((error, result)))
    gate.hold(pool), gate.hold(pool)
    assert pool.submit(tasks.echo, 1).cancel()
    assert len(complete) == 1 and isinstance(complete[0][0], CancelledError) and complete[0][1] is None


def test_a_listener_may_be_removed_and_is_called_once_though_added_twice(pool: Pool) -> None:
    seen: list[Any] = []
    for _ in range(2):
        pool.on("task-added", seen.append)
    pool.submit(tasks.echo, 1).result(20)
    assert len(seen) == 1
    pool.remove_listener("task-added", seen.append)
    pool.remove_listener("task-added", seen.append)
    pool.submit(tasks.echo, 1).result(20)
    assert len(seen) == 1
    assert not pool._placement.active  # nobody listens: the plain path is the plain path again


def test_a_listener_that_raises_is_logged_and_the_others_go_on(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []

    def bad(*_: object) -> None:
        raise RuntimeError("listener")

    for event in ("task-added", "task-complete"):
        pool.on(event, bad)
        pool.on(event, lambda *args: seen.append(args))
    with caplog.at_level(logging.ERROR, "workpool.events"):
        assert pool.submit(tasks.echo, 1).result(20) == 1
        wait_until(lambda: len(seen) == 2)
    assert sum("a listener of 'task-" in record.getMessage() for record in caplog.records) == 2


def test_unknown_events_and_things_that_cannot_be_called_are_refused(pool: Pool) -> None:
    with pytest.raises(ValueError, match="no event 'task-done': there are 'task-added'"):
        pool.on("task-done", print)
    with pytest.raises(ValueError, match="no event"):
        pool.remove_listener("x", print)
    with pytest.raises(TypeError):
        pool.on("task-added", 3)  # type: ignore[arg-type]
    pool.shutdown()
    with pytest.raises(PoolClosed):
        pool.on("task-added", print)


def test_workers_are_told_of_when_launched_and_when_lost() -> None:
    launched: list[Any] = []
    lost: list[Any] = []
    with WorkerPool(max_workers=2) as pool:
        pool.on("worker-launched", launched.append)
        pool.on("worker-lost", lambda worker, code: lost.append((worker.id, worker.pid, code, worker.state)))
        pool.resize_up_to(2)
        assert launched == list(pool.workers)
        pool.wait_ready(20)
        victim = pool.workers[0]
        os.kill(victim.pid, signal.SIGKILL)
        wait_until(lambda: len(launched) == 3)
        assert lost == [(1, victim.pid, -9, "dead")]
        assert launched[2].id == 1 and launched[2].pid != victim.pid
        pool.wait_ready(20)
        retired = pool.workers[1]
        pool.resize_down_to(1)
        wait_until(lambda: len(lost) == 2)
        assert lost[1] == (2, retired.pid, 0, "dead")
    assert len(lost) == 2  # the pool's own end is no loss


def test_listeners_may_use_the_pool(pool: Pool) -> None:
    found: list[Any] = []

    def again(error: Any, result: Any, task: Any) -> None:
        if task.key != "inner":
            found.append(pool.options(key="inner").submit(where).result(20))

    pool.on("task-complete", again)
    pool.on("worker-lost", lambda worker, code: found.append(len(pool.workers)))
    pool.submit(tasks.echo, 1).result(20)
    wait_until(lambda: len(found) == 1)
    dying = pool.submit(tasks.kill_self)
    assert isinstance(dying.exception(20), WorkerDied)
    wait_until(lambda: len(found) == 3)


def test_listeners_run_in_the_thread_that_gathers(pool: Pool) -> None:
    threads: list[int] = []
    pool.on("task-complete", lambda error, result, task: threads.append(threading.get_ident()))

    async def main() -> None:
        await pool.submit(tasks.echo, 1)

    asyncio.run(main())
    pool.submit(tasks.echo, 1).result(20)
    wait_until(lambda: len(threads) == 2)
