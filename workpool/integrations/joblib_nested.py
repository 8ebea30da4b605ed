"""joblib in a worker: the batches it runs, and a ``Parallel`` inside a task.

All that a worker imports of ``workpool.integrations.joblib``.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    ThreadingBackend,
    register_parallel_backend,
)

from workpool.client import current_client
from workpool.errors import TaskTimeout
from workpool.integrations.sharing import unpack
from workpool.options import PLAIN, Options

if TYPE_CHECKING:
    from collections.abc import Callable

    from joblib import Parallel

    from workpool.task import Task

    _Callback = Callable[[Any], object] | None


class Batches(AutoBatchingMixin, ParallelBackendBase):
    """How large batches are, and what a ``Parallel`` inside a task uses."""

    # For processes that are further away joblib has 0.2 and 2 s. This hides what it does itself
    # for a batch, some 0.1 ms, and at the end no worker is idle for long.
    MIN_IDEAL_BATCH_DURATION = 0.02
    MAX_IDEAL_BATCH_DURATION = 0.2

    supports_return_generator = True
    supports_timeout = True

    def get_nested_backend(self) -> tuple[NestedBackend, None]:
        """Part of a backend. None: a ``Parallel`` in a task that does not ask for more has one job."""
        return NestedBackend(nesting_level=(self.nesting_level or 0) + 1), None


class NestedBackend(Batches):
    """What ``Parallel`` uses in a worker: who waits for a batch runs it, or helps with another.

    Args:
        nesting_level: As joblib gives it.
    """

    # With callbacks ``Parallel`` sleeps until they come; a worker that sleeps helps nobody.
    supports_retrieve_callback = False
    supports_inner_max_num_threads = True  # accepted: the threads of workers are settled

    def __init__(self, *, nesting_level: int | None = None) -> None:
        super().__init__(nesting_level=nesting_level)
        self._running: set[Task[Any]] = set()

    def __reduce__(self) -> Any:
        return _nested, (self.nesting_level,)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Part of a backend: how many tasks run at once."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            n_jobs = self.default_n_jobs
        workers = current_client()._runner.workers
        return max(workers + 1 + n_jobs, 1) if n_jobs < 0 else min(n_jobs, workers)

    def configure(
        self, n_jobs: int = 1, parallel: Parallel = None, prefer: str | None = None, **_: Any
    ) -> int:
        """Part of a backend: a ``Parallel`` begins.

        Args:
            n_jobs: As ``Parallel`` has it.
            parallel: Which it is.
            prefer: ``"threads"`` is followed: the tasks share what they work on.
        """
        jobs = self.effective_n_jobs(n_jobs)
        if jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if prefer == "threads":
            raise FallbackToBackend(ThreadingBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        # "generator_unordered" wants callbacks. In order is one of the orders it may have.
        parallel.return_ordered = True
        return jobs

    def submit(self, func: Any, callback: _Callback = None) -> Task[Any]:
        """Part of a backend: run ``func()``, a batch."""
        client = current_client()
        limit = self.parallel.timeout
        # Who waits may run the batch itself, and can look at no clock meanwhile.
        options = PLAIN if limit is None else Options(client._runner.workers, timeout=limit)
        task = client._submit_through().submit(func, (), {}, options)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        if callback is not None:
            task.add_done_callback(callback)
        return task

    def retrieve_result(self, out: Task[Any], timeout: float | None = None) -> Any:
        """Part of a backend: the result of a batch, run here if nobody else does."""
        try:
            return out.result()
        except TaskTimeout as error:
            raise multiprocessing.TimeoutError from error

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Part of a backend: as in the parent."""
        for task in list(self._running):
            task.cancel(force=True)

    def terminate(self) -> None:
        """Part of a backend: as in the parent."""
        self.reset_batch_stats()


def backend(nesting_level: int | None = None, **_: Any) -> NestedBackend:
    """What ``backend="workpool"`` stands for in a worker, whatever pool is asked for."""
    return NestedBackend(nesting_level=nesting_level)


def _nested(nesting_level: int | None) -> NestedBackend:
    """What a ``NestedBackend`` is unpickled by: in a worker the backend has its name, too."""
    register_parallel_backend("workpool", backend)
    return NestedBackend(nesting_level=nesting_level)


def run(data: bytes, parts: list[Any]) -> Any:
    """A batch, in a worker."""
    return unpack(data, parts)()
