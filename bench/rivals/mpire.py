"""mpire.WorkerPool, forked, kept alive over all calls.

SPDX-License-Identifier: BSD-3-Clause
"""

from collections.abc import Iterable
from importlib.metadata import version as version_of
from typing import Any

import mpire

from workpool.measure.pools import Function, Pool, Result


class Adapter(Pool):
    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.pool = mpire.WorkerPool(n_jobs=workers, start_method="fork", keep_alive=True)
        apply_async = self.pool.apply_async
        self.submit = lambda function, item: Result(apply_async(function, (item,)))

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return self.pool.map(function, items)  # type: ignore[no-any-return]

    def pids(self) -> list[int]:
        return [process.pid for process in self.pool._workers]

    def close(self) -> None:
        self.pool.stop_and_join()


open_pool = Adapter


def version() -> str:
    return version_of("mpire")
