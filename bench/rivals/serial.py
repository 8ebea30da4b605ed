"""A loop in the parent: what there is without a pool.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
from collections.abc import Iterable
from typing import Any

from bench.rivals.concurrent_futures import version
from workpool.measure.pools import Function, Pool

__all__ = ["open_pool", "version"]


class Done:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def result(self, timeout: float | None = None) -> Any:
        return self.value


class Loop(Pool):
    in_processes = False

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.submit = lambda function, item: Done(function(item))

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return [function(item) for item in items]

    def burst(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return self.map(function, items)

    def pids(self) -> list[int]:
        return [os.getpid()]

    def close(self) -> None:
        pass


open_pool = Loop
