"""Messages: workers report while they work, and are told when it is enough.

    python examples/messages.py

Each task throws points at a square and posts how many hit the quarter circle in it. The
pool adds up, and once pi is known to a thousandth it posts "stop" to all workers.

SPDX-License-Identifier: BSD-3-Clause
"""

import math

import numpy as np

import workpool
from workpool import Worker, WorkerClient, WorkerPool

POINTS = 100_000  # thrown between two messages
STANDARD_ERROR = 1e-3


@workpool.entrypoint
def worker_entrypoint(seed: int, client: WorkerClient) -> int:
    """Throw points until the pool says stop; return how many."""
    random = np.random.default_rng(seed)
    client.state.stop = False
    thrown = 0
    while not client.state.stop:
        points = random.random((POINTS, 2))
        client.post_message_to_pool("hits", int((np.square(points).sum(axis=1) < 1).sum()))
        thrown += POINTS
        client.poll_messages()  # else they wait for the end of the task
    return thrown


@worker_entrypoint.on_worker_start
def listen(client: WorkerClient) -> None:
    """Hear what the pool says, from before the first task on."""

    def stop(contents: None, client: WorkerClient) -> None:
        client.state.stop = True

    client.on_message("stop", stop)


def main() -> None:
    """Print pi, about."""
    hits = thrown = 0

    def count(contents: int, worker: Worker | None) -> None:
        nonlocal hits, thrown
        hits += contents
        thrown += POINTS
        p = hits / thrown
        if 4 * math.sqrt(p * (1 - p) / thrown) < STANDARD_ERROR:
            pool.post_message_to_workers("stop")

    with WorkerPool(worker_entrypoint) as pool:
        pool.on_message("hits", count)
        tasks = [pool.add_task(seed) for seed in range(2)]
        total = sum(task.result() for task in tasks)
    assert thrown == total, "every message has arrived"
    print(f"pi is {4 * hits / thrown:.3f}, after {thrown} points")


if __name__ == "__main__":
    main()
