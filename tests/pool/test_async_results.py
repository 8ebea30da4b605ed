"""``async for`` over a map and over ``as_completed``: every result once, and the loop goes on.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pool_tasks as tasks
import pytest
from pool_support import Gate

from workpool import WorkerPool, as_completed

Pool = WorkerPool[Any, Any]


@pytest.fixture(scope="module")
def shared() -> Iterator[Pool]:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready()
        yield pool


OPTIONS: list[dict[str, Any]] = [
    {}, {"chunksize": 1}, {"chunksize": 7}, {"ordered": False}, {"buffersize": 5},
    {"buffersize": 5, "chunksize": 2}, {"buffersize": 5, "ordered": False}, {"progress": "text"},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_async_for_over_map_gives_every_result_once(shared: Pool, options: dict[str, Any]) -> None:
    if "progress" in options:
        pytest.importorskip("tqdm")

    async def main() -> list[int]:
        return [result async for result in shared.map(tasks.echo, range(500), **options)]

    got = asyncio.run(main())
    assert sorted(got) == list(range(500))
    if options.get("ordered", True):
        assert got == list(range(500))


@pytest.mark.parametrize("ordered", [True, False])
def test_async_for_over_a_map_whose_costs_are_known(shared: Pool, ordered: bool) -> None:
    async def main() -> list[int]:
        view = shared.options(key=lambda item: item % 5)
        return [result async for result in view.map(tasks.echo, range(100), ordered=ordered)]

    shared.load_costs({key: key / 100 for key in range(5)})
    got = asyncio.run(main())
    assert sorted(got) == list(range(100))
    assert not ordered or got == list(range(100))


@pytest.mark.parametrize("ordered", [True, False])
def test_exception_comes_after_the_results_before_it(shared: Pool, ordered: bool) -> None:
    got: list[int] = []

    async def main() -> None:
        async for result in shared.map(tasks.fail_on_three, range(10), chunksize=10, ordered=ordered):
            got.append(result)

    with pytest.raises(ValueError, match="three"):
        asyncio.run(main())
    assert got == [0, 1, 2]


def test_timeout_of_a_map_ends_the_async_for(shared: Pool, gate: Gate) -> None:
    async def main() -> None:
        async for _ in shared.map(tasks.enter, [gate.path], timeout=0.1):
            raise AssertionError("nothing can have come")

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    gate.open()


def test_cancelled_async_for_cancels_what_nobody_has_begun(gate: Gate) -> None:
    with WorkerPool(max_workers=1) as pool:

        async def take() -> None:
            async for _ in pool.map(tasks.enter, [gate.path] * 50, chunksize=1):
                pass

        async def main() -> None:
            taking = asyncio.create_task(take())
            while not gate.entered:
                await asyncio.sleep(0.001)
            taking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await taking

        asyncio.run(main())
        gate.open()
        pool.when_idle().result(20)
        assert gate.entered < 5


def test_loop_has_its_turn_while_results_that_are_there_are_taken(shared: Pool) -> None:
    async def main() -> int:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0)

        results = shared.map(tasks.echo, range(50_000))
        await shared.when_idle()
        beating = asyncio.create_task(beat())
        async for _ in results:
            pass
        beating.cancel()
        return beats

    assert asyncio.run(main()) > 10


@pytest.mark.parametrize("count", [0, 1, 300])
def test_as_completed_gives_every_task_once_in_a_loop_and_in_a_thread(shared: Pool, count: int) -> None:
    async def main() -> set[Any]:
        submitted = [shared.submit(tasks.echo, number) for number in range(count)]
        return {task.result() async for task in as_completed([*submitted, *submitted[:3]])}

    assert asyncio.run(main()) == set(range(count))
    again = [shared.submit(tasks.echo, number) for number in range(count)]
    assert sorted(task.result() for task in as_completed(again)) == list(range(count))


def test_as_completed_gives_first_what_ends_first(shared: Pool, gate: Gate) -> None:
    slow = gate.hold(shared, "slow")

    async def main() -> list[Any]:
        order = []
        async for task in as_completed([slow, shared.submit(tasks.echo, "quick")]):
            order.append(task.result())
            gate.open()
        return order

    assert asyncio.run(main()) == ["quick", "slow"]


def test_as_completed_of_failed_and_cancelled_tasks(gate: Gate) -> None:
    with WorkerPool(max_workers=1) as pool:
        held = gate.hold(pool)
        failing, cancelled = pool.submit(tasks.divide, 1, 0), pool.submit(tasks.echo, 1)
        cancelled.cancel()
        gate.open()

        async def main() -> int:
            return len([task async for task in as_completed([held, failing, cancelled])])

        assert asyncio.run(main()) == 3


def test_as_completed_past_its_time_raises(shared: Pool, gate: Gate) -> None:
    held = gate.hold(shared)

    async def main() -> None:
        async for _ in as_completed([held], timeout=0.05):
            pass

    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(main())
    with pytest.raises(TimeoutError):
        list(as_completed([held], timeout=0.05))
    assert time.monotonic() - begun < 10
    gate.open()


def test_run_in_executor_runs_in_a_worker(shared: Pool) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(shared, tasks.add, n, 1) for n in range(100)))

    assert asyncio.run(main()) == list(range(1, 101))


def test_uvloop_awaits_iterates_and_cancels(shared: Pool, gate: Gate) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        assert await shared.submit(tasks.echo, 1) == 1
        assert [n async for n in shared.map(tasks.echo, range(100))] == list(range(100))
        submitted = [shared.submit(tasks.echo, n) for n in range(50)]
        assert {t.result() async for t in as_completed(submitted)} == set(range(50))
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(shared, tasks.add, 1, 2) == 3
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(shared.submit(tasks.enter, gate.path), 0.05)
        gate.open()
        async with WorkerPool(max_workers=1) as own:
            assert await own.submit(tasks.echo, 2) == 2

    uvloop.run(main())
