"""Events: what happens in a pool, told to whoever listens.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("workpool.events")

TASK_ADDED, TASK_COMPLETE = "task-added", "task-complete"
WORKER_LAUNCHED, WORKER_LOST = "worker-launched", "worker-lost"
_NAMES = (TASK_ADDED, TASK_COMPLETE, WORKER_LAUNCHED, WORKER_LOST)


class Events:
    """The listeners of one pool, by event, in the order in which they were added.

    Attributes:
        added, complete: Whether somebody listens to ``"task-added"``, ``"task-complete"``.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._listeners: dict[str, tuple[Callable[..., object], ...]] = dict.fromkeys(_NAMES, ())
        self._changing = threading.RLock()
        self.added = self.complete = False

    def on(self, event: str, listener: Callable[..., object]) -> None:
        """Call ``listener`` at each ``event`` from now on; adding it again changes nothing.

        Raises:
            ValueError: There is no such event.
        """
        self._check(event)
        if not callable(listener):
            raise TypeError(f"a listener must be callable, not {listener!r}")
        with self._changing:
            if listener not in self._listeners[event]:
                self._listeners[event] += (listener,)
            self._note()

    def remove(self, event: str, listener: Callable[..., object]) -> None:
        """Take on() back; nothing happens if there is no such listener."""
        self._check(event)
        with self._changing:
            self._listeners[event] = tuple(other for other in self._listeners[event] if other != listener)
            self._note()

    def _check(self, event: str) -> None:
        if event not in self._listeners:
            raise ValueError(f"no event {event!r}: there are {', '.join(map(repr, _NAMES))}")

    def _note(self) -> None:
        self.added = bool(self._listeners[TASK_ADDED])
        self.complete = bool(self._listeners[TASK_COMPLETE])

    def emit(self, event: str, *args: Any) -> None:
        """Call the listeners of ``event``; one that raises is logged."""
        for listener in self._listeners[event]:
            try:
                listener(*args)
            except KeyboardInterrupt:
                raise
            except BaseException:  # SystemExit too: it would end the pool's own thread
                _log.exception("%s: a listener of %r raised", self._name, event)
