"""How much sooner 2 workers than 1 end tasks of 1 ms of CPU: put in one worker's deque, or by the parent.

SPDX-License-Identifier: BSD-3-Clause
"""

import time
from collections.abc import Callable

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import burn, burn_nested, can_submit
from workpool.measure.pools import Pool

RIVALS = ("workpool", "futures-fork", "multiprocessing", "loky")
FIGURES = {
    "speed-up, from a worker": Figure("x", less_is_better=False),
    "speed-up, from the parent": Figure("x", less_is_better=False),
}

TASKS = 400


def _from_parent(pool: Pool, count: int) -> None:
    pool.burst(burn, [1.0] * count)


def _from_worker(pool: Pool, count: int) -> None:
    pool.submit(burn_nested, count).result()


def _speed_up(one: Pool, two: Pool, work: Callable[[Pool, int], None], count: int) -> float:
    seconds = []
    for pool in (one, two):
        work(pool, 10)  # imports what the tasks need
        start = time.perf_counter()
        work(pool, count)
        seconds.append(time.perf_counter() - start)
    return seconds[0] / seconds[1]


def sample(rival: Rival, scale: float) -> Sample:
    count = int(TASKS * scale)
    with rival.open(1) as one, rival.open(2) as two:
        one.settle()
        two.settle()
        figures = {"speed-up, from the parent": _speed_up(one, two, _from_parent, count)}
        if two.submit(can_submit, None).result():
            figures["speed-up, from a worker"] = _speed_up(one, two, _from_worker, count)
    return figures
