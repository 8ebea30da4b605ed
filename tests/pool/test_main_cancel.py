"""Tasks of the parent that run are asked to end, as those of workers are; nothing is killed for it.

SPDX-License-Identifier: BSD-3-Clause
"""

import _thread
import asyncio
import concurrent.futures
import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import wait_until

import workpool
from workpool import Task, TaskTimeout, WorkerPool

Pool = WorkerPool[Any, Any]


class Job:
    """Functions for the parent, and what became of them."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.cleaned = threading.Event()
        self.thread = 0
        self.caught: list[str] = []

    def count(self) -> None:
        self.thread = threading.get_ident()
        self.entered.set()
        try:
            while True:
                pass
        finally:
            self.cleaned.set()

    def swallow_once(self) -> str:
        try:
            self.count()
        except BaseException as error:
            self.caught.append(type(error).__name__)
        return "well"

    def swallow_twice(self) -> str:
        self.swallow_once()
        return self.swallow_once()

    def look(self) -> str:
        client = workpool.current_client()
        assert not client.cancelled
        client.check_cancelled()
        self.entered.set()
        wait_until(lambda: client.cancelled, timeout=30.0)
        return "saw it"

    def check(self) -> None:
        self.entered.set()
        while True:
            workpool.current_client().check_cancelled()

    def read_the_address(self) -> int:
        flag = ctypes.c_ubyte.from_address(workpool.current_client().cancel_flag_address)
        self.entered.set()
        wait_until(lambda: flag.value, timeout=30.0)
        return flag.value

    async def sleep(self) -> None:
        self.entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            self.cleaned.set()

    def wait_for(self, pool: Pool) -> None:
        self.entered.set()
        try:
            pool.submit(time.sleep, 3600).result()
        finally:
            self.cleaned.set()


def here(pool: Pool, fn: Callable[..., Any], *args: Any, timeout: float | None = None) -> Task[Any]:
    return pool.options(worker_affinity="main", timeout=timeout).submit(fn, *args)


@contextmanager
def waiter(task: Task[Any]) -> Iterator[list[Any]]:
    """A thread that waits for the task, and runs it."""
    found: list[Any] = []

    def wait() -> None:
        try:
            found.append(task.result(60))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    yield found
    thread.join(60)
    assert not thread.is_alive()


def assert_cancelled(task: Task[Any]) -> None:
    with pytest.raises(concurrent.futures.CancelledError) as caught:
        task.result(60)
    assert type(caught.value) is concurrent.futures.CancelledError
    assert task.cancelled() and task.done() and not task.running()


def assert_whole(pool: Pool) -> None:
    """Nothing is counted as running, and tasks run as ever."""
    assert here(pool, tasks.echo, 5).result(20) == 5
    pool.when_idle().result(20)
    assert pool.is_idle


@pytest.mark.parametrize("who", ["waits", "nobody"])
@pytest.mark.parametrize("name", ["count", "swallow_once", "sleep", "check"])
def test_forced_cancel_ends_a_task_of_the_parent(pool: Pool, name: str, who: str) -> None:
    job = Job()
    task = here(pool, getattr(job, name))
    if who == "waits":
        with waiter(task) as found:
            assert job.entered.wait(20)
            assert task.cancel(force=True)
        assert type(found[0]) is concurrent.futures.CancelledError
    else:
        assert job.entered.wait(20)
        assert task.cancel(force=True)
    assert_cancelled(task)
    assert job.cleaned.is_set() or name == "check"
    assert_whole(pool)


def test_plain_cancel_is_a_flag_that_the_main_client_shows(pool: Pool) -> None:
    job = Job()
    task = here(pool, job.look)
    assert job.entered.wait(20)
    assert not task.cancel()
    assert task.result(20) == "saw it" and not task.cancelled()
    assert not here(pool, lambda: workpool.current_client().cancelled).result(20)  # of that one alone


def test_plain_cancel_ends_a_task_that_checks_and_a_coroutine_that_awaits(pool: Pool) -> None:
    for name in "check", "sleep":
        job = Job()
        task = here(pool, getattr(job, name))
        assert job.entered.wait(20)
        task.cancel()
        assert_cancelled(task)
    assert_whole(pool)


def test_the_flag_of_a_main_task_can_be_read_through_its_address(pool: Pool) -> None:
    job = Job()
    task = here(pool, job.read_the_address)
    assert job.entered.wait(20)
    task.cancel()
    assert task.result(20) != 0


@pytest.mark.parametrize("name", ["count", "swallow_once", "sleep"])
def test_a_task_of_the_parent_past_its_time_fails_with_task_timeout(pool: Pool, name: str) -> None:
    job = Job()
    with pytest.raises(TaskTimeout, match=r"0\.05 s") as caught:
        here(pool, getattr(job, name), timeout=0.05).result(60)
    assert job.cleaned.is_set()
    assert name == "swallow_once" or caught.value.__cause__ is not None
    assert_whole(pool)


def test_add_task_in_the_parent_takes_a_timeout_counted_from_its_start() -> None:
    with WorkerPool(tasks.echo, max_workers=1) as pool:
        assert pool.add_task(1, worker_affinity="main", timeout=20.0).result(20) == 1
        first = here(pool, time.sleep, 0.4)
        second = here(pool, tasks.echo, 2, timeout=0.3)
        assert second.result(20) == 2 and first.done()


def test_a_task_that_swallows_it_is_interrupted_once_more() -> None:
    with WorkerPool(max_workers=1) as pool:
        job = Job()
        task = here(pool, job.swallow_twice)
        assert job.entered.wait(20)
        assert task.cancel(force=True, grace=0.1)
        assert_cancelled(task)
        assert job.caught == ["TaskInterrupt"] * 2


def test_a_main_task_that_waits_for_a_worker_is_ended_there(pool: Pool) -> None:
    with WorkerPool(max_workers=1) as other:
        for asked in pool, other:  # its own pool and one that knows nothing of it
            job = Job()
            task = here(pool, job.wait_for, asked)
            with waiter(task):
                assert job.entered.wait(20)
                assert task.cancel(force=True)
            assert_cancelled(task)
            assert job.cleaned.is_set()
            asked._gatherer.cancel_running(0.1)
            assert_whole(pool)


def test_a_coroutine_in_the_awaiting_loop_is_cancelled_there(pool: Pool) -> None:
    async def main() -> None:
        job = Job()
        task = here(pool, job.sleep)
        asyncio.get_running_loop().call_later(0.05, lambda: task.cancel(force=True))
        with pytest.raises(concurrent.futures.CancelledError):
            await task
        assert job.cleaned.is_set()
        with pytest.raises(TaskTimeout):
            await here(pool, Job().sleep, timeout=0.05)
        assert await here(pool, tasks.echo_later, 3) == 3

    asyncio.run(main())
    assert_whole(pool)


def test_a_coroutine_of_the_parent_that_cancels_itself_is_counted_once(pool: Pool) -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    for _ in range(3):
        task = here(pool, give_up)
        with waiter(task) as found:
            pass
        assert type(found[0]) is concurrent.futures.CancelledError
        assert pool._gatherer.unfinished == 0
    assert_whole(pool)


def test_a_callback_of_another_task_is_not_interrupted_in_the_thread_of_a_main_task(pool: Pool) -> None:
    """It runs in that thread, and is none of the task's code."""
    job = Job()
    told: list[str] = []

    def callback(_: Task[Any]) -> None:
        job.entered.set()
        try:
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                pass
        except BaseException as error:
            told.append(type(error).__name__)
        told.append("ended")

    def wait() -> int:
        other = pool.submit(tasks.echo, 1)
        other.add_done_callback(callback)
        assert other.result(20) == 1
        while True:
            pass

    task = here(pool, wait)
    with waiter(task):
        assert job.entered.wait(20)
        assert task.cancel(force=True)
    assert_cancelled(task)
    wait_until(lambda: told, timeout=20.0)
    assert told == ["ended"]


def test_interrupts_hit_no_code_after_the_task(pool: Pool) -> None:
    """Tasks that end at any moment, while they are cancelled: the thread that ran them never gets it."""
    stray: list[BaseException] = []
    current: list[Task[Any]] = []
    over = threading.Event()

    def spin(rounds: int) -> int:
        for _ in range(rounds):
            pass
        return rounds

    def cancel() -> None:
        while not over.is_set():
            if current:
                current[-1].cancel(force=True)

    thread = threading.Thread(target=cancel)
    thread.start()
    cancelled = 0
    try:
        for n in range(3000):
            task = here(pool, spin, n % 60 * 20)
            current.append(task)
            try:
                task.result(60)
            except concurrent.futures.CancelledError:
                cancelled += 1
            current.clear()
            sum(range(100))  # bytecodes in which a stray one would be seen
    except BaseException as error:
        stray.append(error)
    finally:
        over.set()
        thread.join()
    assert not stray
    assert cancelled
    assert_whole(pool)


def test_an_interrupt_is_not_for_a_thread_that_a_main_task_starts(pool: Pool) -> None:
    """CPython takes a thread that is just starting for the one that starts it."""
    begun: list[int] = []
    ended: list[int] = []

    def child() -> None:
        begun.append(1)
        ended.append(1)

    def start_threads(entered: threading.Event) -> None:
        entered.set()
        while True:
            _thread.start_new_thread(child, ())
            time.sleep(0.0001)

    for _ in range(100):
        entered = threading.Event()
        task = here(pool, start_threads, entered)
        assert entered.wait(20)
        assert task.cancel(force=True)
        assert_cancelled(task)
    wait_until(lambda: len(begun) == len(ended), timeout=20.0)
    assert_whole(pool)


def test_an_interrupt_that_comes_below_another_main_task_waits_for_it(pool: Pool) -> None:
    outer, inner = Job(), Job()
    ended: list[str] = []

    def below() -> str:
        inner.entered.set()
        wait_until(lambda: ended, timeout=20.0)
        return "whole"

    def above() -> None:
        outer.caught.append(here(pool, below).result(20))
        outer.caught.append("not reached")

    task = here(pool, above)
    with waiter(task):
        assert inner.entered.wait(20)
        assert task.cancel(force=True)
        ended.append("now")
    assert_cancelled(task)
    assert "not reached" not in outer.caught


def test_shutdown_after_ctrl_c_ends_what_runs_in_the_parent() -> None:
    job = Job()
    offered: list[Task[Any]] = []

    def interrupted() -> None:
        with WorkerPool(max_workers=1) as pool:
            offered.append(here(pool, job.count))
            assert job.entered.wait(20)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert_cancelled(offered[0])
