"""What the tests of placement run in workers.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pool_tasks as tasks
from helpers import wait_until

from workpool import current_client

if TYPE_CHECKING:  # workers import this module
    from collections.abc import Callable

    from pool_support import Gate

    from workpool import Task, WorkerPool

    Pool = WorkerPool[Any, Any]


def where(*_: object) -> Any:
    return current_client().worker_id


def where_and_pid(*_: object) -> tuple[Any, int]:
    return current_client().worker_id, os.getpid()


def begun(*_: object) -> tuple[Any, float]:
    return current_client().worker_id, time.monotonic()


def here(value: Any = None) -> tuple[int, int, Any]:
    return os.getpid(), threading.get_ident(), value


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def append(path: str, value: Any) -> None:
    with Path(path).open("a") as file:
        file.write(f"{value}\n")


def read(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def bound(
    pool: Pool, seat: int | str, strength: str | None, fn: Callable[..., Any] = where, *args: Any
) -> Task[Any]:
    return pool.options(worker_affinity=seat, affinity_strength=strength).submit(fn, *args)


def hold_seat(pool: Pool, seat: int, gate: Gate) -> Task[Any]:
    """Keep that worker busy until the gate opens; returns once it is."""
    before = gate.entered
    task = bound(pool, seat, "force", tasks.enter, gate.path, seat)
    wait_until(lambda: gate.entered > before, timeout=20.0)
    return task


def use(pool: Pool, seat: int, count: int = 50) -> None:
    """Run many tasks, each to its end, on a worker."""
    for _ in range(count):
        assert bound(pool, seat, "force").result(20) == seat
