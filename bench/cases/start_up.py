"""From constructing a new pool of 1 to its first result; the pool's module is imported before.

SPDX-License-Identifier: BSD-3-Clause
"""

import time

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import identity

RIVALS = ("workpool", "workpool-fork", "futures-fork", "futures-spawn", "multiprocessing", "loky")
FIGURES = {"first result": Figure("ms")}


def sample(rival: Rival, scale: float) -> Sample:
    rival.adapter()
    start = time.perf_counter()
    pool = rival.open(1)
    pool.submit(identity, 1).result()
    taken = time.perf_counter() - start
    pool.close()
    return {"first result": taken * 1e3}
