"""Arrays of random sizes under random kills: no byte wrong, nothing left.

As a program it does as many as it is told: python tests/stress/test_array_churn.py 200000 [SEED]

SPDX-License-Identifier: BSD-3-Clause
"""

import gc
import os
import random
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import array_tasks as tasks
import numpy as np
import pytest
from helpers import wait_until

from workpool import WorkerDied, WorkerPool

Pool = WorkerPool[Any, Any]

# A block of 1 KiB for each function that was sent, by the parent or a worker.
FUNCTIONS = 16 * 1024

WINDOW = 40


def used(pool: Pool) -> int:
    pool._seat.trim_arena(0)
    return int(pool._seat.usage()[0][2])


def is_right(result: Any, size: int, seed: int) -> bool:
    return len(result) in (seed % 5000, seed % 9000) and bool((result == size + size).all())


def churn(payloads: int, seed: int, kill_every: float) -> tuple[int, int]:
    """Send so many payloads, and kill a worker so often.

    Returns:
        How many came back, and how many died with their worker.
    """
    choose = random.Random(seed)
    back = died = 0
    kept: deque[tuple[Any, int, int]] = deque(maxlen=50)
    with WorkerPool(max_workers=2, tasks_per_worker=0, memory=256 << 20) as pool:
        pool.run_on_workers(tasks.total, np.ones(3000))
        start = used(pool)
        window: deque[tuple[Any, int, int]] = deque()
        kill_at = time.monotonic() + kill_every
        for _ in range(payloads):
            size = int(2 ** choose.uniform(0, 15)) if choose.random() < 0.98 else choose.randrange(1 << 18)
            number = choose.randrange(1 << 30)
            argument = np.full(size, size, dtype=np.int64)
            window.append((pool.submit(tasks.churn, argument, number), size, number))
            while len(window) >= WINDOW or (window and window[0][0].done()):
                task, size, number = window.popleft()
                try:
                    result = task.result(50)
                except WorkerDied:
                    died += 1
                    continue
                back += 1
                assert is_right(result, size, number), f"seed {seed}: wrong at once"
                if choose.random() < 0.1:
                    kept.append((result, size, number))
            if time.monotonic() < kill_at:
                continue
            running = [worker for worker in pool.workers if worker.state == "running"]
            if running:
                kill_at = time.monotonic() + choose.uniform(0.2, 1.8) * kill_every
                assert all(is_right(*entry) for entry in kept), f"seed {seed}: wrong later"
                try:
                    os.kill(choose.choice(running).pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        for task, size, number in window:
            try:
                assert is_right(task.result(50), size, number), f"seed {seed}: wrong at the end"
                back += 1
            except WorkerDied:
                died += 1
        assert all(is_right(*entry) for entry in kept), f"seed {seed}: wrong at the very end"
        del task, window, argument
        result = None
        kept.clear()
        gc.collect()
        wait_until(pool._supervisor.is_ready)
        pool.run_on_workers(tasks.kept_clear)
        wait_until(lambda: used(pool) <= start + FUNCTIONS)
    return back, died


@pytest.mark.timeout(180)
def test_churn_of_arrays_under_kills() -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    back, died = churn(6000, seed, 0.3)
    assert back + died == 6000 and back > 4000


if __name__ == "__main__":
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    print("seed", seed, flush=True)
    begun = time.monotonic()
    print("back, died:", churn(int(sys.argv[1]), seed, 0.5), f"in {time.monotonic() - begun:.0f} s")
