"""multiprocessing.Pool.

SPDX-License-Identifier: BSD-3-Clause
"""

import multiprocessing
import platform
from collections.abc import Iterable
from typing import Any

from bench.rivals import Function, Pool


class _Result:
    """An AsyncResult under the name that futures have."""

    __slots__ = ("result",)

    def __init__(self, answer: Any) -> None:
        self.result = answer.get


class Adapter(Pool):
    def __init__(self, workers: int, burst_by_map: bool) -> None:
        self.workers = workers
        self.burst_by_map = burst_by_map
        # Named: the default depends on the version, and fork is the quicker.
        self.pool = multiprocessing.get_context("fork").Pool(workers)
        apply_async = self.pool.apply_async
        self.submit = lambda function, item: _Result(apply_async(function, (item,)))

    def burst(self, function: Function, items: Iterable[Any]) -> list[Any]:
        if self.burst_by_map:
            return self.pool.map(function, items, chunksize=1)
        return super().burst(function, items)

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return self.pool.map(function, items)

    def pids(self) -> list[int]:
        return [process.pid for process in self.pool._pool]  # type: ignore[attr-defined]

    def close(self) -> None:
        self.pool.close()
        self.pool.join()


def open_pool(workers: int, burst_by_map: bool = False) -> Pool:
    return Adapter(workers, burst_by_map)


def version() -> str:
    return f"CPython {platform.python_version()}"
