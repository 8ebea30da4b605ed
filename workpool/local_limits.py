"""How the parent's own tasks are made to end: when one is interrupted, and once more.

A thread sleeps until the first of them could be late; there is none before a task of the
parent's has a ``timeout``, or is cancelled with force as it runs. Nothing is killed.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Any

from workpool._core import CANCEL_FORCE, CANCEL_TIME
from workpool._interrupt import Interruptible
from workpool.once import start_first

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from workpool.messages import MainClient
    from workpool.task import Task

# A longer sleep is cut in two: locks do not wait for every number.
_LONGEST_SECONDS = 3600.0

# A thread that is just starting another is interrupted a little later.
_AGAIN_SECONDS = 0.002

_INTERRUPT = CANCEL_FORCE | CANCEL_TIME


class Call(Interruptible):
    """A task, and what it calls; without a function the entrypoint.

    Attributes:
        client: What the function finds by ``current_client()``.
        ends: When its time is up.
        once_more: When it is interrupted for the second time.
        again: When it is looked at next.
        coroutine: In its loop, once it is one.
        told: That was cancelled.
    """

    __slots__ = (
        "added", "again", "args", "client", "coroutine", "ends", "fn", "grace", "kwargs", "once_more",
        "task", "told",
    )  # fmt: skip

    def __init__(
        self, task: Task[Any], fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], client: MainClient,
        grace: float,
    ) -> None:  # fmt: skip
        self.task = task
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.client = client
        self.grace = grace
        self.added = time.monotonic()
        self.ends = self.again = self.once_more = math.inf
        self.coroutine: asyncio.Task[Any] | None = None
        self.told = False

    def begin_clock(self) -> float:
        """It begins now: when its time is up."""
        if self.task.limit:
            self.ends = time.monotonic() + self.task.limit
        return self.ends

    def stop(self) -> None:
        """Have it look at what is asked of it."""
        coroutine = self.coroutine
        if coroutine is not None:
            try:
                coroutine.get_loop().call_soon_threadsafe(self.tell)
            except RuntimeError:
                pass  # the loop is closed, and has cancelled it
        elif self.asked & _INTERRUPT and not self.interrupt():
            self.again = time.monotonic() + _AGAIN_SECONDS

    def tell(self) -> None:
        """Cancel the coroutine; in its loop's thread."""
        if self.coroutine is not None and not self.told:
            self.told = True
            self.coroutine.cancel()

    def force(self, flags: int) -> bool:
        """End it now, and see to it once more after half of the grace. False: it has ended."""
        if not self.ask(flags):
            return False
        self.again = self.once_more = time.monotonic() + self.grace / 2
        self.stop()
        return True

    def look(self, now: float) -> float:
        """Do what is due; when something is again."""
        if not self.asked & _INTERRUPT:
            if now < self.ends:
                return self.ends
            if not self.force(CANCEL_TIME):
                return math.inf
        elif now >= self.again:
            if now >= self.once_more:
                self.once_more = math.inf
                self.told = False
            self.again = self.once_more
            self.stop()
        return self.again


class LocalLimits:
    """Has ``look(now)`` called when it is due; that says when it is due again."""

    def __init__(self, look: Callable[[float], float], name: str) -> None:
        self._look = look
        self._name = name
        self._due = math.inf
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def note(self, at: float) -> None:
        """Something will be due then, of ``time.monotonic()``."""
        if at >= self._due:
            return
        with self._changed:
            self._due = min(at, self._due)
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                try:
                    start_first(self, thread)
                except RuntimeError:
                    return  # the interpreter ends
            self._changed.notify()

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (left := self._due - time.monotonic()) > 0.0:
                    self._changed.wait(min(left, _LONGEST_SECONDS))
                if self._closed:
                    return
                self._due = math.inf
            self.note(self._look(time.monotonic()))

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
