"""200 tasks of 1 ms of CPU, two of them 100 times longer, anywhere; 2 workers: how far from the best.

Unknown: beside list scheduling in the order of arrival, the best that is possible when
nobody knows. Learned: beside the ideal, half of all work or the longest task, when each
task's cost was learned by its key in a run before. Both from the times that the tasks
themselves measured.

SPDX-License-Identifier: BSD-3-Clause
"""

import heapq
import random
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import timed_burn

RIVALS = ("workpool", "futures-fork", "multiprocessing", "loky")
# joblib has no single tasks: its calls would run one after another.
WITHOUT = ("serial", "joblib", "piscina", "tinypool", "poolifier")
FIGURES = {"unknown, of the best": Figure("x"), "learned, of the ideal": Figure("x")}

TASKS, LONG, SHORT_MS, TIMES_LONGER = 200, 2, 1.0, 100
WORKERS = 2


def _run(submit: Callable[[int, float], Any], costs_ms: list[float]) -> tuple[float, list[float]]:
    """The makespan, and what each task took, in seconds."""
    start = time.perf_counter()
    handles = [submit(number, cost_ms) for number, cost_ms in enumerate(costs_ms)]
    took = [handle.result() for handle in handles]
    return time.perf_counter() - start, took


def list_schedule(costs: list[float], workers: int) -> float:
    """The makespan when each task, in its turn, goes to whoever is free first."""
    free = [0.0] * workers
    for cost in costs:
        heapq.heapreplace(free, free[0] + cost)
    return max(free)


def sample(rival: Rival, scale: float) -> Sample:
    rng = random.Random(20)
    rounds = max(1, round(5 * scale))
    unknown, learned = [], []
    with rival.open(WORKERS) as pool:
        pool.settle()
        pool.burst(timed_burn, [0.0] * 20)
        ours = getattr(pool, "pool", None)
        for _ in range(rounds):
            costs_ms = [SHORT_MS * TIMES_LONGER] * LONG + [SHORT_MS] * (TASKS - LONG)
            rng.shuffle(costs_ms)
            span, took = _run(lambda number, cost_ms: pool.submit(timed_burn, cost_ms), costs_ms)
            unknown.append(span / list_schedule(took, WORKERS))
            if hasattr(ours, "learned_costs"):

                def keyed(number: int, cost_ms: float, costs: object = tuple(costs_ms)) -> Any:
                    assert ours is not None
                    return ours.options(key=(costs, number)).submit(timed_burn, cost_ms)

                _run(keyed, costs_ms)
                span, took = _run(keyed, costs_ms)
                learned.append(span / max(sum(took) / WORKERS, *took))
    figures = {"unknown, of the best": median(unknown)}
    if learned:
        figures["learned, of the ideal"] = median(learned)
    return figures
