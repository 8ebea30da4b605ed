"""workpool: a process pool for tasks of microseconds.

Names are imported when first used, so that a worker, which needs few of them, starts fast.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
__version__ = "0.1.0"

_HOMES = {
    "WorkerPool": "pool",
    "Worker": "supervisor",
    "Task": "task",
    "WorkerClient": "client",
    "current_client": "client",
    "entrypoint": "entrypoints",
    "PoolStatistics": "statistics",
    "usable_cpus": "cpus",
    "as_completed": "completed",
    "get_pool": "program",
    "map": "program",
    "ArenaFull": "errors",
    "EntrypointError": "errors",
    "ForkedPool": "errors",
    "PoolClosed": "errors",
    "QueueFull": "errors",
    "RemoteError": "errors",
    "TaskInterrupt": "errors",
    "TaskTimeout": "errors",
    "WorkerDied": "errors",
    "WorkpoolError": "errors",
}

# Without map: `from workpool import *` leaves the builtin alone.
__all__ = ["__version__", *sorted(_HOMES.keys() - {"map"})]

if TYPE_CHECKING:
    from typing import Any

    from workpool.client import WorkerClient as WorkerClient
    from workpool.client import current_client as current_client
    from workpool.completed import as_completed as as_completed
    from workpool.cpus import usable_cpus as usable_cpus
    from workpool.entrypoints import entrypoint as entrypoint
    from workpool.errors import ArenaFull as ArenaFull
    from workpool.errors import EntrypointError as EntrypointError
    from workpool.errors import ForkedPool as ForkedPool
    from workpool.errors import PoolClosed as PoolClosed
    from workpool.errors import QueueFull as QueueFull
    from workpool.errors import RemoteError as RemoteError
    from workpool.errors import TaskInterrupt as TaskInterrupt
    from workpool.errors import TaskTimeout as TaskTimeout
    from workpool.errors import WorkerDied as WorkerDied
    from workpool.errors import WorkpoolError as WorkpoolError
    from workpool.pool import WorkerPool as WorkerPool
    from workpool.program import get_pool as get_pool
    from workpool.program import map as map  # noqa: A004
    from workpool.statistics import PoolStatistics as PoolStatistics
    from workpool.supervisor import Worker as Worker
    from workpool.task import Task as Task


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'workpool' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"workpool.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
