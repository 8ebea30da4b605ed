"""dask: a pool in each ``distributed.Worker``, for tasks annotated with ``executor="workpool"``.

    dask worker tcp://scheduler:8786 --nworkers 1 --nthreads 8 --preload workpool.integrations.dask

On one machine nothing of this is needed: ``dask.compute(..., scheduler=pool)`` takes a pool as
it is.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from workpool.pool import WorkerPool

if TYPE_CHECKING:
    from distributed import Worker

EXECUTOR = "workpool"


def dask_setup(worker: Worker) -> None:
    """Called by dask as its worker starts: give it a pool, as large as the tasks it runs at once."""
    worker.executors[EXECUTOR] = WorkerPool(
        max_workers=worker.state.nthreads,
        tasks_per_worker=1,  # no more than nthreads tasks ever come at once
        name=f"workpool-{worker.name}",
    )


async def dask_teardown(worker: Worker) -> None:
    """Called as it ends: what runs is interrupted, since nobody will hear of it. Dask runs it elsewhere."""
    pool = worker.executors.pop(EXECUTOR, None)
    if pool is not None:
        # In a thread: the interrupted tasks may take a moment, and the loop has others to serve.
        await asyncio.to_thread(pool._leave, KeyboardInterrupt)
