"""`map` of a trivial function over 1,000,000 items, in the pool's own chunks; 2 workers.

For pools whose default is chunks of 1 the adapter takes multiprocessing.Pool's rule.

SPDX-License-Identifier: BSD-3-Clause
"""

from statistics import median

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import identity
from workpool.measure.timing import rates

RIVALS = ("workpool", "futures-fork", "multiprocessing", "loky")
WITHOUT = ("piscina", "tinypool", "poolifier")
FIGURES = {"items": Figure("1/s", less_is_better=False)}

ITEMS = 1_000_000


def sample(rival: Rival, scale: float) -> Sample:
    items = range(int(ITEMS * scale))
    with rival.open(2) as pool:
        pool.settle()
        pool.map(identity, range(1000))
        return {"items": median(rates(lambda: pool.map(identity, items), items, 3, 6.0 * scale))}
