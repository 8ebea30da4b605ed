"""A worker is killed with SIGKILL: how much of the work is lost, and when the pool works again.

*Tasks lost*: one of 2 workers, in the middle of 40 tasks of 20 ms. At most the task in its hands
need be lost; one is when it ends with an error, or not within 3 s of the one before. *Next result*:
the only worker of a pool of 1, idle; from the kill to the result of a task that is offered again
and again for 3 s. A pool that gives none is not usable any more, and has no such figure.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import identity, nap_from
from workpool.measure.pools import Pool

RIVALS = ("workpool", "futures-fork", "multiprocessing", "loky")
FIGURES = {"tasks lost of 40": Figure("tasks"), "next result": Figure("ms")}
# Threads of one process; tasks that cannot be handed in, only called for; one end for all.
WITHOUT = ("threads", "serial", "joblib", "mpi4py", "piscina", "tinypool", "poolifier")
# Some of these pools never end: sample.py ends its process as it is.
LEAVES_RUINS = True

TASKS, NAP_SECONDS, PATIENCE_SECONDS = 40, 0.02, 3.0


def _within(seconds: float, action: Callable[[], object]) -> bool | None:
    """Is it done without an error; None: not in time. In a thread: of a broken pool it may never end."""
    done: list[bool] = []

    def act() -> None:
        try:
            action()
            done.append(True)
        except BaseException:
            done.append(False)

    acting = threading.Thread(target=act, daemon=True)
    acting.start()
    acting.join(seconds)
    return done[0] if done else None


def _lost(handles: list[Any]) -> int:
    lost, seconds = 0, PATIENCE_SECONDS
    for handle in handles:
        answered = _within(seconds, handle.result)
        lost += not answered
        if answered is None:
            seconds = 0.1  # what did not come by now is not waited for again and again
    return lost


def _next_result(pool: Pool, killed_at: float) -> float | None:
    end = killed_at + PATIENCE_SECONDS
    while time.perf_counter() < end:
        if _within(end - time.perf_counter(), lambda: pool.submit(identity, 1).result()):
            return time.perf_counter() - killed_at
        time.sleep(0.001)
    return None


def _tasks_lost(rival: Rival) -> int:
    pool = rival.open(2)
    pool.settle()
    victim = pool.pids()[0]
    handles = [pool.submit(nap_from, NAP_SECONDS) for _ in range(TASKS)]
    time.sleep(TASKS * NAP_SECONDS / 8)  # a quarter of the way
    os.kill(victim, signal.SIGKILL)
    lost = _lost(handles)
    _within(PATIENCE_SECONDS, pool.close)
    return lost


def sample(rival: Rival, scale: float) -> Sample:
    figures = {"tasks lost of 40": float(_tasks_lost(rival))}
    pool = rival.open(1)
    pool.settle()
    victim = pool.pids()[0]
    killed_at = time.perf_counter()
    os.kill(victim, signal.SIGKILL)
    taken = _next_result(pool, killed_at)
    if taken is not None:
        figures["next result"] = taken * 1e3
    _within(PATIENCE_SECONDS, pool.close)
    return figures
