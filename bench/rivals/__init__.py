"""The pools that are compared, each behind the same few methods.

A rival is a row of RIVALS and an adapter module with `version() -> str` and
`open_pool(workers, **options) -> Pool`. Importing the adapter imports the rival, so an
ImportError there means that it is absent.

SPDX-License-Identifier: BSD-3-Clause
"""

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from bench import processes

Function = Callable[[Any], Any]


class Pool(ABC):
    """One open pool. `submit` is the rival's own bound method where it can be: what the
    adapter adds to a call is the same for all, about 0.1 us."""

    workers: int
    submit: Callable[[Function, Any], Any]  # returns something with .result()

    @abstractmethod
    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        """All results, in order, in the chunks that the rival recommends for many tiny items."""

    @abstractmethod
    def pids(self) -> list[int]:
        """The workers that are there now."""

    @abstractmethod
    def close(self) -> None: ...

    def burst(self, function: Function, items: Iterable[Any]) -> list[Any]:
        """Submit one by one, then gather."""
        submit = self.submit
        return [handle.result() for handle in [submit(function, item) for item in items]]

    def settle(self) -> None:
        """Return when all workers are there and idle, having run none of the user's code."""
        while True:
            # Naps and not mere calls: a pool may launch a worker only while all others are busy.
            self.burst(time.sleep, [0.02] * self.workers)
            if len(self.pids()) >= self.workers:
                break
        processes.wait_until_quiet()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Rival:
    name: str
    what: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)

    def adapter(self) -> Any:
        return importlib.import_module(f"bench.rivals.{self.module}")

    def open(self, workers: int) -> Pool:
        pool: Pool = self.adapter().open_pool(workers, **self.options)
        return pool


OURS = "workpool"

_ROWS = [
    Rival(OURS, "WorkerPool, start method exec", "workpool"),
    Rival("workpool-fork", "WorkerPool, start method fork", "workpool", {"start_method": "fork"}),
    Rival("workpool-spawn", "WorkerPool, start method spawn", "workpool", {"start_method": "spawn"}),
    Rival(
        "workpool-forkserver",
        "WorkerPool, start method forkserver",
        "workpool",
        {"start_method": "forkserver"},
    ),
    Rival("futures-fork", "ProcessPoolExecutor, fork", "concurrent_futures", {"start_method": "fork"}),
    Rival("futures-spawn", "ProcessPoolExecutor, spawn", "concurrent_futures", {"start_method": "spawn"}),
    Rival("multiprocessing", "multiprocessing.Pool, fork", "multiprocessing_pool"),
    Rival(
        "multiprocessing-chunk1",
        "the same; its burst is one map with chunks of 1",
        "multiprocessing_pool",
        {"burst_by_map": True},
    ),
    Rival("loky", "loky.ProcessPoolExecutor", "loky"),
    Rival("c", "the C programs of bench/c: what the machine allows", "c_programs"),
]
RIVALS = {rival.name: rival for rival in _ROWS}
