"""Limits: how a running task is made to end, when it is cancelled or its time is up.

    flag        in the task's slot, by compare-and-swap: it reaches that use of it alone
    signal      the worker looks at the flags of its own tasks, and raises ``TaskInterrupt``
                in the one that is meant, or cancels its coroutine; sent again, less and
                less often, since code that cannot be interrupted there may have had it
    kill        after the grace, unless the worker has left the task: it cannot begin
                another between that look and its death

All of it runs in the supervisor's thread, which sleeps until the next of these is due.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import math
import signal
import threading
import time
from typing import TYPE_CHECKING

from workpool._core import CANCEL_ASKED, CANCEL_FORCE, CANCEL_TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workpool._core import Seat
    from workpool.supervisor import Worker

# Ignored by a process that has no handler for it: what a task has started, or become by
# exec, is not harmed.
SIGNAL = signal.SIGURG

_INTERRUPT = CANCEL_FORCE | CANCEL_TIME

# Between the first two signals. Two bytecodes of the runner's own cannot be interrupted.
_AGAIN_SECONDS = 0.005


class _Late:
    """What was done about one task.

    Attributes:
        flags: What was asked of it when it was last looked at.
        again, pause: When it is signalled next, and how long it is then left alone.
        ends: When its worker is killed.
        spared: That was put off once, for another task on top of the worker's stack.
    """

    __slots__ = ("again", "ends", "flags", "pause", "spared")

    def __init__(self) -> None:
        self.flags = 0
        self.again = 0.0
        self.pause = _AGAIN_SECONDS
        self.ends = 0.0
        self.spared = False


class Limits:
    """Ends one pool's tasks that are to end.

    Attributes:
        due: When look() is to be called next, of ``time.monotonic()``.
    """

    def __init__(self, seat: Seat, grace: float) -> None:
        self.due = math.inf
        self._seat = seat
        self._grace = grace
        self._graces: dict[int, float] = {}  # those that differ, by the task's handle
        self._late: dict[int, _Late] = {}
        self._noted = math.inf  # a time noted since the last look began
        self._lock = threading.RLock()  # guards it, and `due`; RLock as in task.py

    def ask(self, handle: int, grace: float | None) -> None:
        """Something was asked of a running task: look at once."""
        if grace is not None:
            self._graces[handle] = grace
        self.note(0.0)

    def note(self, limit: float) -> bool:
        """A task was offered that may run so many seconds. True: ``due`` is sooner now."""
        at = time.monotonic() + limit
        with self._lock:
            self._noted = min(self._noted, at)
            sooner = at < self.due
            if sooner:
                self.due = at
        return sooner

    def look(self, workers: Mapping[int, Worker], kill: Callable[[Worker], None]) -> None:
        """Signal or kill the workers of tasks that are to end, and say when it is due again."""
        with self._lock:
            self._noted = math.inf
        seat = self._seat
        found, due = seat.late()
        now = time.monotonic()
        next_look = math.inf if due is None else due
        late: dict[int, _Late] = {}
        for handle, worker_id, flags in found:
            worker = workers.get(worker_id)
            if worker is None or worker._killed:
                continue
            entry = late[handle] = self._late.get(handle) or _Late()
            interrupts = flags & _INTERRUPT
            if interrupts and not entry.flags & _INTERRUPT:
                entry.ends = now + self._graces.get(handle, self._grace)
                entry.again = now
                if not flags & CANCEL_FORCE:  # whoever cancels does it too
                    seat.cancel_descendants(handle, CANCEL_ASKED | CANCEL_FORCE)
                    next_look = now
            if interrupts and now >= entry.ends:
                if seat.runs_another(worker_id, handle) and not entry.spared:
                    entry.spared = True
                    entry.ends = now + self._graces.get(handle, self._grace)
                elif seat.condemn(handle):
                    kill(worker)
                    continue
            if now >= entry.again and (interrupts or not entry.flags):
                worker._signal(SIGNAL)
                entry.again = now + entry.pause
                entry.pause *= 2
            entry.flags = flags
            if interrupts:
                next_look = min(next_look, entry.again, entry.ends)
        self._late = late
        if self._graces:
            self._graces = {handle: grace for handle, grace in self._graces.items() if handle in late}
        with self._lock:
            self.due = min(next_look, self._noted)
