"""Admission: no more than ``max_pending`` unfinished tasks.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workpool.errors import QueueFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Admission:
    """Who may offer a task now.

    Args:
        most: Tasks that may be unfinished.
        raises: Whether who comes when the pool is full is told so, and does not wait.
        unfinished: How many there are.
    """

    def __init__(self, most: int, raises: bool, unfinished: Callable[[], int]) -> None:
        self.most = most
        self._raises = raises
        self._unfinished = unfinished
        self._entering = 0  # admitted, and not yet counted as unfinished
        self._lock = threading.RLock()  # guards it; RLock as in task.py
        self._here = threading.local()

    def has_room(self) -> bool:
        """Whether one more task may be offered."""
        return self._unfinished() + self._entering < self.most

    def enter(self) -> bool:
        """Be admitted, until leave(); False: wait until has_room().

        Raises:
            QueueFull: There is no room, and the pool was told to raise then.
        """
        if getattr(self._here, "kept", False):
            self._here.kept = False
            return True
        with self._lock:
            if self.has_room():
                self._entering += 1
                return True
        if self._raises:
            raise QueueFull(f"{self.most} tasks are unfinished (max_pending)")
        return False

    @contextmanager
    def kept(self) -> Iterator[None]:
        """This thread was admitted before: its next enter(), inside, takes that place."""
        self._here.kept = True
        try:
            yield
        finally:
            if self._here.kept:  # it did not come so far
                self._here.kept = False
                self.leave()

    def leave(self) -> None:
        """The task is offered, and counts itself."""
        with self._lock:
            self._entering -= 1
