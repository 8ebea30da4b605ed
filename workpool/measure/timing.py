"""How a round trip and a burst are timed, in whatever pool.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workpool.measure.pools import Function, Pool

# Of idleness before a round trip that is not hot.
GAP_SECONDS = 0.002
# Hot trips for so long first: enough for the kernel to move parent and worker to two CPUs, if it will.
WARM_UP_SECONDS = 0.2


def trips(
    submit: Callable[..., Any], function: Function, count: int, gap: float, budget: float
) -> list[float]:
    """Time trips one by one, at least 20 and until ``count`` or the budget of seconds is reached.

    The clock's two readings, 0.1 µs, are in the figure.

    Returns:
        Microseconds, in the order taken.
    """
    clock = time.perf_counter_ns
    taken: list[float] = []
    end = time.perf_counter() + budget
    while len(taken) < count and (len(taken) < 20 or time.perf_counter() < end):
        if gap:
            time.sleep(gap)
        start = clock()
        submit(function, 1).result()
        taken.append((clock() - start) / 1000)
    return taken


def rates(run: Callable[[], list[Any]], expected: Iterable[Any], times: int, budget: float) -> list[float]:
    """Items a second of so many runs, fewer once the budget of seconds is used up."""
    answers = list(expected)
    found: list[float] = []
    end = time.perf_counter() + budget
    while not found or (len(found) < times and time.perf_counter() < end):
        start = time.perf_counter()
        results = run()
        found.append(len(answers) / (time.perf_counter() - start))
        if results != answers:
            raise AssertionError("wrong results")
    return found


def first_result(open_pool: Callable[[int], Pool], function: Function) -> float:
    """Milliseconds from making a pool of one worker to its first result."""
    start = time.perf_counter()
    pool = open_pool(1)
    pool.submit(function, 1).result()
    taken = time.perf_counter() - start
    pool.close()
    return taken * 1e3
