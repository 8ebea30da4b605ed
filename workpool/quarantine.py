"""Quarantine: a key whose tasks have killed two workers is not run again.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workpool.death import WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable

    from workpool._core import Seat
    from workpool.supervisor import Worker
    from workpool.task import Task

# One death may be an accident of the machine's; two of the same key are hardly.
DEATHS = 2

# Keys with one death that are remembered; beyond, the oldest are forgotten.
_MOST_KEYS = 1 << 12


class Quarantine:
    """Deaths of one pool's workers, by the key of the task they ran.

    Attributes:
        keys: Those in quarantine, and the death that brought each there.
    """

    def __init__(
        self,
        seat: Seat,
        pending: Callable[[], list[Task[Any]]],
        fail: Callable[[Task[Any], BaseException], object],
    ) -> None:
        self.keys: dict[Any, WorkerDied] = {}
        self._deaths: dict[Any, int] = {}
        self._seat = seat
        self._pending = pending
        self._fail = fail

    def count(self, worker: Worker, exitcode: int) -> None:
        """A worker has died, and is not recovered yet: count it against the keys that it ran.

        At the second death the task is not retried, and those that wait fail.
        """
        for task in self._seat.in_hands(worker.id):
            if task.key is None:
                continue
            try:
                deaths = self._deaths[task.key] = self._deaths.get(task.key, 0) + 1
            except TypeError:  # it cannot be hashed: such keys only name tasks
                continue
            if deaths >= DEATHS:
                self.keys[task.key] = WorkerDied(worker.id, worker.pid, exitcode)
                self._seat.give_up_retries(task)
                for other in self._pending():
                    if other.key == task.key:
                        self._fail(other, self.error(other))
            elif len(self._deaths) > _MOST_KEYS:
                del self._deaths[next(iter(self._deaths))]

    def has(self, key: Any) -> bool:
        """Whether the key is in quarantine."""
        try:
            return key in self.keys
        except TypeError:
            return False

    def error(self, task: Task[Any]) -> WorkerDied:
        """The outcome of a task whose key is in quarantine."""
        last = self.keys[task.key]
        return WorkerDied(last.worker_id, last.pid, last.exitcode, task.id, task.key, deaths=DEATHS)
