"""One task and its result, 1 worker: asked again at once, and after an idle gap of 2 ms.

Each trip is timed by itself; the clock's two readings, 0.1 us, are in the figure.

SPDX-License-Identifier: BSD-3-Clause
"""

from statistics import quantiles

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import identity
from workpool.measure.timing import GAP_SECONDS, WARM_UP_SECONDS, trips

RIVALS = ("workpool", "futures-fork", "futures-spawn", "multiprocessing", "loky")
WORKERS = 1
FIGURES = {
    "hot": Figure("us"),
    "hot, p99": Figure("us"),
    "after 2 ms": Figure("us"),
    "after 2 ms, p99": Figure("us"),
}


def sample(rival: Rival, scale: float) -> Sample:
    with rival.open(1) as pool:
        pool.settle()
        trips(pool.submit, identity, 100_000, 0, WARM_UP_SECONDS)
        hot = quantiles(trips(pool.submit, identity, 20_000, 0, scale), n=100)
        count = int(300 * scale) + 20
        gap = quantiles(trips(pool.submit, identity, count, GAP_SECONDS, 2 * scale), n=100)
    return {"hot": hot[49], "hot, p99": hot[98], "after 2 ms": gap[49], "after 2 ms, p99": gap[98]}
