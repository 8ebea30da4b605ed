"""Forced cancels and time limits in the middle of traffic: nobody else may feel them.

    python tests/stress/cancel_storm.py --tasks 100000 --cancels 1000

Most tasks are short. Some have no end and are cancelled with force once they run, or have
a time limit; some short ones are cancelled at any moment. Each outcome is checked.

SPDX-License-Identifier: BSD-3-Clause
"""

import argparse
import collections
import random
import sys
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import cancel_tasks as jobs
from helpers import wait_until

from workpool import Task, TaskTimeout, WorkerPool

_WINDOW = 2000


def storm(tasks: int, cancels: int, seed: int, stuck: int = 0, workers: int = 2) -> collections.Counter[str]:
    """Run it; returns counts of outcomes, with ``"wrong"`` among them if there was one.

    Args:
        tasks: How many tasks there are.
        cancels: How many of them are to be ended.
        seed: Of what is done when.
        stuck: How many of those stay in C code, so that their workers are replaced.
        workers: Of the pool.
    """
    rng = random.Random(seed)
    chosen = set(rng.sample(range(tasks), cancels))
    in_c_code = set(rng.sample(sorted(chosen), stuck))
    outcomes: collections.Counter[str] = collections.Counter()
    with WorkerPool(max_workers=workers, tasks_per_worker=0, grace=2.0) as pool:
        limited = pool.options(timeout=0.01)
        waiting: collections.deque[tuple[int, str, Task[Any]]] = collections.deque()

        def check(number: int, expected: str, task: Task[Any]) -> None:
            try:
                outcome = "result" if task.result(120) == number + 1 else "wrong"
            except CancelledError:
                outcome = "cancelled"
            except TaskTimeout:
                outcome = "timed out"
            except Exception as error:
                outcome = f"wrong: {error!r}"
            outcomes[outcome if outcome in expected else f"wrong: {outcome}, not {expected}"] += 1

        for number in range(tasks):
            if number in in_c_code:
                task = pool.submit(jobs.stuck_now)
                while not task.running():
                    time.sleep(0)
                assert task.cancel(force=True, grace=0.05)
                waiting.append((number, "cancelled", task))
            elif number in chosen and rng.random() < 0.3:
                waiting.append((number, "timed out", limited.submit(jobs.mixed, -1)))
            elif number in chosen and rng.random() < 0.5:
                task = pool.submit(jobs.mixed, -1)
                while not task.running():
                    time.sleep(0)
                if rng.random() < 0.5:
                    time.sleep(rng.random() * 1e-3)
                assert task.cancel(force=True)
                waiting.append((number, "cancelled", task))
            elif number in chosen:
                task = pool.submit(jobs.mixed, number)
                for _ in range(rng.randrange(200)):
                    pass
                promised = task.cancel(force=True)
                waiting.append((number, "cancelled" if promised else "result", task))
            else:
                waiting.append((number, "result", pool.submit(jobs.mixed, number)))
            if len(waiting) > _WINDOW:
                check(*waiting.popleft())
        while waiting:
            check(*waiting.popleft())
        # Those that were killed are replaced.
        wait_until(lambda: len(pool.run_on_workers(abs, -1)) == workers, timeout=30.0)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description="Forced cancels in the middle of traffic.")
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--cancels", type=int, default=1000)
    parser.add_argument("--stuck", type=int, default=0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    begun = time.monotonic()
    outcomes = storm(given.tasks, given.cancels, given.seed, given.stuck)
    print(dict(outcomes), f"{time.monotonic() - begun:.1f} s")
    sys.exit(any(outcome.startswith("wrong") for outcome in outcomes))


if __name__ == "__main__":
    main()
