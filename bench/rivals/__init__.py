"""The pools that are compared, each behind the same few methods.

A rival is a row of RIVALS and an adapter module with `version() -> str` and
`open_pool(workers, **options) -> workpool.measure.pools.Pool`; or, when it is no pool of
Python, `sample(case, scale, **options)`, which measures it. Importing the adapter imports the
rival, so an ImportError there means that it is absent.

SPDX-License-Identifier: BSD-3-Clause
"""

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workpool.measure.pools import Pool

# What a rival is: only process pools are ranked.
PROCESSES, THREADS, SERIAL, NODE, FLOOR = "processes", "threads", "serial", "node", "floor"


@dataclass(frozen=True)
class Rival:
    name: str
    what: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    kind: str = PROCESSES
    by_mpi: bool = False  # mpiexec starts its workers, before the sample begins

    def adapter(self) -> Any:
        return importlib.import_module(f"bench.rivals.{self.module}")

    def open(self, workers: int) -> "Pool":
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
    Rival("joblib", "joblib.Parallel in its loky backend, kept open; a call a task", "joblib"),
    Rival("mpire", "mpire.WorkerPool, fork, kept alive", "mpire"),
    Rival("pebble", "pebble.ProcessPool, fork", "pebble"),
    Rival("ray", "ray tasks, a local cluster", "ray"),
    Rival("dask", "dask.distributed tasks, a local cluster of processes", "dask"),
    Rival("mpi4py", "mpi4py.futures.MPIPoolExecutor, started by mpiexec", "mpi4py", by_mpi=True),
    Rival("threads", "ThreadPoolExecutor", "threads", kind=THREADS),
    Rival("serial", "a loop in the parent: no pool", "serial", kind=SERIAL),
    Rival("piscina", "npm piscina, worker threads of Node", "node", {"pool": "piscina"}, NODE),
    Rival("tinypool", "npm tinypool, worker threads of Node", "node", {"pool": "tinypool"}, NODE),
    Rival("poolifier", "npm poolifier, worker threads of Node", "node", {"pool": "poolifier"}, NODE),
    Rival("c", "the C programs of bench/c: what the machine allows", "c_programs", kind=FLOOR),
]
RIVALS = {rival.name: rival for rival in _ROWS}

# Who is on the comparison page. Of workpool's start methods the page has `fork` where the start
# method is what is measured.
COMPARED = (
    OURS,
    "futures-fork",
    "futures-spawn",
    "multiprocessing",
    "loky",
    "joblib",
    "mpire",
    "pebble",
    "ray",
    "dask",
    "mpi4py",
    "threads",
    "serial",
    "piscina",
    "tinypool",
    "poolifier",
)
