"""One task and its result, 1 worker: asked again at once, and after an idle gap of 2 ms.

Each trip is timed by itself; the clock's two readings, 0.1 us, are in the figure.

SPDX-License-Identifier: BSD-3-Clause
"""

import time
from collections.abc import Callable
from statistics import quantiles
from typing import Any

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import identity

RIVALS = ("workpool", "futures-fork", "futures-spawn", "multiprocessing", "loky")
FIGURES = {
    "hot": Figure("us"),
    "hot, p99": Figure("us"),
    "after 2 ms": Figure("us"),
    "after 2 ms, p99": Figure("us"),
}

GAP_SECONDS = 0.002


def _trips(submit: Callable[..., Any], count: int, gap: float, budget: float) -> list[float]:
    """Time trips, at least 20 and until `count` or the budget of seconds is reached."""
    clock = time.perf_counter_ns
    taken: list[float] = []
    end = time.perf_counter() + budget
    while len(taken) < count and (len(taken) < 20 or time.perf_counter() < end):
        if gap:
            time.sleep(gap)
        start = clock()
        submit(identity, 1).result()
        taken.append((clock() - start) / 1000)
    return taken


def sample(rival: Rival, scale: float) -> Sample:
    with rival.open(1) as pool:
        pool.settle()
        # Long enough for the kernel to move parent and worker to two CPUs, if it will.
        _trips(pool.submit, 100_000, 0, 0.2)
        hot = quantiles(_trips(pool.submit, 20_000, 0, scale), n=100)
        gap = quantiles(_trips(pool.submit, int(300 * scale) + 20, GAP_SECONDS, 2 * scale), n=100)
    return {"hot": hot[49], "hot, p99": hot[98], "after 2 ms": gap[49], "after 2 ms, p99": gap[98]}
