"""How late a coroutine that sleeps 1 ms wakes while 100,000 tasks stream through its event loop; 2 workers.

A hundred coroutines submit and await one task after the other. `alone` is the same sleep with
nothing else in the loop: what the machine itself adds.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import quantiles
from typing import Any

from bench.cases import Figure, Sample
from bench.rivals import OURS, Rival
from bench.tasks import identity

RIVALS = ("workpool", "futures-fork", "loky")
FIGURES = {
    "p99": Figure("ms"),
    "alone, p99": Figure("ms"),
    "tasks": Figure("1/s", less_is_better=False),
}

TASKS = 100_000
COROUTINES = 100
NAP_SECONDS = 0.001
# Slower rivals are told from fewer tasks: their rate is no other.
RIVAL_TASKS = 10_000


async def _naps(late: list[float]) -> None:
    while True:
        start = time.perf_counter()
        await asyncio.sleep(NAP_SECONDS)
        late.append((time.perf_counter() - start - NAP_SECONDS) * 1000)


async def _lag(work: Awaitable[Any]) -> list[float]:
    """Milliseconds that naps were late during `work`."""
    late: list[float] = []
    napping = asyncio.create_task(_naps(late))
    await work
    napping.cancel()
    return late


async def _measure(submit: Callable[..., Any], ours: bool, tasks: int) -> Sample:
    each = max(1, tasks // COROUTINES)

    async def stream(number: int) -> None:
        for item in range(number, number + each):
            handle = submit(identity, item)
            if await (handle if ours else asyncio.wrap_future(handle)) != item:
                raise AssertionError("wrong result")

    alone = await _lag(asyncio.sleep(1.0))
    start = time.perf_counter()
    late = await _lag(asyncio.gather(*(stream(number) for number in range(COROUTINES))))
    seconds = time.perf_counter() - start
    return {
        "p99": quantiles(late, n=100)[98],
        "alone, p99": quantiles(alone, n=100)[98],
        "tasks": each * COROUTINES / seconds,
    }


def sample(rival: Rival, scale: float) -> Sample:
    ours = rival.name.startswith(OURS)
    tasks = int((TASKS if ours else RIVAL_TASKS) * scale)
    with rival.open(2) as pool:
        pool.settle()
        pool.burst(identity, range(1000))
        return asyncio.run(_measure(pool.submit, ours, tasks))
