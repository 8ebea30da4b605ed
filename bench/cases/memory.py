"""Memory of one idle worker of 2, before any of the user's code is imported.

PSS shares a page out among the processes that map it, so other Python processes on the
machine lower it; private memory (USS) is what would be freed if the worker went.

SPDX-License-Identifier: BSD-3-Clause
"""

from statistics import mean

from bench.cases import Figure, Sample
from bench.rivals import Rival
from workpool.measure.processes import memory_bytes

RIVALS = (
    "workpool",
    "workpool-fork",
    "workpool-spawn",
    "workpool-forkserver",
    "futures-fork",
    "futures-spawn",
    "multiprocessing",
    "loky",
)
WITHOUT = ("threads", "serial")
FIGURES = {"PSS": Figure("MB"), "private": Figure("MB")}


def sample(rival: Rival, scale: float) -> Sample:
    with rival.open(2) as pool:
        pool.settle()
        workers = [memory_bytes(pid) for pid in pool.pids()]
    return {
        "PSS": mean(m["Pss"] for m in workers) / 1e6,
        "private": mean(m["Private_Clean"] + m["Private_Dirty"] for m in workers) / 1e6,
    }
