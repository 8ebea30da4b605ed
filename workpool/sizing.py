"""How many workers a pool has: the rule of ``tasks_per_worker``, and what the user asks for.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workpool.runtime import Runtime

_NEVER = 1 << 62


class Sizing:
    """Launches one pool's workers as work comes.

    Attributes:
        grow_at: With more tasks than that in slots, ``grow()`` is due: it may launch.
    """

    def __init__(self, runtime: Runtime, most: int, tasks_per_worker: float) -> None:
        self._runtime = runtime
        self._most = most
        self._tasks_per_worker = tasks_per_worker
        self.grow_at = 0 if tasks_per_worker else -1

    def grow(self, pending: int = 0) -> None:
        """Launch what the rule asks for, with ``pending`` items to come."""
        if self._tasks_per_worker == 0 or self._runtime.launches_at_once:
            wanted = self._most
        else:
            pending = max(pending, self._runtime.gatherer.queued)
            wanted = max(1, min(self._most, int(-(-pending // self._tasks_per_worker))))
        self._runtime.supervisor.want(wanted)
        self._note()

    def grow_for(self, items: int) -> None:
        """Work of so many items begins."""
        if self.grow_at != _NEVER:
            self.grow(items)

    def feed(self) -> None:
        """A worker has many tasks of its own: launch by all tasks there are."""
        if self.grow_at != _NEVER:
            _, _, ready, claimed, running, _ = self._runtime.seat.phases()
            self.grow(ready + claimed + running)

    def resize_up_to(self, n: int) -> None:
        """See ``WorkerPool``."""
        self._check(n, 1)
        self._runtime.supervisor.want(n, at_once=True)
        self._note()

    def resize_down_to(self, n: int) -> None:
        """See ``WorkerPool``."""
        self._check(n, 0)
        self._runtime.retire(n)
        self._note()
        if n == 0 and self._runtime.gatherer.queued:
            self.grow()

    def end(self) -> None:
        """Launch no more."""
        self.grow_at = _NEVER

    def _check(self, n: int, least: int) -> None:
        if not isinstance(n, int):
            raise TypeError(f"a number of workers must be a whole number, not {n!r}")
        if n < least or n > self._most:
            raise ValueError(f"{n} workers: this pool has from {least} to {self._most} (max_workers)")

    def _note(self) -> None:
        wanted = self._runtime.supervisor.wanted
        if wanted >= self._most or (self._tasks_per_worker == 0 and wanted > 0):
            self.grow_at = _NEVER
        else:
            self.grow_at = int(wanted * self._tasks_per_worker)
