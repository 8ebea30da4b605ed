"""pebble.ProcessPool, forked.

SPDX-License-Identifier: BSD-3-Clause
"""

import multiprocessing
from collections.abc import Iterable
from importlib.metadata import version as version_of
from typing import Any

from pebble import ProcessPool

from workpool.measure.pools import Function, Pool, usual_chunk


class Adapter(Pool):
    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.pool = ProcessPool(max_workers=workers, context=multiprocessing.get_context("fork"))
        self.submit = lambda function, item: self.pool.schedule(function, (item,))

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        items = list(items)
        chunk = usual_chunk(len(items), self.workers)
        return list(self.pool.map(function, items, chunksize=chunk).result())

    def pids(self) -> list[int]:
        return list(self.pool._pool_manager.worker_manager.workers)

    def close(self) -> None:
        self.pool.close()
        self.pool.join()


open_pool = Adapter


def version() -> str:
    return version_of("pebble")
