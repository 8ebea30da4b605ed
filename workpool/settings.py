"""The options of a pool: checked once, and filled in from the environment.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, TypeVar

from workpool import _core, environment
from workpool.cpus import usable_cpus

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

    from workpool.supervisor import Worker
    from workpool.task import Task

C = TypeVar("C")
N = TypeVar("N", bound=float)

# Twice what waking a sleeper takes where its CPU sleeps too: a miss costs no more than a wake would
# have, and a hit saves it (Karlin et al., competitive spinning, 1990). Below that, two sides that
# were asleep stay so for each other's waking.
_SPIN_SECONDS = 120e-6

# Long enough for clean-up that writes a file, short enough for somebody who waits.
_GRACE_SECONDS = 1.0

_MOST_MEMORY = 1 << 47  # what a process can address

_START_METHODS = ("exec", "spawn", "forkserver", "fork")

_pool_numbers = itertools.count(1)


class Settings:
    """What ``WorkerPool`` was told, or uses where it was told nothing; the names are its own.

    Raises:
        ValueError, TypeError: One of them is out of its range, or of another type.
    """

    def __init__(
        self, *, max_workers: int | None, tasks_per_worker: float, worker_concurrency: int,
        start_method: str | None, mp_context: BaseContext | None, initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...], memory: int | None, spin: float | None, inner_threads: int | None,
        grace: float | None, max_pending: int | None, when_full: str, max_tasks_per_child: int | None,
        max_memory_per_child: int | None, name: str | None,
        inherent_cost: Callable[[Task[Any]], float] | None,
        worker_cost: Callable[[Task[Any], Worker], float] | None,
    ) -> None:  # fmt: skip
        self.max_workers = _worker_count(max_workers)
        self.tasks_per_worker = _at_least("tasks_per_worker", tasks_per_worker, 0)
        self.worker_concurrency = _at_least("worker_concurrency", worker_concurrency, 1)
        self.start_method, self.mp_context = _start_method(start_method, mp_context)
        self.initializer = _callable("initializer", initializer)
        self.initargs = initargs
        self.memory = _bound("memory", environment.size("WORKPOOL_MEMORY") if memory is None else memory)
        if spin is None:
            spin = environment.seconds("WORKPOOL_SPIN")
        self.spin = _SPIN_SECONDS if spin is None else _at_least("spin", spin, 0)
        if grace is None:
            grace = environment.seconds("WORKPOOL_GRACE")
        self.grace = _GRACE_SECONDS if grace is None else _at_least("grace", grace, 0)
        self.inner_threads = _bound("inner_threads", inner_threads)
        self.max_pending = _bound("max_pending", max_pending)
        if when_full not in ("block", "raise"):
            raise ValueError(f"when_full must be 'block' or 'raise', not {when_full!r}")
        self.when_full = when_full
        self.max_tasks_per_child = _bound("max_tasks_per_child", max_tasks_per_child)
        self.max_memory_per_child = _bound("max_memory_per_child", max_memory_per_child)
        self.inherent_cost = _callable("inherent_cost", inherent_cost)
        self.worker_cost = _callable("worker_cost", worker_cost)
        if self.memory is not None and self.memory > _MOST_MEMORY:
            raise ValueError(f"memory must be at most {_MOST_MEMORY}, not {self.memory}")
        self.name = _name(name) or f"workpool-{next(_pool_numbers)}"


def _worker_count(max_workers: int | None) -> int:
    if max_workers is None:
        return min(usable_cpus(), _core.MAX_SEATS - 1)
    if max_workers <= 0:
        raise ValueError("max_workers must be greater than 0")
    if max_workers >= _core.MAX_SEATS:
        raise ValueError(f"max_workers must be at most {_core.MAX_SEATS - 1}")
    return max_workers


def _start_method(method: str | None, context: BaseContext | None) -> tuple[str | None, BaseContext | None]:
    if method is not None and context is not None:
        raise ValueError("give start_method or mp_context, not both")
    if method is None and context is None:
        method = environment.choice("WORKPOOL_START_METHOD", _START_METHODS)
    if method not in (None, *_START_METHODS):
        raise ValueError(f"start_method must be 'exec', 'spawn', 'forkserver' or 'fork', not {method!r}")
    if context is not None and not hasattr(context, "get_start_method"):
        raise TypeError(f"mp_context must be a multiprocessing context, not {type(context).__name__}")
    return method, context


def _callable(name: str, value: C) -> C:
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a callable, not {value!r}")
    return value


def _name(name: str | None) -> str | None:
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a string, not {type(name).__name__}")
    if name is not None and not name.isprintable():  # it becomes processes' title
        raise ValueError(f"name must be printable, not {name!r}")
    return name


def _at_least(name: str, value: N, least: int) -> N:
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not value >= least:  # NaN too
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return value


def _bound(name: str, value: int | None) -> int | None:
    return None if value is None else _at_least(name, value, 1)
