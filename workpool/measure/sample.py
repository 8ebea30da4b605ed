"""The figures of one pool, in a process of its own: nothing that one pool leaves weighs on the next.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import json
import sys
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from workpool.measure import pools
from workpool.measure.timing import GAP_SECONDS, WARM_UP_SECONDS, first_result, rates, trips

if TYPE_CHECKING:
    from collections.abc import Callable

# Those of the standard library that can be used in the same way.
POOLS: dict[str, Callable[[int], pools.Pool]] = {
    "workpool": pools.Ours,
    "ProcessPoolExecutor, fork": partial(pools.open_processes, start_method="fork"),
    "ProcessPoolExecutor, spawn": partial(pools.open_processes, start_method="spawn"),
    "multiprocessing.Pool, fork": pools.open_multiprocessing,
    "ThreadPoolExecutor": pools.open_threads,
}
OURS = "workpool"
# No process pool: shown, not ranked.
THREADS = ("ThreadPoolExecutor",)

# Name: unit, and whether less is better.
FIGURES = {
    "round trip, hot, 1 worker": ("us", True),
    "round trip after 2 ms, 1 worker": ("us", True),
    "burst of single tasks, 2 workers": ("tasks/s", False),
    "map in the pool's own chunks, 2 workers": ("items/s", False),
    "first result of a new pool": ("ms", True),
}

BURST, ITEMS = 5_000, 200_000


def take(name: str, seconds: float) -> dict[str, float]:
    """Measure one pool; about ``seconds`` for each figure at most, and what its start takes.

    The function that is called is a builtin: no worker imports anything for it.
    """
    open_pool = POOLS[name]
    found = [first_result(open_pool, abs)]
    with open_pool(1) as pool:
        pool.settle()
        trips(pool.submit, abs, 100_000, 0, min(WARM_UP_SECONDS, seconds))
        found.insert(0, median(trips(pool.submit, abs, 20_000, 0, seconds)))
        found.insert(1, median(trips(pool.submit, abs, 300, GAP_SECONDS, seconds)))
    with open_pool(2) as pool:
        pool.settle()
        pool.burst(abs, range(500))
        for run, count in ((pool.burst, BURST), (pool.map, ITEMS)):
            items = range(int(count * min(seconds, 1.0)))
            found.insert(-1, median(rates(partial(run, abs, items), items, 3, seconds)))
    return dict(zip(FIGURES, found, strict=True))


def main() -> None:
    """Print the figures of the pool that the command line names, as JSON."""
    json.dump(take(sys.argv[1], float(sys.argv[2])), sys.stdout)
