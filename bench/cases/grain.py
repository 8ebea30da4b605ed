"""Small tasks of pure Python, submitted one by one: serial time / (2 x parallel time) on 2 workers.

10,000 tasks of 20 and of 100 us, 2,000 of 1 ms; and those of 20 us by `map` in the pool's own
chunks. With 2 CPUs the parent works where a worker could, so what a task costs the parent is
lost: its share of the 2 CPUs is given beside. Serial and parallel rounds alternate, and a
figure is the median of its rounds' ratios.

SPDX-License-Identifier: BSD-3-Clause
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import count_to
from workpool.measure.pools import Pool

RIVALS = ("workpool", "futures-fork", "multiprocessing", "loky")
WITHOUT = ("serial",)
FIGURES = {
    "20 us": Figure("", less_is_better=False),
    "20 us, parent's share": Figure(""),
    "100 us": Figure("", less_is_better=False),
    "1 ms": Figure("", less_is_better=False),
    "20 us, map": Figure("", less_is_better=False),
    "20 us, map, parent's share": Figure(""),
}

WORKERS = 2
ROUNDS = 5
# What the rounds of one grain may take: of slow pools fewer are run.
PART_SECONDS = 8.0
# By name: seconds a task, and how many of them.
GRAINS = {"20 us": (20e-6, 10_000), "100 us": (100e-6, 10_000), "1 ms": (1e-3, 2_000)}


def _steps_for(seconds: float) -> int:
    """How far to count for that long on this machine, undisturbed."""
    steps = 100_000
    best = min(_timed(lambda: count_to(steps)) for _ in range(20))
    return max(1, round(steps * seconds / best))


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _efficiency(run: Callable[[], Any], steps: int, count: int, seconds: float) -> tuple[float, float]:
    ratios: list[float] = []
    shares: list[float] = []
    end = time.perf_counter() + seconds
    while not ratios or (len(ratios) < ROUNDS and time.perf_counter() < end):
        serial = _timed(lambda: [count_to(steps) for _ in range(count)])
        cpu = time.process_time()
        parallel = _timed(run)
        shares.append((time.process_time() - cpu) / (WORKERS * parallel))
        ratios.append(serial / (WORKERS * parallel))
    return median(ratios), median(shares)


def _measure(pool: Pool, scale: float) -> Sample:
    figures: Sample = {}
    pool.burst(count_to, [1] * 1000)
    seconds_each = PART_SECONDS * scale
    for name, (seconds, tasks) in GRAINS.items():
        steps, count = _steps_for(seconds), max(1, int(tasks * scale))
        items = [steps] * count
        figures[name], share = _efficiency(
            lambda items=items: pool.burst(count_to, items), steps, count, seconds_each
        )
        if name == "20 us":
            figures["20 us, parent's share"] = share
            figures["20 us, map"], figures["20 us, map, parent's share"] = _efficiency(
                lambda items=items: pool.map(count_to, items), steps, count, seconds_each
            )
    return figures


def sample(rival: Rival, scale: float) -> Sample:
    with rival.open(WORKERS) as pool:
        pool.settle()
        return _measure(pool, scale)
