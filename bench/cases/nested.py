"""Fork and join: fib(20) down to its leaves, each call a task that waits for two others; 2 workers.

Only pools in which a task may wait for others without holding its worker can do this.

SPDX-License-Identifier: BSD-3-Clause
"""

import time
from statistics import median

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import can_submit, fib_nested

RIVALS = ("workpool",)
FIGURES = {
    "tasks": Figure("1/s", less_is_better=False),
    "tasks, 1 worker": Figure("1/s", less_is_better=False),
}

N, FIBONACCI = 20, 6765
TASKS = 2 * 10_946 - 1  # the calls of fib(20): 2 fib(21) - 1


def _rate(rival: Rival, workers: int, rounds: int) -> float | None:
    rates = []
    with rival.open(workers) as pool:
        pool.settle()
        if not pool.submit(can_submit, None).result():
            return None
        pool.submit(fib_nested, 12).result()
        for _ in range(rounds):
            start = time.perf_counter()
            result = pool.submit(fib_nested, N).result()
            rates.append(TASKS / (time.perf_counter() - start))
            if result != FIBONACCI:
                raise AssertionError("wrong result")
    return median(rates)


def sample(rival: Rival, scale: float) -> Sample:
    rounds = max(1, round(7 * scale))
    rates = {"tasks": _rate(rival, 2, rounds), "tasks, 1 worker": _rate(rival, 1, rounds)}
    return {name: rate for name, rate in rates.items() if rate is not None}
