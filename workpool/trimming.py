"""Memory goes back to the system once the pool has had no use for it for a while.

Fresh shared memory costs several times as much to write as memory that was used before,
so what is free is kept while work goes on. One thread, started with the first payload in
the arena; it looks once a second while something was allocated since it last gave memory
back, and else sleeps without a time-out.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from workpool.errors import PoolClosed
from workpool.once import start_first

if TYPE_CHECKING:
    from workpool._core import Seat

_LOOK_SECONDS = 1.0

# So many looks without a task that came or ran are rest: then all free memory goes.
_LOOKS_AT_REST = 3

# While work goes on: what is more than twice the most that was in use in so many looks.
_LOOKS_AT_WORK = 10
_SLACK_BYTES = 64 << 20


class Trimmer:
    """Gives a pool's free memory back.

    Attributes:
        high_bytes: The most that was taken from the system at once, as far as it was seen.
    """

    def __init__(self, seat: Seat, name: str) -> None:
        self._seat = seat
        self._name = name
        self._stirred = threading.Event()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._opening = threading.RLock()
        self.high_bytes = 0
        seat.on_stir = self._stir

    def _stir(self) -> None:
        """Something was allocated, for the first time since the last trim."""
        with self._opening:
            if self._thread is None and not self._end.is_set():
                thread = threading.Thread(target=self._run, name=f"{self._name}-trimmer", daemon=True)
                try:
                    start_first(self, thread)
                except RuntimeError:
                    return  # the interpreter ends, and all memory with it
        self._stirred.set()

    def _run(self) -> None:
        seat = self._seat
        submitted, quiet = -1, 0
        peaks: list[int] = []
        try:
            while True:
                self._stirred.wait()
                if self._end.wait(_LOOK_SECONDS):
                    return
                committed, used = self.look()
                before, submitted = submitted, seat.statistics(0)[0]
                quiet = quiet + 1 if submitted == before and not seat.is_busy() else 0
                peaks = [*peaks[1 - _LOOKS_AT_WORK :], used]
                if quiet >= _LOOKS_AT_REST:
                    # Before the trim: what is allocated meanwhile stirs again.
                    self._stirred.clear()
                    seat.calm()
                    seat.trim_arena(0)
                    quiet, peaks = 0, []
                elif len(peaks) == _LOOKS_AT_WORK and committed > 2 * max(peaks) + _SLACK_BYTES:
                    seat.trim_arena(max(peaks))
        except PoolClosed:
            return

    def look(self) -> tuple[int, int]:
        """Bytes taken from the system, and in use; notes the most."""
        _, committed, used, _ = self._seat.usage()[0]
        self.high_bytes = max(self.high_bytes, committed)
        return committed, used

    def close(self) -> None:
        """End the thread."""
        with self._opening:
            self._end.set()
        self._stirred.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
