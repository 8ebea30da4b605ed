"""20,000 trivial tasks submitted one by one, then gathered; 2 workers.

SPDX-License-Identifier: BSD-3-Clause
"""

import time
from statistics import median

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import identity

RIVALS = ("workpool", "futures-fork", "futures-spawn", "multiprocessing", "multiprocessing-chunk1", "loky")
FIGURES = {"tasks": Figure("1/s", less_is_better=False)}

TASKS = 20_000


def sample(rival: Rival, scale: float) -> Sample:
    items = range(int(TASKS * scale))
    rates: list[float] = []
    with rival.open(2) as pool:
        pool.settle()
        pool.burst(identity, range(1000))
        end = time.perf_counter() + 1
        # A quick pool is done in milliseconds, less than one hiccup of the machine: five of those.
        while not rates or (len(rates) < 5 and time.perf_counter() < end):
            start = time.perf_counter()
            results = pool.burst(identity, items)
            rates.append(len(items) / (time.perf_counter() - start))
            if results != list(items):
                raise AssertionError("wrong results")
    return {"tasks": median(rates)}
