"""Every way to wait for tasks, from threads and an event loop at once: none sleeps on.

A sleeper that is not woken is found by its look for signals, half a second later: here that look
comes so late that the test's time limit finds it.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from typing import TYPE_CHECKING, Any

import nested_tasks as nested
import pool_tasks as tasks
import pytest

from workpool import WorkerPool, gather

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = float(os.environ.get("WORKPOOL_STRESS_SECONDS", "12")) / 2
THREADS = 3


def test_no_waiter_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "_SIGNAL_CHECK_SECONDS", 600.0)
    end = time.monotonic() + SECONDS
    rounds: list[int] = []

    def in_thread(seed: int) -> None:
        rng = random.Random(seed)

        def some(count: int) -> list[Any]:
            return [pool.submit(tasks.echo, number) for number in range(count)]

        ways: list[Callable[[], object]] = [
            lambda: list(pool.map(tasks.echo, range(rng.randrange(30)))),
            lambda: list(pool.map(tasks.echo, iter(range(30)), buffersize=5)),
            lambda: list(pool.map(tasks.echo, range(20), ordered=False)),
            lambda: pool.submit(tasks.echo, 1).result(),
            lambda: pool.submit(nested.waited, 5).result(),
            lambda: wait(some(5)),
            lambda: list(as_completed(some(5))),
            lambda: some(1)[0].add_done_callback(lambda task: None),
            lambda: [task.cancel() for task in some(5)],
            lambda: [task.result() for task in some(10)],
        ]
        count = 0
        while time.monotonic() < end:
            rng.choice(ways)()
            count += 1
            if rng.random() < 0.02:
                time.sleep(rng.random() * 0.003)
        rounds.append(count)

    async def in_loop() -> None:
        async def one(number: int) -> Any:
            return await pool.submit(tasks.echo, number)

        while time.monotonic() < end:
            assert await asyncio.gather(*map(one, range(10))) == list(range(10))
            assert [result async for result in pool.map(tasks.echo, range(20))] == list(range(20))
            await asyncio.sleep(random.random() * 0.003)

    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        looping = threading.Thread(target=lambda: asyncio.run(in_loop()))
        looping.start()
        with ThreadPoolExecutor(THREADS) as threads:
            for _ in threads.map(in_thread, range(THREADS)):
                pass
        looping.join()
    print(f"{sum(rounds)} rounds in {THREADS} threads, {SECONDS:.0f} s")
