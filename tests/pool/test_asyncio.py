"""The pool from event loops: await, gather, cancel, several loops at once.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import threading
import time
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import wait_until
from pool_support import Gate

from workpool import WorkerDied, WorkerPool

Pool = WorkerPool[Any, Any]


def test_awaited_task_gives_its_result(pool: Pool) -> None:
    async def main() -> Any:
        return await pool.submit(tasks.echo, 1)

    assert asyncio.run(main()) == 1


def test_awaited_task_raises_its_exception(pool: Pool) -> None:
    async def main() -> Any:
        await pool.submit(tasks.divide, 1, 0)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())


def test_awaited_task_whose_worker_dies_raises_worker_died(pool: Pool) -> None:
    async def main() -> Any:
        await pool.submit(tasks.kill_self)

    with pytest.raises(WorkerDied):
        asyncio.run(main())


def test_task_can_be_awaited_twice_and_after_its_end(pool: Pool) -> None:
    async def main() -> list[Any]:
        task = pool.submit(tasks.echo, 1)
        return [*await asyncio.gather(task, task), await task]

    assert asyncio.run(main()) == [1, 1, 1]


def test_gather_of_a_thousand(pool: Pool) -> None:
    async def main() -> list[Any]:
        return await asyncio.gather(*(pool.submit(tasks.echo, i) for i in range(1000)))

    assert asyncio.run(main()) == list(range(1000))


def test_gather_beyond_the_slots(pool: Pool) -> None:
    async def main() -> list[Any]:
        return await asyncio.gather(*(pool.submit(tasks.echo, i) for i in range(20_000)))

    assert asyncio.run(main()) == list(range(20_000))


def test_async_with_drains_and_ends_the_pool() -> None:
    async def main() -> Any:
        async with WorkerPool(tasks.echo, max_workers=1) as pool:
            forgotten = pool.add_task(1)
            task = pool.add_task(2)
            await pool.when_idle()
            assert await task == 2
            late = pool.add_task(3)
        return forgotten.result(0), late.result(0)

    assert asyncio.run(main()) == (1, 3)


def test_async_with_many_times_troubles_no_loop() -> None:
    troubles: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
        for number in range(15):
            async with WorkerPool(max_workers=1) as pool:
                assert await pool.submit(tasks.echo, number) == number
        await asyncio.sleep(0)

    asyncio.run(main(), debug=False)
    assert troubles == []


def test_async_with_left_by_an_exception_cancels_what_is_queued(gate: Gate) -> None:
    queued: list[Any] = []

    async def main() -> None:
        async with WorkerPool(max_workers=1) as pool:
            gate.hold(pool)
            queued.extend(pool.submit(tasks.echo, i) for i in range(5))
            queued[-1].add_done_callback(lambda _: gate.open())
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(main())
    assert all(task.cancelled() for task in queued)


def test_cancelling_the_awaiting_coroutine_cancels_a_queued_task(gate: Gate) -> None:
    async def main(pool: Pool) -> bool:
        task = pool.submit(tasks.echo, 1)

        async def waits() -> None:
            await task

        waiting = asyncio.create_task(waits())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return task.cancelled()

    with WorkerPool(max_workers=1) as pool:
        gate.hold(pool)
        assert asyncio.run(main(pool))
        gate.open()


def test_wait_for_gives_up_and_the_running_task_goes_on(pool: Pool, gate: Gate) -> None:
    task = gate.hold(pool, 5)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task, 0.01)

    asyncio.run(main())
    gate.open()
    assert task.result(20) == 5


def test_loop_goes_on_while_tasks_run(pool: Pool, gate: Gate) -> None:
    async def main() -> int:
        waiting = asyncio.ensure_future(asyncio.wrap_future(gate.hold(pool)))
        awaiting = asyncio.create_task(_await(pool.submit(tasks.enter, gate.path)))
        beats = 0
        while beats < 100:
            await asyncio.sleep(0)
            beats += 1
        assert not waiting.done()
        gate.open()
        await waiting
        await awaiting
        return beats

    async def _await(task: Any) -> Any:
        return await task

    assert asyncio.run(main()) == 100


def test_several_loops_in_several_threads_each_get_their_own(pool: Pool) -> None:
    results: dict[int, list[int]] = {}

    def run(number: int) -> None:
        async def main() -> list[int]:
            futures = [pool.submit(tasks.echo, 1000 * number + i) for i in range(100)]
            single = [await pool.submit(tasks.echo, 1000 * number + 100 + i) for i in range(100)]
            return [*await asyncio.gather(*futures), *single]

        results[number] = asyncio.run(main())

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: list(range(1000 * n, 1000 * n + 200)) for n in range(4)}


def test_loops_and_waiting_threads_and_callbacks_at_once(pool: Pool) -> None:
    called: list[int] = []
    results: list[Any] = []

    def loops() -> None:
        async def main() -> None:
            for i in range(150):
                results.append(await pool.submit(tasks.echo, i))

        asyncio.run(main())

    def waits() -> None:
        for i in range(150):
            results.append(pool.submit(tasks.echo, i).result(20))

    def calls() -> None:
        for i in range(150):
            pool.submit(tasks.echo, i).add_done_callback(lambda task: called.append(task.result()))

    threads = [threading.Thread(target=target) for target in (loops, loops, waits, waits, calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(called) == 150)
    assert sorted(results) == sorted(4 * [*range(150)])
    assert sorted(called) == list(range(150))


def test_one_loop_after_another(pool: Pool) -> None:
    async def main(value: int) -> Any:
        return await pool.submit(tasks.echo, value)

    assert [asyncio.run(main(i)) for i in range(30)] == list(range(30))


def test_loop_that_ended_while_its_task_ran_does_no_harm(pool: Pool, gate: Gate) -> None:
    async def main() -> Any:
        task = gate.hold(pool, 3)
        asyncio.ensure_future(_swallow(task))
        await asyncio.sleep(0)
        return task

    async def _swallow(task: Any) -> None:
        try:
            await task
        except asyncio.CancelledError:
            pass

    task = asyncio.run(main())
    gate.open()
    assert task.result(20) == 3
    assert asyncio.run(_one(pool)) == 1


async def _one(pool: Pool) -> Any:
    return await pool.submit(tasks.echo, 1)


def test_coroutine_tasks_overlap_in_one_worker() -> None:
    with WorkerPool(max_workers=1, worker_concurrency=2) as pool:
        pair = [pool.submit(tasks.meet, "x", "y"), pool.submit(tasks.meet, "y", "x")]
        assert [task.result(20) for task in pair] == ["x", "y"]


def test_no_more_coroutines_overlap_than_worker_concurrency() -> None:
    with WorkerPool(max_workers=1, worker_concurrency=3) as pool:
        most = [pool.submit(_count_inside) for _ in range(12)]
        assert max(task.result(20) for task in most) == 3


_inside = 0


async def _count_inside() -> int:
    global _inside
    _inside += 1
    most = _inside
    for _ in range(20):
        await asyncio.sleep(0.001)
        most = max(most, _inside)
    _inside -= 1
    return most


def test_failing_coroutine_raises_its_own_exception(pool: Pool) -> None:
    with pytest.raises(ValueError, match="why") as caught:
        pool.submit(tasks.fail_later, "why").result()
    assert "fail_later" in str(caught.value.__cause__)


def test_coroutine_and_plain_tasks_mix_in_one_worker() -> None:
    with WorkerPool(max_workers=1) as pool:
        futures = [pool.submit(tasks.echo_later if i % 2 else tasks.echo, i) for i in range(100)]
        assert [task.result(20) for task in futures] == list(range(100))


def test_each_coroutine_task_sees_its_own_key() -> None:
    async def key_twice() -> tuple[Any, Any]:
        from workpool import current_client

        client = current_client()
        first = client.task.key  # type: ignore[union-attr]
        await asyncio.sleep(0.01)
        return first, client.task.key  # type: ignore[union-attr]

    with WorkerPool(max_workers=1, worker_concurrency=4) as pool:
        futures = [pool.options(key=k).submit(key_twice) for k in range(8)]
        assert [task.result(20) for task in futures] == [(k, k) for k in range(8)]


def test_worker_idle_in_its_loop_is_woken_by_a_new_task(gate: Gate) -> None:
    with WorkerPool(max_workers=1, worker_concurrency=2) as pool:
        sleeper = pool.submit(tasks.echo_after, 1.0, "late")
        assert pool.submit(tasks.echo_later, 0).result(20) == 0
        begun = time.monotonic()
        for i in range(20):
            assert pool.submit(tasks.echo_later, i).result(20) == i
            assert pool.submit(tasks.echo, i).result(20) == i
        assert time.monotonic() - begun < 0.9
        assert not sleeper.done()
        assert sleeper.result(20) == "late"


def test_awaiting_what_is_done_does_not_keep_the_loop(pool: Pool) -> None:
    done = [pool.submit(tasks.echo, number) for number in range(3000)]
    done[-1].result()
    wait_until(lambda: pool.is_idle)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        turning = asyncio.ensure_future(turn())
        for _ in range(20):
            for task in done:
                await task
        turning.cancel()

    asyncio.run(main())
    assert turns > 5


def test_tasks_that_end_together_leave_the_loop_its_turns(gate: Gate) -> None:
    count = 400
    woken = [0]  # in each turn

    def turn() -> None:
        woken.append(0)
        asyncio.get_running_loop().call_soon(turn)

    async def one(task: Any) -> None:
        await task
        woken[-1] += 1

    async def main(pool: Pool) -> None:
        held = gate.hold(pool)
        sent = [pool.submit(tasks.echo, number) for number in range(count)]
        awaiting = [asyncio.ensure_future(one(task)) for task in sent]
        for _ in range(3):
            await asyncio.sleep(0)
        assert woken == [0]
        turn()
        gate.open()
        wait_until(lambda: pool.is_idle, timeout=20)  # the loop does nothing meanwhile
        await asyncio.gather(*awaiting, asyncio.wrap_future(held))

    with WorkerPool(max_workers=1) as pool:
        asyncio.run(main(pool))
    assert sum(woken) == count
    assert max(woken) <= 40
