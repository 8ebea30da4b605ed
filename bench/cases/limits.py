"""How late a running task is ended: cancelled with force, or its time up; and Ctrl-C with a full queue.

In Python code the task ends where it is. In C code that looks at no signal its worker is
replaced after the grace; that figure runs until the next task has run in the new one.

SPDX-License-Identifier: BSD-3-Clause
"""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from statistics import median
from typing import Any

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import count_to, identity, nap_from

RIVALS = ("workpool",)
FIGURES = {
    "cancelled, in Python": Figure("ms"),
    "timed out, in Python": Figure("ms"),
    "timed out in Python, worst": Figure("ms"),
    "timed out in C, beyond the grace": Figure("ms"),
    "Ctrl-C, 10,000 queued": Figure("ms"),
}

ENDLESS = 1 << 62
LIMIT_SECONDS, GRACE_SECONDS = 0.05, 1.0  # the grace is the default

PROGRAM = """
import time
from workpool import WorkerPool

with WorkerPool(max_workers=2) as pool:
    tasks = [pool.submit(time.sleep, 0.01) for _ in range(10_000)]
    tasks[1].result()
    print("queued", flush=True)
    for task in tasks:
        task.result()
"""


def _sum_in_c(items: int) -> int:
    return sum(range(items))


def _ended(task: Any, wanted: type[BaseException]) -> float:
    """When a task had ended so."""
    with contextlib.suppress(wanted):
        task.result()
        raise RuntimeError("the task was not ended")
    return time.monotonic()


def _cancelled(pool: Any) -> float:
    task = pool.submit(count_to, ENDLESS)
    while not task.running():
        time.sleep(0.001)
    time.sleep(0.01)
    begun = time.monotonic()
    task.cancel(force=True)
    return _ended(task, CancelledError) - begun


def _timed_out(pool: Any) -> float:
    task = pool.options(timeout=LIMIT_SECONDS).submit(count_to, ENDLESS)
    _ended(task, TimeoutError)
    return task.task_cost - LIMIT_SECONDS


def _replaced(pool: Any) -> float:
    begun = pool.submit(nap_from, 0.0).result()
    pool.options(timeout=LIMIT_SECONDS).submit(_sum_in_c, ENDLESS)
    pool.submit(identity, 1).result()
    return time.monotonic() - begun - LIMIT_SECONDS - GRACE_SECONDS


def _interrupted() -> float:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with program:
        assert program.stdout is not None
        program.stdout.readline()
        begun = time.monotonic()
        program.send_signal(signal.SIGINT)
        program.wait()
        return time.monotonic() - begun


def sample(rival: Rival, scale: float) -> Sample:
    def times(measure: Callable[[], float], count: int) -> list[float]:
        return [1e3 * measure() for _ in range(max(1, round(count * scale)))]

    with rival.open(1) as adapter:
        pool: Any = getattr(adapter, "pool")  # noqa: B009
        adapter.settle()
        cancelled = times(lambda: _cancelled(pool), 40)
        late = times(lambda: _timed_out(pool), 40)
        replaced = times(lambda: _replaced(pool), 3)
    return {
        "cancelled, in Python": median(cancelled),
        "timed out, in Python": median(late),
        "timed out in Python, worst": max(late),
        "timed out in C, beyond the grace": median(replaced),
        "Ctrl-C, 10,000 queued": median(times(_interrupted, 3)),
    }
