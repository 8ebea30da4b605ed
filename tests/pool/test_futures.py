"""A Task is a concurrent.futures.Future: everything that takes one takes the other.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import concurrent.futures
import gc
import logging
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import wait_until
from pool_support import Gate

from workpool import WorkerPool

Pool = WorkerPool[Any, Any]


def test_task_is_a_future_and_pool_an_executor(pool: Pool) -> None:
    assert isinstance(pool.submit(tasks.echo, 1), concurrent.futures.Future)
    assert isinstance(pool, concurrent.futures.Executor)
    assert not callable(pool)
    assert pool._max_workers == 2


def test_done_becomes_true_though_nobody_waits(pool: Pool) -> None:
    task = pool.submit(tasks.echo, 1)
    wait_until(task.done)
    assert not task.running()
    assert task.result(0) == 1


def test_is_idle_becomes_true_though_nobody_waits(pool: Pool) -> None:
    pool.submit(tasks.echo, 1)
    wait_until(lambda: pool.is_idle)


def test_wait_returns_when_all_are_done(pool: Pool) -> None:
    futures = [pool.submit(tasks.echo, i) for i in range(100)]
    done, pending = concurrent.futures.wait(futures, timeout=20)
    assert (done, pending) == (set(futures), set())


def test_wait_for_the_first_returns_with_the_first(pool: Pool, gate: Gate) -> None:
    slow, quick = gate.hold(pool), pool.submit(tasks.echo, 1)
    done, pending = concurrent.futures.wait([slow, quick], 20, concurrent.futures.FIRST_COMPLETED)
    assert (done, pending) == ({quick}, {slow})


def test_wait_for_the_first_exception_returns_with_it(pool: Pool, gate: Gate) -> None:
    slow, wrong = gate.hold(pool), pool.submit(tasks.divide, 1, 0)
    done, pending = concurrent.futures.wait([slow, wrong], 20, concurrent.futures.FIRST_EXCEPTION)
    assert (done, pending) == ({wrong}, {slow})


def test_wait_gives_up_after_its_timeout(pool: Pool, gate: Gate) -> None:
    slow = gate.hold(pool)
    done, pending = concurrent.futures.wait([slow], 0.01)
    assert (done, pending) == (set(), {slow})


def test_wait_mixes_with_futures_of_others(pool: Pool) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        futures = [threads.submit(tasks.echo, 1), pool.submit(tasks.echo, 2)]
        assert {future.result() for future in concurrent.futures.wait(futures, 20).done} == {1, 2}


def test_as_completed_gives_every_task_once(pool: Pool) -> None:
    futures = [pool.submit(tasks.echo, i) for i in range(300)]
    assert sorted(task.result() for task in concurrent.futures.as_completed(futures, timeout=20)) == list(
        range(300)
    )


def test_as_completed_gives_them_as_they_come(pool: Pool, gate: Gate) -> None:
    slow, quick = gate.hold(pool, "slow"), pool.submit(tasks.echo, "quick")
    came = concurrent.futures.as_completed([slow, quick], timeout=20)
    assert next(came) is quick
    gate.open()
    assert next(came) is slow


def test_as_completed_sees_cancelled_tasks(gate: Gate) -> None:
    with WorkerPool(max_workers=1) as pool:
        gate.hold(pool)
        futures = [pool.submit(tasks.echo, i) for i in range(5)]
        came = concurrent.futures.as_completed(futures, timeout=20)
        canceller = threading.Thread(target=lambda: [task.cancel() for task in futures])
        canceller.start()
        assert all(task.cancelled() for task in came)
        canceller.join()
        gate.open()


def test_waits_over_many_tasks_in_many_threads_all_end(pool: Pool) -> None:
    def several() -> int:
        count = 0
        for _ in range(60):
            futures = [pool.submit(tasks.echo, i) for i in range(4)]
            done, pending = concurrent.futures.wait(futures, timeout=10)
            assert not pending
            count += len(done)
        return count

    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        counts = [threads.submit(several) for _ in range(6)]
        assert [count.result(25) for count in counts] == [240] * 6


def test_callback_added_before_the_end_is_called_once_with_the_task(pool: Pool, gate: Gate) -> None:
    task = gate.hold(pool, 5)
    called: list[Any] = []
    task.add_done_callback(called.append)
    task.add_done_callback(lambda done: called.append(done.result()))
    assert called == []
    gate.open()
    wait_until(lambda: len(called) == 2)
    assert called == [task, 5]


def test_callback_added_after_the_end_is_called_at_once(pool: Pool) -> None:
    task = pool.submit(tasks.echo, 5)
    task.result()
    called: list[Any] = []
    task.add_done_callback(called.append)
    assert called == [task]


def test_callback_added_between_completion_and_settlement_is_called(pool: Pool) -> None:
    # Every instant at which the outcome can arrive while the callback is added.
    for _ in range(300):
        called = threading.Event()
        pool.submit(tasks.echo, 1).add_done_callback(lambda _, called=called: called.set())
        assert called.wait(10)


def test_outcome_that_comes_while_a_watcher_is_added_is_not_missed(pool: Pool) -> None:
    task = pool.submit(tasks.echo, 1)
    wait_until(lambda: pool._seat.has_completions())

    class Watchers(list[Any]):
        """Another thread gathers the moment the list is touched."""

        def append(self, watcher: Any) -> None:
            gathering.start()
            wait_until(lambda: task.outcome_code)
            super().append(watcher)

    gathering = threading.Thread(target=pool._gatherer.collect)
    called = threading.Event()
    task.watchers = Watchers()
    task.add_done_callback(lambda _: called.set())
    gathering.join()
    assert called.wait(5)


def test_callbacks_are_called_though_another_thread_waits_for_a_long_task(pool: Pool, gate: Gate) -> None:
    slow = gate.hold(pool)
    waiter = threading.Thread(target=slow.result)
    waiter.start()
    for _ in range(20):
        called = threading.Event()
        begun = time.monotonic()
        pool.submit(tasks.echo, 1).add_done_callback(lambda _, called=called: called.set())
        assert called.wait(10)
        assert time.monotonic() - begun < 0.3
    gate.open()
    waiter.join()


def test_callback_that_raises_is_logged_and_the_others_are_called(
    pool: Pool, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    task = gate.hold(pool)
    called = threading.Event()
    task.add_done_callback(lambda _: 1 / 0)
    task.add_done_callback(lambda _: called.set())
    with caplog.at_level(logging.ERROR):
        gate.open()
        assert called.wait(10)
    assert "ZeroDivisionError" in caplog.text
    task.add_done_callback(lambda _: 1 / 0)


def test_callback_can_submit(pool: Pool) -> None:
    finished = threading.Event()
    left = [30]

    def again(_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            finished.set()
        else:
            pool.submit(tasks.echo, 1).add_done_callback(again)

    pool.submit(tasks.echo, 1).add_done_callback(again)
    assert finished.wait(20)


def test_callback_can_wait_for_another_task(pool: Pool, gate: Gate) -> None:
    got: list[Any] = []
    finished = threading.Event()

    def wait_for_another(_: object) -> None:
        try:
            got.append(pool.submit(tasks.echo, 7).result(10))
        finally:
            finished.set()

    task = gate.hold(pool)
    task.add_done_callback(wait_for_another)
    threading.Timer(0.05, gate.open).start()
    task.result(20)
    assert finished.wait(20)
    assert got == [7]


def test_cancelled_task_never_runs(gate: Gate, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    with WorkerPool(max_workers=1) as pool:
        gate.hold(pool)
        task = pool.submit(tasks.mark, str(path))
        assert task.cancel()
        assert task.cancel()
        assert (task.cancelled(), task.done(), task.running()) == (True, True, False)
        for ask in (task.result, task.exception):
            with pytest.raises(concurrent.futures.CancelledError) as caught:
                ask()
            assert type(caught.value) is concurrent.futures.CancelledError
        gate.open()
        pool.submit(tasks.echo, 1).result()
    assert not path.exists()


def test_running_task_cannot_be_cancelled(pool: Pool, gate: Gate) -> None:
    task = gate.hold(pool, 3)
    assert task.running()
    assert not task.cancel()
    gate.open()
    assert task.result() == 3
    assert not task.cancel()
    assert not task.cancelled()


def test_cancelling_calls_the_callbacks(gate: Gate) -> None:
    with WorkerPool(max_workers=1) as pool:
        gate.hold(pool)
        task = pool.submit(tasks.echo, 1)
        called: list[Any] = []
        task.add_done_callback(called.append)
        task.cancel()
        assert called == [task]
        gate.open()


def test_cancelling_wakes_the_thread_that_waits(gate: Gate) -> None:
    with WorkerPool(max_workers=1) as pool, concurrent.futures.ThreadPoolExecutor(1) as threads:
        gate.hold(pool)
        late = []
        for _ in range(5):
            task = pool.submit(tasks.echo, 1)
            waiting = threads.submit(task.exception)
            wait_until(waiting.running)
            begun = time.monotonic()
            assert task.cancel()
            with pytest.raises(concurrent.futures.CancelledError):
                waiting.result(10)
            late.append(time.monotonic() - begun)
        gate.open()
    assert sorted(late)[2] < 0.1


def test_cancelling_the_last_task_wakes_who_waits_for_idleness(gate: Gate) -> None:
    with WorkerPool(max_workers=1) as pool:
        running = gate.hold(pool)
        queued = pool.submit(tasks.echo, 1)
        idle = pool.when_idle()
        gate.open()
        running.result()
        queued.cancel()
        idle.result(10)


def test_tasks_past_the_slots_can_be_cancelled(gate: Gate) -> None:
    with WorkerPool(max_workers=1) as pool:
        gate.hold(pool)
        futures = [pool.submit(tasks.echo, i) for i in range(17_000)]
        assert all(task.cancel() for task in reversed(futures))
        gate.open()
        assert pool.submit(tasks.echo, 1).result() == 1


def test_exception_is_none_or_the_exception(pool: Pool) -> None:
    assert pool.submit(tasks.echo, 1).exception() is None
    assert isinstance(pool.submit(tasks.divide, 1, 0).exception(), ZeroDivisionError)


def test_result_gives_up_after_its_timeout_and_can_be_asked_again(pool: Pool, gate: Gate) -> None:
    task = gate.hold(pool, 9)
    for timeout in (0, 0.01, -1):
        with pytest.raises(concurrent.futures.TimeoutError):
            task.result(timeout)
        with pytest.raises(TimeoutError):
            task.exception(timeout=timeout)
    gate.open()
    assert task.result(timeout=20) == 9
    assert task.result(timeout=0) == 9


def test_running_is_true_only_while_it_runs(gate: Gate) -> None:
    with WorkerPool(max_workers=1) as pool:
        running = gate.hold(pool)
        queued = pool.submit(tasks.echo, 1)
        assert (running.running(), queued.running()) == (True, False)
        assert (running.done(), queued.done()) == (False, False)
        assert "running" in repr(running)
        assert "pending" in repr(queued)
        gate.open()
        queued.result()
        assert not queued.running()
        assert "finished" in repr(queued)


def test_wrap_future_gives_the_result_in_a_loop(pool: Pool) -> None:
    async def main() -> list[int]:
        return [await asyncio.wrap_future(pool.submit(tasks.echo, i)) for i in range(10)]

    assert asyncio.run(main()) == list(range(10))


def test_wrap_future_that_is_cancelled_cancels_the_task(gate: Gate) -> None:
    async def main() -> bool:
        task = pool.submit(tasks.echo, 1)
        future = asyncio.wrap_future(task)
        future.cancel()
        await asyncio.sleep(0)
        return task.cancelled()

    with WorkerPool(max_workers=1) as pool:
        gate.hold(pool)
        assert asyncio.run(main())
        gate.open()


def test_run_in_executor_takes_the_pool(pool: Pool) -> None:
    async def main() -> int:
        return await asyncio.get_running_loop().run_in_executor(pool, tasks.add, 1, 2)

    assert asyncio.run(main()) == 3


def test_outcome_cannot_be_set_from_outside(pool: Pool, gate: Gate) -> None:
    task = gate.hold(pool, 1)
    for forge in (lambda: task.set_result(2), lambda: task.set_exception(ValueError())):
        with pytest.raises(concurrent.futures.InvalidStateError):
            forge()
    gate.open()
    assert task.result() == 1


def test_result_is_freed_with_its_task(pool: Pool) -> None:
    task = pool.submit(tasks.Doubler, 3)
    gone = weakref.ref(task.result())
    task = pool.submit(tasks.echo, 1)
    task.result()
    gc.collect()
    assert gone() is None


def test_dropped_tasks_are_freed(pool: Pool) -> None:
    task = pool.submit(tasks.echo, 1)
    gone = weakref.ref(task)
    task.result()
    del task
    gc.collect()
    assert gone() is None
