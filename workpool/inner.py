"""A ``WorkerPool`` that is made inside a worker: it stands for the pool that the worker is of.

Code that makes a pool of its own, as libraries do, would else start n workers in each of n
workers. Its tasks are tasks of the task that submits them.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import weakref
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from workpool.client import current_client
from workpool.entrypoints import find
from workpool.errors import EntrypointError, PoolClosed
from workpool.loading import load
from workpool.options import PLAIN
from workpool.pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workpool.options import Options
    from workpool.task import Task


class InnerPool(WorkerPool[Any, Any]):
    """See the module. What concerns workers, as hooks, sizes and events, is the outer pool's business."""

    _is_plain = False  # tasks go to the worker's own submitter
    _last = (None, None)

    def __init__(
        self, entrypoint: Any = None, max_workers: int | None = None, *,
        entrypoint_name: str = "worker_entrypoint", name: str | None = None, **_: Any,
    ) -> None:  # fmt: skip
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._client = current_client()
        workers: int = self._client._runner.workers
        self._max_workers = min(max_workers or workers, workers)
        self._loaded = None if entrypoint is None else load(find(entrypoint, entrypoint_name))
        self._tasks: weakref.WeakSet[Task[Any]] = weakref.WeakSet()
        self._closed = False
        self.name = name or f"in worker {self._client.worker_id}"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{name}: a WorkerPool made inside a worker stands for the pool it runs in, and submits only"
        )

    def _add_task(self, arg: Any, options: Options | None) -> Task[Any]:
        loaded = self._loaded
        if loaded is None or loaded.function is None:
            raise EntrypointError(
                "this pool has no entrypoint: use submit() or map(), or give WorkerPool one"
            )
        call = _with_client if loaded.takes_client else _call
        return self._submit(call, (loaded.function, arg), {}, options)

    def _submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options | None
    ) -> Task[Any]:
        if self._closed:
            raise PoolClosed("cannot schedule new futures after shutdown")
        task = self._client._submit_through().submit(fn, args, kwargs, options or PLAIN)
        self._tasks.add(task)
        return task

    def _map(
        self, fn: Callable[..., Any], iterables: tuple[Iterable[Any], ...], star: bool, timeout: float | None,
        chunksize: int | None, buffersize: int | None, ordered: bool, progress: bool | str,
        options: Options | None,
    ) -> Any:  # fmt: skip
        if self._closed:
            raise PoolClosed("cannot schedule new futures after shutdown")
        if star:
            iterables = tuple(zip(*iterables[0], strict=True))
        submitter = self._client._submit_through()
        return submitter.map(fn, iterables, chunksize, self._max_workers, options or PLAIN)

    async def add_task_async(self, arg: Any, **options: Any) -> Task[Any]:
        """``add_task``."""
        return self.add_task(arg, **options)

    async def submit_async(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """``submit``."""
        return self.submit(fn, *args, **kwargs)

    @property
    def is_idle(self) -> bool:
        """Whether no task that was submitted here is unfinished."""
        return all(task.done() for task in list(self._tasks))

    def wait_ready(self, timeout: float | None = None) -> None:
        """Nothing to wait for."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks; wait for those that were submitted here. The workers stay."""
        self._closed = True
        tasks = list(self._tasks)
        if cancel_futures:
            for task in tasks:
                task.cancel()
        if wait:
            for task in tasks:
                try:
                    task.exception()
                except CancelledError:
                    pass

    def _leave(self, kind: type[BaseException] | None) -> None:
        self.shutdown(wait=True, cancel_futures=kind is not None)

    def __repr__(self) -> str:
        return f"<WorkerPool {self.name!r} of the outer pool's workers>"


def _call(function: Callable[..., Any], arg: Any) -> Any:
    return function(arg)


def _with_client(function: Callable[..., Any], arg: Any) -> Any:
    return function(arg, current_client())
