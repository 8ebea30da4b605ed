"""concurrent.futures.ProcessPoolExecutor.

SPDX-License-Identifier: BSD-3-Clause
"""

import multiprocessing
import platform
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from bench.rivals import Function, Pool


class Adapter(Pool):
    def __init__(self, workers: int, executor: Any) -> None:
        self.workers = workers
        self.executor = executor
        self.submit = executor.submit

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        items = list(items)
        # The default of 1 would take minutes; this is multiprocessing.Pool's default.
        chunk = -(-len(items) // (4 * self.workers))
        return list(self.executor.map(function, items, chunksize=max(chunk, 1)))

    def pids(self) -> list[int]:
        return list(self.executor._processes or ())

    def close(self) -> None:
        self.executor.shutdown()


def open_pool(workers: int, start_method: str) -> Pool:
    context = multiprocessing.get_context(start_method)
    return Adapter(workers, ProcessPoolExecutor(workers, mp_context=context))


def version() -> str:
    return f"CPython {platform.python_version()}"
