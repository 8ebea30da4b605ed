"""Priorities: who goes first, and that nobody waits for ever.

SPDX-License-Identifier: BSD-3-Clause
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import wait_until
from placement_tasks import append, bound, hold_seat, nap, read, where
from pool_support import Gate

import workpool.priority
from workpool import WorkerPool

Pool = WorkerPool[Any, Any]


@pytest.fixture
def one() -> Iterator[Pool]:
    with WorkerPool(max_workers=1) as pool:
        yield pool


def test_higher_priorities_go_first_and_equals_in_order(one: Pool, gate: Gate, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")
    gate.hold(one)
    given = [0, -3, 5, 2, 0, 7, -8, 5, -1, 1, 0]
    for number, priority in enumerate(given):
        one.options(priority=priority).submit(append, trace, f"{priority}:{number}")
    gate.open()
    one.when_idle().result(20)
    order = [line.split(":") for line in read(tmp_path / "trace")]
    expected = sorted(range(len(given)), key=lambda number: -given[number])
    assert [int(number) for _, number in order] == expected


def test_many_plain_tasks_do_not_hold_up_an_urgent_one(one: Pool, gate: Gate, tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")
    gate.hold(one)
    for _ in range(20_000):  # more than there are slots
        one.submit(abs, 1)
    one.submit(append, trace, "plain")
    urgent = [one.options(priority=1).submit(append, trace, i) for i in range(5)]
    one.options(priority=-1).submit(append, trace, "low")
    gate.open()
    assert [task.result(30) for task in urgent] == [None] * 5
    one.when_idle().result(30)
    assert read(tmp_path / "trace") == ["0", "1", "2", "3", "4", "plain", "low"]


def test_a_task_that_waits_long_overtakes(
    one: Pool, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workpool.priority, "AGE_SECONDS", 0.005)
    trace = str(tmp_path / "trace")
    gate.hold(one)
    old = one.options(priority=-8).submit(append, trace, "old")
    one.submit(append, trace, "plain")
    wait_until(lambda: not one._placement.ageing._waiting)  # it has reached the top
    one.options(priority=6).submit(append, trace, "new")
    gate.open()
    old.result(20)
    one.when_idle().result(20)
    assert read(tmp_path / "trace") == ["old", "new", "plain"]


def test_a_stream_of_urgent_tasks_starves_nobody(one: Pool) -> None:
    stop = threading.Event()

    def stream() -> None:
        waiting: list[Any] = []
        while not stop.is_set():
            waiting = [task for task in waiting if not task.done()]
            waiting += [one.options(priority=7).submit(nap, 0.0005) for _ in range(20 - len(waiting))]
            waiting[0].result(20)

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        assert one.submit(where).result(20) == 1
        assert bound(one, 1, "strong").result(20) == 1
        assert one.options(priority=-2).submit(where).result(30) == 1
    finally:
        stop.set()
        thread.join()


def test_priority_goes_with_the_other_options(gate: Gate) -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready(20)
        assert bound(pool, 2, "force").result(20) == 2
        view = pool.options(priority=4, worker_affinity=2, affinity_strength="force", key="k", cost=1.0)
        assert {view.submit(where).result(20) for _ in range(5)} == {2}
        held = hold_seat(pool, 2, gate)
        assert pool.options(priority=-2, worker_affinity=2).submit(where).result(20) == 1
        assert not held.done()
        assert [worker.load for worker in pool.workers] == [0.0, 0.0]
        gate.open()
        held.result(20)


def test_a_prioritised_task_can_be_cancelled_and_dies_with_its_worker(one: Pool, gate: Gate) -> None:
    gate.hold(one)
    task = one.options(priority=3).submit(where)
    assert task.cancel()
    one.options(priority=-3).submit(where).cancel()
    gate.open()
    one.when_idle().result(20)
    assert one.options(priority=2, retries=1).submit(where).result(20) == 1


def test_no_thread_is_left_when_nothing_with_a_priority_waits(one: Pool) -> None:
    assert one.options(priority=1).submit(where).result(20) == 1
    one.shutdown()
    assert not [thread for thread in threading.enumerate() if "ageing" in thread.name]
