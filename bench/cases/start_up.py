"""From constructing a new pool of 1 to its first result; the pool's module is imported before.

SPDX-License-Identifier: BSD-3-Clause
"""

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import identity
from workpool.measure.timing import first_result

RIVALS = ("workpool", "workpool-fork", "futures-fork", "futures-spawn", "multiprocessing", "loky")
# What mpiexec starts is there before the clock is.
WITHOUT = ("serial", "mpi4py")
FIGURES = {"first result": Figure("ms")}


def sample(rival: Rival, scale: float) -> Sample:
    rival.adapter()
    return {"first result": first_result(rival.open, identity)}
