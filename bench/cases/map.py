"""`map` of a trivial function over 1,000,000 items, in the pool's own chunks; 2 workers.

For pools whose default is chunks of 1 the adapter takes multiprocessing.Pool's rule.

SPDX-License-Identifier: BSD-3-Clause
"""

import time
from statistics import median

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import identity

RIVALS = ("workpool", "futures-fork", "multiprocessing", "loky")
FIGURES = {"items": Figure("1/s", less_is_better=False)}

ITEMS = 1_000_000


def sample(rival: Rival, scale: float) -> Sample:
    items = range(int(ITEMS * scale))
    rates: list[float] = []
    with rival.open(2) as pool:
        pool.settle()
        pool.map(identity, range(1000))
        for _ in range(3):
            start = time.perf_counter()
            results = pool.map(identity, items)
            rates.append(len(items) / (time.perf_counter() - start))
            if results != list(items):
                raise AssertionError("wrong results")
    return {"items": median(rates)}
