"""Bound: what a worker process may do before another takes its seat.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from workpool._core import Seat

_RUN = 2  # in the order of _core.STATISTICS


class Bound:
    """How many tasks this process may run, and how large it may grow.

    Attributes:
        is_set: Whether there is any bound.
    """

    def __init__(self, seat: Seat, tasks: int | None, memory: int | None) -> None:
        self.is_set = tasks is not None or memory is not None
        self._seat = seat
        self._tasks = tasks
        self._memory = memory
        self._before = seat.statistics(seat.index)[_RUN]  # by former processes of the seat
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC) if memory is not None else -1

    def is_spent(self) -> bool:
        """Whether it shall be replaced now: never while tasks of its own are unfinished."""
        if self._seat.outstanding:
            return False
        if (
            self._tasks is not None
            and self._seat.statistics(self._seat.index)[_RUN] - self._before >= self._tasks
        ):
            return True
        return self._memory is not None and self._own_bytes() > self._memory

    def _own_bytes(self) -> int:
        """Memory that is this process's alone: what it shares, the pool's arena above all, is no leak."""
        _, resident, shared, *_ = os.pread(self._statm, 256, 0).split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
