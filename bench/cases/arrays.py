"""Arrays: 8 KB, 1 MB and 64 MB in and a number or another array out, 64 MB shared; 1 worker. Blocks on 2.

Each trip is timed by itself, hot, beside a copy of the same size into memory that was touched
before; with 64 MB in turns, for the speed of memory drifts. *In and out* is a new array of the
same size as the result, which its task computes: what that takes is in the figure, of every
pool alike. *Beyond the task* is the trip without what the task itself took: an array of 64 MB
that its worker made with `client.empty` and did not touch, and one of the pool's that it wrote
in place, hot, in a pool that sleeps as usual and in one that spins. *Blocks* is `map_blocks` of a
kernel of about 1 us a row over 1,000,000 rows, with nothing tuned, beside the same kernel here
in blocks of 1,000.

SPDX-License-Identifier: BSD-3-Clause
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import added_array, made_array, row_kernel, seen_array, write_array

RIVALS = ("workpool", "futures-fork", "multiprocessing")
WORKERS = 1
# A task of milliseconds ends beside a parent that sleeps: its waking is most of that figure, with
# an array or without. So once more with sides that look for so long.
SPIN = 0.05
SHARED = "64 MB shared, beyond the task"
SHARED_AWAKE = f"{SHARED}, spin={SPIN}"
FIGURES = {
    "8 KB in": Figure("us"),
    "8 KB copied": Figure("us"),
    "1 MB in": Figure("us"),
    "1 MB copied": Figure("us"),
    "64 MB in": Figure("ms"),
    "64 MB copied": Figure("ms"),
    **{
        f"{size} in and out": Figure(unit) for size, unit in (("8 KB", "us"), ("1 MB", "us"), ("64 MB", "ms"))
    },
    "64 MB made there, beyond the task": Figure("us"),
    SHARED: Figure("us"),
    SHARED_AWAKE: Figure("us"),
    "blocks, 2 workers": Figure("x", less_is_better=False),
}

ROWS = 1_000_000


# What the trips of one size may take: of a slow pool fewer are taken.
TRIPS_SECONDS = 4.0


def _trips(*calls: Callable[[], object], count: int, seconds: float = TRIPS_SECONDS) -> list[float]:
    """Median seconds of each call, of five at least; taken in turns."""
    taken: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds * len(calls)
    while len(taken[0]) < count and (len(taken[0]) < 5 or time.perf_counter() < end):
        for call, times in zip(calls, taken, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return [median(times) for times in taken]


def _beyond(submit: Callable[[], Any], count: int) -> float:
    """Median seconds of a trip without the task's own, after ten that bring the array into reach."""
    taken = []
    for _ in range(10 + count):
        start = time.perf_counter()
        task = submit()
        task.result()
        taken.append(time.perf_counter() - start - task.task_cost)
    return median(taken[10:])


def sample(rival: Rival, scale: float) -> Sample:
    with rival.open(1) as adapter:
        adapter.settle()
        submit = adapter.submit
        few = max(5, int(20 * scale))
        figures: Sample = {}
        large = np.ones(1 << 23)
        for size, array, unit, count in (
            ("8 KB", np.ones(1 << 10), 1e6, int(5000 * scale)),
            ("1 MB", np.ones(1 << 17), 1e6, 20 * few),
            ("64 MB", large, 1e3, few),
        ):

            def there(array: Any = array) -> Any:
                return submit(seen_array, array).result()

            def there_and_back(array: Any = array) -> Any:
                return submit(added_array, array).result()

            def copy(array: Any = array, target: Any = array.copy()) -> None:  # noqa: B008
                np.copyto(target, array)

            both = ((there, copy),) if size == "64 MB" else ((there,), (copy,))  # else they evict each other
            figure_of = {there: f"{size} in", copy: f"{size} copied", there_and_back: f"{size} in and out"}
            for calls in (*both, (there_and_back,)):
                # NumPy is imported there, and parent and worker have found their CPUs.
                _trips(calls[0], count=200 if size == "8 KB" else 1, seconds=1.0)
                medians = _trips(*calls, count=count, seconds=TRIPS_SECONDS * scale)
                figures.update(
                    {figure_of[call]: unit * took for call, took in zip(calls, medians, strict=True)}
                )
        if rival.name == "workpool":
            pool: Any = adapter.pool  # type: ignore[attr-defined]
            made = lambda: submit(made_array, 1 << 23)  # noqa: E731
            figures["64 MB made there, beyond the task"] = 1e6 * _beyond(made, few)
            shared = pool.array(large)
            figures[SHARED] = 1e6 * _beyond(lambda: submit(write_array, shared), few)
    if rival.name == "workpool":
        with rival.adapter().open_pool(1, spin=SPIN) as adapter:
            adapter.settle()
            shared, submit = adapter.pool.array(large), adapter.submit
            figures[SHARED_AWAKE] = 1e6 * _beyond(lambda: submit(write_array, shared), few)
        with rival.open(2) as adapter:
            adapter.settle()
            figures["blocks, 2 workers"] = _blocks(adapter.pool, int(ROWS * scale))  # type: ignore[attr-defined]
    return figures


def _blocks(pool: Any, rows: int) -> float:
    source, out, here = pool.array(np.arange(float(rows))), pool.empty(rows), np.empty(rows)

    def serial() -> None:
        for row in range(0, rows, 1000):
            here[row : row + 1000] = row_kernel(source[row : row + 1000])

    pool.map_blocks(row_kernel, source, out=out)
    pair = [_trips(serial, lambda: pool.map_blocks(row_kernel, source, out=out), count=1) for _ in "123"]
    assert (here == out).all()
    return median(alone / together for alone, together in pair)
