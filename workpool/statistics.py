"""``PoolStatistics``: a snapshot of a pool, for looking at.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workpool import _core

if TYPE_CHECKING:
    from workpool.gather import Gatherer
    from workpool.supervisor import Supervisor
    from workpool.trimming import Trimmer


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """One worker's part of a ``PoolStatistics``.

    Counters belong to the seat: a replacement goes on counting.
    """

    id: int
    pid: int
    state: str
    tasks_run: int
    busy_seconds: float
    steals: int  # tasks taken from another worker
    steals_lost: int  # steals that another process won
    parks: int  # times it went to sleep
    arena_bytes: int  # in payloads and arrays that it allocated
    leases: int  # blocks of others that it looks at


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A snapshot for debugging; fields may be a few microseconds apart."""

    tasks_submitted: int
    tasks_done: int  # settled: their slots are free again
    tasks_backlog: int  # waiting in the parent for a slot
    tasks_queued: int  # READY, in any deque or task set
    tasks_running: int  # claimed or running
    slots_free: int
    wakes: int  # system calls the parent made to wake a worker
    segment_bytes: int  # of the control segment
    arena_budget_bytes: int
    arena_bytes: int  # in use: payloads on their way, arrays that somebody looks at
    arena_committed_bytes: int  # taken from the system; what is free of it goes back at rest
    arena_high_bytes: int  # the most that was taken at once, as far as it was seen
    leases: int  # results that this process looks at
    workers: tuple[WorkerStatistics, ...]


def snapshot(
    gatherer: Gatherer, supervisor: Supervisor, trimmer: Trimmer, segment_bytes: int, arena_bytes: int
) -> PoolStatistics:
    """Take a snapshot."""
    seat = gatherer.seat
    trimmer.look()
    (_, committed, used, _), seats = seat.usage()
    free, _, ready, claimed, running, _ = seat.phases()

    def counters(index: int) -> dict[str, int]:
        return dict(zip(_core.STATISTICS, seat.statistics(index), strict=True))

    parent = counters(0)
    workers = []
    for worker in supervisor.workers:
        its = counters(worker.id)
        workers.append(
            WorkerStatistics(
                id=worker.id,
                pid=worker.pid,
                state=worker.state,
                tasks_run=its["run"],
                busy_seconds=its["run_ns"] / 1e9,
                steals=its["steals"],
                steals_lost=its["steals_lost"],
                parks=its["parks"],
                arena_bytes=seats[worker.id][0],
                leases=seats[worker.id][2],
            )
        )
    backlog = gatherer.unfinished - seat.outstanding
    return PoolStatistics(
        tasks_submitted=parent["submitted"], tasks_done=parent["released"], tasks_backlog=backlog,
        tasks_queued=ready, tasks_running=claimed + running, slots_free=free, wakes=parent["wakes"],
        segment_bytes=segment_bytes, arena_budget_bytes=arena_bytes, arena_bytes=used,
        arena_committed_bytes=committed, arena_high_bytes=max(trimmer.high_bytes, committed),
        leases=seats[0][2], workers=tuple(workers),
    )  # fmt: skip
