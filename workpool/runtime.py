"""What stands behind a ``WorkerPool``: everything that must outlive the user's handle.

A pool may be dropped without shutdown, or with tasks queued; at interpreter exit too,
accepted tasks are finished, workers ended and memory unmapped.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import functools
import math
import multiprocessing
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

from workpool import _core, environment, launcher, logs, payload, stacks
from workpool.cpus import usable_cpus
from workpool.errors import ForkedPool, PoolClosed
from workpool.events import WORKER_LAUNCHED, WORKER_LOST, Events
from workpool.gather import Gatherer
from workpool.local import Local
from workpool.mapping import ItemCosts
from workpool.messages import PoolMessages
from workpool.once import keep_first
from workpool.placement import Placement
from workpool.segments import Segments
from workpool.sizing import Sizing
from workpool.supervisor import Supervisor
from workpool.task import Task
from workpool.trimming import Trimmer
from workpool.worker import WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from workpool.loading import EntrypointSpec
    from workpool.settings import Settings

# After Ctrl-C a task has so long to clean up: whoever waits for the prompt has lost patience.
_INTERRUPT_GRACE_SECONDS = 0.3


class Runtime:
    """One pool's segments, seat, gatherer, supervisor and functions."""

    def __init__(self, settings: Settings, entrypoint: EntrypointSpec) -> None:
        if _ending:
            raise PoolClosed("cannot make a pool: the interpreter is shutting down")
        self.name = name = settings.name
        self.entrypoint = entrypoint
        seats = settings.max_workers + 1
        _fill_standard_descriptors()
        work, inherited = _pickled(entrypoint, settings)
        self.segments = Segments(seats, usable_cpus(), settings.memory, polls=_polls())
        self._fds = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(seats)]
        parent_pidfd = os.pidfd_open(os.getpid())
        hungry_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stacks_fd = os.memfd_create("workpool-stacks", os.MFD_CLOEXEC)
        lifeline, lifeline_end = os.pipe()
        segments = self.segments
        self.seat = _core.Seat(segments.control.buf, segments.arena.buf, segments.arena_fd, 0)
        self.seat.on_outcome(payload.unpack_outcome)
        self.seat.spin(settings.spin)
        for index, fd in enumerate(self._fds):
            self.seat.eventfd(index, fd)
        config = WorkerConfig(
            control_fd=segments.control_fd, arena_fd=segments.arena_fd, control_bytes=segments.control.size,
            arena_bytes=segments.arena.size, parent_pidfd=parent_pidfd, eventfds=tuple(self._fds),
            sys_path=_sys_path(), spin=settings.spin, concurrency=settings.worker_concurrency, work=work,
            grow_at=settings.tasks_per_worker or math.inf, grace=settings.grace,
            max_tasks=settings.max_tasks_per_child, max_memory=settings.max_memory_per_child,
            hungry_fd=hungry_fd, stacks_fd=self._stacks_fd, lifeline_fd=lifeline, lifeline_end=lifeline_end,
            levels=logs.levels(), name=name, inner_threads=settings.inner_threads,
            authkey=bytes(multiprocessing.current_process().authkey),
        )  # fmt: skip
        self._fds += [parent_pidfd, self._stacks_fd, lifeline, lifeline_end]
        self.trimmer = Trimmer(self.seat, name)
        self.functions = payload.Functions(self.seat, 0)
        self.item_costs = ItemCosts()
        launch = launcher.make(settings.start_method, settings.mp_context, config, inherited)
        self.grace = settings.grace
        self.supervisor = Supervisor(self.seat, launch, seats, name, hungry_fd, settings.grace)
        self.gatherer = Gatherer(self.seat, self._fds[0], self.supervisor.worker)
        self.seat.gatherer = self.gatherer
        self.gatherer.on_ask = self.supervisor.ask
        self.gatherer.on_limit = self.supervisor.note_limit
        self.supervisor.on_broken = self.gatherer.cancel_queued
        self.supervisor.on_change = self.gatherer.poke
        self.messages = PoolMessages(self.seat, self.gatherer, name)
        self.gatherer.read_messages = self.messages.dispatch
        self.supervisor.on_undelivered = self.messages.undelivered
        self.events = events = Events(name)
        self.supervisor.on_launched = lambda worker: events.emit(WORKER_LAUNCHED, worker)
        self.supervisor.on_lost = lambda worker, exitcode: events.emit(WORKER_LOST, worker, exitcode)
        self.placement = Placement(
            self.gatherer, self.supervisor, events, settings.inherent_cost, settings.worker_cost
        )
        self.sizing = Sizing(self, settings.max_workers, settings.tasks_per_worker)
        self.supervisor.on_hungry = self.sizing.feed
        self._making = threading.RLock()
        self._dumping = threading.Lock()
        self._finishing = threading.Lock()
        self._finished = False
        self._thread: threading.Thread | None = None
        _running.add(self)

    def when(self, condition: Callable[[], bool]) -> Task[None]:
        """A task that is done once ``condition()``."""
        return self.gatherer.when(condition, Task(self.seat))

    def is_idle(self) -> bool:
        """Whether no task is unfinished, of the parent's or of any worker's."""
        return self.gatherer.unfinished == 0 and not self.seat.is_busy()

    def when_idle(self) -> Task[None]:
        """A task that is done once ``is_idle()``."""
        return self.when(self.is_idle)

    def local(self) -> Local:
        """The tasks of the parent itself."""
        if self.gatherer.local is None:
            with self._making:
                made = Local(self.gatherer, self.entrypoint, self.messages.main, self.name, self.grace)
                return keep_first(self.gatherer, "local", made)
        return self.gatherer.local

    def stacks(self) -> str:
        """Where each worker is, as text."""
        with self._dumping:  # one file for all
            return stacks.dump(self.supervisor.workers, self._stacks_fd, self.supervisor.signal)

    def retire(self, workers: int) -> None:
        """Give up seats until so many are left; each worker ends once nothing is bound to it."""
        supervisor = self.supervisor
        for seat in supervisor.give_up(workers):
            if supervisor.is_bound(seat):
                free = self.when(functools.partial(supervisor.is_free, seat))
                free.add_done_callback(functools.partial(supervisor.dismiss, seat))
            else:
                supervisor.dismiss(seat)

    @property
    def launches_at_once(self) -> bool:
        """Whether all workers start with the first: fork wants a process without threads."""
        return self.supervisor.launcher.method == "fork"

    def interrupt(self) -> None:
        """Ctrl-C: nothing that is queued or runs is wanted any more."""
        self.gatherer.cancel_queued()
        self.gatherer.cancel_running(_INTERRUPT_GRACE_SECONDS)

    def finish(self) -> None:
        """Wait for the accepted tasks, end the workers, unmap. May be called again."""
        while not self._finished:
            if not self._finishing.acquire(timeout=0.5):
                continue  # another thread finishes; in slices, so that Ctrl-C is seen
            try:
                if not self._finished:
                    self._finish()
            finally:
                self._finishing.release()

    def _finish(self) -> None:
        self.when_idle().result()
        self.placement.ageing.close()
        if self.gatherer.local is not None:
            self.gatherer.local.close()
        self.supervisor.stop(_core.STOP_DRAINED)
        # Gathering meanwhile, so that an exit hook that posts much is not held up.
        self.when(self.supervisor.is_empty).result()
        self.supervisor.join()
        self.messages.finish()
        self.gatherer.cancel_queued()  # offered while the workers ended
        self.gatherer.close()
        self.trimmer.close()
        self.seat.close()
        self.segments.close()
        while self._fds:  # one by one: an interrupted finish() may be called again
            os.close(self._fds.pop())
        self._finished = True
        _running.discard(self)

    def finish_in_background(self) -> None:
        """finish(), by a thread of its own."""
        if self._thread is None and not self._finished and not self.seat.is_forked:
            thread = threading.Thread(target=self.finish, name=f"{self.name}-shutdown", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends, and finishes every pool itself
                return
            self._thread = thread


# Pools that are not finished; the interpreter finishes them at exit.
_running: set[Runtime] = set()
_ending = False  # nobody would finish what a pool accepts from now on


def _finish_all() -> None:
    global _ending
    _ending = True
    # As the interpreter's own handler does, which has shown the traceback; at an interactive
    # prompt that may be of long ago.
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1")
    for runtime in list(_running):
        if interrupted:
            runtime.interrupt()
        runtime.finish()


def _forked() -> None:
    for runtime in list(_running):
        runtime.seat.abandon()
        runtime.supervisor.broken = ForkedPool("a fork of the pool's process")
    _running.clear()


# Before the interpreter joins threads, as concurrent.futures does: a plain atexit
# function would come too late to start or join any.
threading._register_atexit(_finish_all)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_forked)


def abandon(handle: object, runtime: Runtime) -> Callable[[], object]:
    """Have ``runtime`` finish when ``handle`` is garbage."""
    # By the supervisor: a finalizer may run while the threading module holds its own
    # lock, and to start a thread here would then wait for it for ever.
    finalizer = weakref.finalize(handle, runtime.supervisor.call_later, runtime.finish_in_background)
    finalizer.atexit = False
    return finalizer.detach


def _fill_standard_descriptors() -> None:
    """Have 0, 1 and 2 taken: in a process that closed them, a segment would become a worker's stdout."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)


def _pickled(entrypoint: EntrypointSpec, settings: Settings) -> tuple[bytes, Any]:
    """What workers are to run, and what only multiprocessing can bring them; or None."""
    initializer, initargs = settings.initializer, settings.initargs
    try:
        return payload.dumps((entrypoint, initializer, initargs)), None
    except RuntimeError:  # multiprocessing's locks and queues: they travel with a process of its own
        if settings.mp_context is None and launcher.is_exec(settings.start_method):
            raise
        return payload.dumps((entrypoint, None, ())), (initializer, initargs)


def _polls() -> bool:
    return environment.choice("WORKPOOL_PARK", ("futex", "poll")) == "poll"


def _sys_path() -> tuple[str, ...]:
    # "" is the current directory: say which, since a task may change it.
    return tuple(os.getcwd() if entry == "" else entry for entry in sys.path)
