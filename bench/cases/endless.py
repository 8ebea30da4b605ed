"""5,000,000 items from an endless iterator through `map(buffersize=...)`: does memory grow?

From the millionth item on, when everything is as large as it gets; private memory of the
parent, and of both workers.

SPDX-License-Identifier: BSD-3-Clause
"""

import itertools
import os
import time
from typing import Any

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import identity
from workpool.measure.processes import memory_bytes

RIVALS = ("workpool",)
FIGURES = {
    "growth, parent": Figure("MB"),
    "growth, workers": Figure("MB"),
    "items": Figure("/s", less_is_better=False),
}

ITEMS, BEFORE, BUFFER = 5_000_000, 1_000_000, 10_000


def _private(pid: int) -> float:
    memory = memory_bytes(pid)
    return (memory["Private_Clean"] + memory["Private_Dirty"]) / 1e6


def sample(rival: Rival, scale: float) -> Sample:
    with rival.open(2) as adapter:
        pool: Any = getattr(adapter, "pool")  # noqa: B009
        adapter.settle()
        results = pool.map(identity, itertools.count(), buffersize=BUFFER)

        def take(last: int) -> tuple[float, float]:
            for result in results:
                if result == last:
                    break
            return _private(os.getpid()), sum(_private(pid) for pid in adapter.pids())

        parent, workers = take(BEFORE)
        begun = time.perf_counter()
        last = BEFORE + max(1, round(ITEMS * scale))
        parent_then, workers_then = take(last)
        seconds = time.perf_counter() - begun
        results.close()
    return {
        "growth, parent": parent_then - parent,
        "growth, workers": workers_then - workers,
        "items": (last - BEFORE) / seconds,
    }
