"""workpool itself.

SPDX-License-Identifier: BSD-3-Clause
"""

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.rivals import Function, Pool
from workpool import WorkerPool, __version__


class Adapter(Pool):
    def __init__(self, workers: int, options: dict[str, Any]) -> None:
        self.workers = workers
        self.pool: WorkerPool[Any, Any] = WorkerPool(max_workers=workers, **options)
        self.submit = self.pool.submit

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return list(self.pool.map(function, items))

    def pids(self) -> list[int]:
        return [worker.pid for worker in self.pool.workers]

    def close(self) -> None:
        self.pool.shutdown()


def open_pool(workers: int, **options: Any) -> Pool:
    # All workers at once, as the rivals do: the cases compare pools of equal size.
    return Adapter(workers, {"tasks_per_worker": 0, **options})


def version() -> str:
    # Where it is from: a checkout and an installed package are easily taken for one another.
    return f"{__version__}, {Path(inspect.getfile(WorkerPool)).parent}"
