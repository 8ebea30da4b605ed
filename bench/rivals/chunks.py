"""For pools that have tasks and no map in chunks: chunks of their own, and their workers asked.

SPDX-License-Identifier: BSD-3-Clause
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from bench.tasks import apply_to_all, own_pid
from workpool.measure.pools import Function, Pool, usual_chunk


class ChunkedPool(Pool):
    # A cluster's processes talk to one another all the time.
    quiet_seconds = 3.0

    @abstractmethod
    def close(self) -> None: ...

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        items = list(items)
        chunk = usual_chunk(len(items), self.workers)
        chunks = [(function, items[start : start + chunk]) for start in range(0, len(items), chunk)]
        return [answer for answers in self.burst(apply_to_all, chunks) for answer in answers]

    def pids(self) -> list[int]:
        return sorted(set(self.burst(own_pid, [0.02] * 2 * self.workers)))

    def settle(self) -> None:
        try:
            super().settle()
        except TimeoutError:
            pass  # it is never quiet; what it does then is part of its figures
