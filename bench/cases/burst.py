"""20,000 trivial tasks submitted one by one, then gathered; 2 workers.

SPDX-License-Identifier: BSD-3-Clause
"""

from statistics import median

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import identity
from workpool.measure.timing import rates

RIVALS = ("workpool", "futures-fork", "futures-spawn", "multiprocessing", "multiprocessing-chunk1", "loky")
FIGURES = {"tasks": Figure("1/s", less_is_better=False)}

TASKS = 20_000


# What one burst may take: a slow pool gets fewer tasks, as many as it would do in this time.
SECONDS = 3.0


def sample(rival: Rival, scale: float) -> Sample:
    with rival.open(2) as pool:
        pool.settle()
        warm = range(1000)
        pace = rates(lambda: pool.burst(identity, warm), warm, 1, 0)[0]
        items = range(min(int(TASKS * scale), max(1000, int(pace * SECONDS * scale))))
        # A quick pool is done in milliseconds, less than one hiccup of the machine: five of those.
        return {"tasks": median(rates(lambda: pool.burst(identity, items), items, 5, 1.0))}
