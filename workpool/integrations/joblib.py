"""joblib: ``register()``, then ``joblib.parallel_config(backend="workpool")``.

    the parent                                   a worker
      Parallel -> WorkpoolBackend.submit  --->     the batch's functions
                    | pool=, or the one              Parallel -> NestedBackend.submit  --->  any worker
                    | that is kept

Workers are kept from one ``Parallel`` to the next. What a task submits itself is for the same
workers, so that nesting starts no process and no thread.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import collections
import functools
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from joblib.parallel import (
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    register_parallel_backend,
)

from workpool import _core, client
from workpool.cpus import usable_cpus
from workpool.death import WorkerDied
from workpool.errors import ForkedPool, PoolClosed
from workpool.integrations.joblib_nested import Batches, NestedBackend, run
from workpool.integrations.sharing import Sharing
from workpool.pool import WorkerPool
from workpool.threads import set_variables

if TYPE_CHECKING:
    from collections.abc import Callable

    from joblib import Parallel

    from workpool.task import Task

    _Callback = Callable[[Any], object] | None

_MOST_WORKERS = _core.MAX_SEATS - 1

# joblib's callbacks take as long as its dispatching of a batch; an aborted call waits no longer for them.
_CALLBACK_SECONDS = 1.0

# What Parallel tells every backend, and what makes no difference here.
_TOLD = {"context", "prefer", "require", "temp_folder", "verbose"}


def register() -> None:
    """Make ``backend="workpool"`` known to joblib, in this process and in workers."""
    register_parallel_backend("workpool", backend)


def backend(**options: Any) -> ParallelBackendBase:
    """The backend of that name: of a pool in the parent, of the task's own in a worker."""
    if client._current is None:
        return WorkpoolBackend(**options)
    return NestedBackend(nesting_level=options.get("nesting_level"))


class WorkpoolBackend(Batches):
    """What ``Parallel`` uses in the parent.

    Args:
        pool: Whose workers run the tasks; without it a pool of ``n_jobs`` workers is made, and
            kept for the next ``Parallel`` with the same ``n_jobs`` until ``close()``.
        nesting_level, inner_max_num_threads: As joblib gives them.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1

    def __init__(
        self, *, pool: WorkerPool[Any, Any] | None = None, nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._own = pool
        self._jobs = 1
        self._sharing: Sharing | None = None
        self._share_from: int | None = None
        self._writable = False
        self._running: set[Task[Any]] = set()
        # A user's pool may have more workers than n_jobs: then batches wait here for their turn.
        self._turns: int | None = None
        self._taken = 0
        self._calling = 0  # callbacks of joblib that have not returned
        self._counting = threading.Lock()
        self._here = threading.local()
        self._waiting: collections.deque[tuple[Any, _Callback]] = collections.deque()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Part of a backend: how many tasks run at once."""
        most = min(usable_cpus(), _MOST_WORKERS) if self._own is None else self._own._max_workers
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            n_jobs = self.default_n_jobs
        if n_jobs < 0:
            return max(most + 1 + n_jobs, 1)
        return min(n_jobs, _MOST_WORKERS if self._own is None else most)

    def configure(
        self, n_jobs: int = 1, parallel: Parallel = None, pool: WorkerPool[Any, Any] | None = None,
        max_nbytes: int | None = None, mmap_mode: str | None = None, **told: Any,
    ) -> int:  # fmt: skip
        """Part of a backend: a ``Parallel`` begins.

        Args:
            n_jobs: As ``Parallel`` has it.
            parallel: Which it is.
            pool: As in the constructor.
            max_nbytes: Arrays from that size on go into shared memory once for all tasks.
            mmap_mode: They are read-only there with ``"r"``; with None or ``"c"`` each task has
                its own copy.
            **told: The other options of ``Parallel``.

        Raises:
            ValueError: ``inner_max_num_threads`` for a pool that is there already.
            PoolClosed: It was shut down.
        """
        if set(told) - _TOLD:
            unknown = ", ".join(sorted(set(told) - _TOLD))
            raise TypeError(f"unknown options of the workpool backend: {unknown}")
        if pool is not None:
            self._own = pool
        if self._own is not None and self.inner_max_num_threads is not None:
            raise ValueError("inner_max_num_threads is the pool's own affair: WorkerPool(inner_threads=...)")
        self.parallel = parallel
        self._jobs = self.effective_n_jobs(n_jobs)
        if self._jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self._turns = None if self._own is None or self._jobs == self._own._max_workers else self._jobs
        self._share_from = None if mmap_mode in (None, "c") else max_nbytes
        self._writable = mmap_mode != "r"
        self._begin()
        return self._jobs

    def _begin(self) -> Sharing:
        pool = self._own
        if pool is None:
            pool = _kept_pool(self._jobs, self._prepare_worker_env(self._jobs))
        else:
            pool.resize_up_to(self._jobs)
        self._sharing = Sharing(pool, self._share_from, self._writable)
        return self._sharing

    def submit(self, func: Any, callback: _Callback = None) -> None:
        """Part of a backend: run ``func()``, a batch, and then call ``callback(future)``."""
        self._waiting.append((func, callback))
        self._offer_waiting()

    def _offer_waiting(self) -> None:
        while self._take_turn():
            try:
                func, callback = self._waiting.popleft()
            except IndexError:
                self._give_turn()
                return
            self._offer(func, callback)

    def _take_turn(self) -> bool:
        with self._counting:
            free = self._turns is None or self._taken < self._turns
            if free:
                self._taken += 1
        return free

    def _give_turn(self) -> None:
        with self._counting:
            self._taken -= 1

    def _offer(self, func: Any, callback: _Callback) -> None:
        try:
            sharing = self._sharing or self._begin()
            task = sharing.pool.submit(run, *sharing.pack(func))
        except Exception as error:  # raised here, in a callback, it would leave joblib waiting
            refused: Future[Any] = Future()
            refused.set_exception(error)
            self._give_turn()
            if callback is not None:
                callback(refused)
            return
        self._running.add(task)
        task.add_done_callback(functools.partial(self._done, callback))

    def _done(self, callback: _Callback, task: Task[Any]) -> None:
        """A task has ended, and joblib dispatches the next from here.

        That one may have ended before it is watched, and so on: in turns, and not one inside the other.
        """
        ended = getattr(self._here, "ended", None)
        if ended is not None:
            ended.append((callback, task))
            return
        self._here.ended = ended = collections.deque([(callback, task)])
        try:
            while ended:
                callback, task = ended.popleft()
                self._running.discard(task)
                self._give_turn()
                self._offer_waiting()
                if callback is not None:
                    self._call(callback, task)
        finally:
            self._here.ended = None
            for callback, task in ended:  # a callback raised
                self._done(callback, task)

    def _call(self, callback: Callable[[Any], object], task: Task[Any]) -> None:
        with self._counting:
            self._calling += 1
        try:
            callback(task)
        finally:
            with self._counting:
                self._calling -= 1

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Part of a backend: the result of a batch that is done."""
        return out.result()

    def start_call(self) -> None:
        """Part of a backend: a call begins. Batches of the last one, if it failed, are forgotten.

        joblib cuts several at a time and keeps those that it has not dispatched; the next call
        of the same ``Parallel`` would begin with them.
        """
        parallel = self.parallel
        with parallel._lock:
            while not parallel._ready_batches.empty():
                parallel._ready_batches.get(block=False)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Part of a backend: end what runs, as ``Task.cancel(force=True)`` does, and forget what waits."""
        self._waiting.clear()
        for task in list(self._running):
            task.cancel(force=True)
        # A callback looks which call its batch is of, and later counts it as completed, of whichever
        # call there is then: the next would end before its own batches.
        own = 1 if getattr(self._here, "ended", None) is not None else 0
        end = time.monotonic() + _CALLBACK_SECONDS
        while self._calling > own and time.monotonic() < end:
            time.sleep(0.001)

    def terminate(self) -> None:
        """Part of a backend: a ``Parallel`` is done. The workers stay."""
        self._sharing = None
        self.reset_batch_stats()


_keeping = threading.Lock()
_kept: tuple[tuple[int, dict[str, str]], WorkerPool[Any, Any]] | None = None


def _kept_pool(jobs: int, environment: dict[str, str]) -> WorkerPool[Any, Any]:
    """The pool of this size and environment: the last one, if it still serves."""
    global _kept
    with _keeping:
        if _kept is not None and _kept[0] == (jobs, environment):
            try:
                _kept[1].resize_up_to(1)
                return _kept[1]
            except (PoolClosed, ForkedPool, WorkerDied):
                pass  # closed, of the process that forked this one, or broken
        pool: WorkerPool[Any, Any] = WorkerPool(
            max_workers=jobs, tasks_per_worker=1, name="workpool-joblib",
            inner_threads=None, initializer=set_variables, initargs=(environment,),
        )  # fmt: skip
        _kept = (jobs, environment), pool
    return pool


def close() -> None:
    """End the workers that are kept; otherwise they end with this process."""
    global _kept
    with _keeping:
        kept, _kept = _kept, None
    if kept is not None:
        kept[1].dispose()
