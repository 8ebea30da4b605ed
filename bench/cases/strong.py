"""A strong task whose worker is at a task of 2 s while others take 5 ms: how late another starts it.

Counted from when the loads are unbalanced (docs/scheduling.md): three mean task times
after the long task began, with every other worker asleep by then.

SPDX-License-Identifier: BSD-3-Clause
"""

import time
from statistics import median
from typing import Any

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import nap_from

RIVALS = ("workpool",)
FIGURES = {"late": Figure("mean task times")}

MEAN_SECONDS, LONG_SECONDS, MEANS_UNTIL_STUCK = 0.005, 2.0, 3


def sample(rival: Rival, scale: float) -> Sample:
    late = []
    with rival.open(2) as pool:
        ours: Any = getattr(pool, "pool")  # noqa: B009
        pool.settle()

        def on(seat: int, strength: str, seconds: float) -> Any:
            return ours.options(worker_affinity=seat, affinity_strength=strength).submit(nap_from, seconds)

        for _ in range(max(1, round(3 * scale))):
            took = []
            for _ in range(20):
                for task in [on(seat, "force", MEAN_SECONDS) for seat in (1, 2)]:
                    task.result()
                    took.append(task.task_cost)
            stuck = on(2, "force", LONG_SECONDS * scale)
            while not stuck.running():
                time.sleep(0.0002)
            mean = sum(took) / len(took)
            begun = on(2, "strong", 0.0).result()
            late.append((begun - stuck.result()) / mean - MEANS_UNTIL_STUCK)
    return {"late": median(late)}
