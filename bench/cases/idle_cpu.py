"""CPU time of the parent, 2 workers and the pool's helpers together, over 5 s with nothing to do.

SPDX-License-Identifier: BSD-3-Clause
"""

import time

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import identity
from workpool.measure.processes import CpuMeter

RIVALS = ("workpool", "futures-fork", "multiprocessing", "loky")
WITHOUT = ("serial",)
FIGURES = {"CPU in 5 s": Figure("ms")}

IDLE_SECONDS = 5.0


def sample(rival: Rival, scale: float) -> Sample:
    with rival.open(2) as pool:
        pool.settle()
        meter = CpuMeter()
        # Idle after work is the common idle: what a pool spins before it parks is in the figure.
        pool.burst(identity, range(200))
        meter.start()
        time.sleep(IDLE_SECONDS)  # whatever the scale: the first second is not like the others
        used_ns = meter.stop()
    return {"CPU in 5 s": used_ns / 1e6}
