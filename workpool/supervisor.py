"""The supervisor: launches workers, notices their death, recovers, replaces.

One thread, asleep in ``poll`` on the workers' pidfds and an eventfd of its own. Death is
what the kernel says of a pidfd: no heartbeat, no time-out, so a stopped worker is not dead.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import logging
import os
import pickle
import select
import threading
import time
import warnings
from typing import TYPE_CHECKING

from workpool import _core
from workpool.death import WorkerDied
from workpool.worker import EXIT_START

if TYPE_CHECKING:
    from collections.abc import Callable

    from workpool._core import Seat
    from workpool.launcher import Launcher, Process

_log = logging.getLogger("workpool.supervisor")

# So many workers in a row that die before their start hook has run break the pool: the
# next would too.
_START_DEATHS = 5


class Worker:
    """A worker, as the parent sees it.

    Attributes:
        id: Its seat, from 1 on; a replacement inherits it.
        pid: Its process.
    """

    def __init__(self, supervisor: Supervisor, seat: int, incarnation: int, process: Process) -> None:
        self.id = seat
        self.pid = process.pid
        self.exitcode: int | None = None
        self._incarnation = incarnation
        self._process = process
        self._supervisor = supervisor
        self._stopping = False

    @property
    def state(self) -> str:
        """``"starting"``, ``"idle"``, ``"running"``, ``"stopping"`` or ``"dead"``: a look."""
        seat = self._supervisor.seat
        if self.exitcode is not None:
            return "dead"
        if self._stopping:
            return "stopping"
        if not seat.is_ready(self.id, self._incarnation):
            return "starting"
        return "running" if seat.is_running(self.id) else "idle"

    def __repr__(self) -> str:
        return f"<Worker {self.id} pid={self.pid} {self.state}>"


class Supervisor:
    """Keeps a pool's seats filled. All methods may be called from any thread."""

    def __init__(self, seat: Seat, launcher: Launcher, seats: int, name: str) -> None:
        self.seat = seat
        self.launcher = launcher
        self.name = name
        self.broken: BaseException | None = None
        self.on_broken: Callable[[BaseException], None] = lambda error: None
        self.on_change: Callable[[], None] = lambda: None
        self._workers: dict[int, Worker] = {}
        self._lost: dict[int, Worker] = {}
        self._most = seats - 1
        self._wanted = 0
        self._stop = _core.STOP_NO
        self._early_deaths = 0
        self._changed = threading.Lock()
        self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: threading.Thread | None = None
        self._retry_at: float | None = None

    # ---- what the pool asks ----------------------------------------------------------

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers that live, by seat."""
        return tuple(self._workers[seat] for seat in sorted(self._workers))

    @property
    def wanted(self) -> int:
        """How many workers there should be."""
        return self._wanted

    def worker(self, seat: int) -> Worker | None:
        """Who sits, or last sat, in ``seat``."""
        return self._workers.get(seat) or self._lost.get(seat)

    def want(self, workers: int) -> None:
        """Launch until there are so many workers, at most one for each seat."""
        workers = min(workers, self._most)
        with self._changed:
            if workers <= self._wanted or self._stop:
                return
            self._wanted = workers
            # fork wants a process without threads: the caller's own thread launches.
            if self.launcher.method == "fork" and self._thread is None:
                self._launch_missing()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"{self.name}-supervisor", daemon=True)
                self._thread.start()
                return
        os.eventfd_write(self._eventfd, 1)

    def is_ready(self) -> bool:
        """Whether every wanted worker has run its start hook; True too if that cannot be."""
        workers = self.workers
        return self.broken is not None or (
            len(workers) >= self._wanted and all(self.seat.is_ready(w.id, w._incarnation) for w in workers)
        )

    def stop(self, how: int) -> None:
        """Ask every worker to end, and launch no more."""
        with self._changed:
            self._stop = max(how, self._stop)
            for worker in self._workers.values():
                worker._stopping = True
                self.seat.stop(worker.id, self._stop)
        os.eventfd_write(self._eventfd, 1)

    def join(self) -> None:
        """Wait until the stopped workers are gone; then nothing of the supervisor is left."""
        thread = self._thread
        if thread is None:
            self._close()
            return
        while thread.is_alive():
            thread.join(0.5)  # in slices, so that Ctrl-C is seen

    # ---- the thread ------------------------------------------------------------------

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._eventfd, select.POLLIN)
        watched: dict[int, Worker] = {}
        while True:
            with self._changed:
                if not self._stop:
                    self._launch_missing()
                for worker in self._workers.values():
                    if worker._process.pidfd not in watched:
                        watched[worker._process.pidfd] = worker
                        poll.register(worker._process.pidfd, select.POLLIN)
                if self._stop and not self._workers:
                    break
            timeout = None
            if self._retry_at is not None:
                timeout = max(0.0, (self._retry_at - time.monotonic()) * 1000)
            for fd, _ in poll.poll(timeout):
                if fd == self._eventfd:
                    os.eventfd_read(self._eventfd)
                else:
                    poll.unregister(fd)
                    self._bury(watched.pop(fd))
        self._close()

    def _close(self) -> None:
        os.close(self._eventfd)
        self.launcher.close()

    def _launch_missing(self) -> None:
        """Fill empty seats, lowest first. Called with the lock held."""
        for seat in range(1, self._most + 1):
            if len(self._workers) >= self._wanted or self.broken is not None:
                return
            if seat in self._workers:
                continue
            incarnation = self.seat.next_incarnation(seat)
            try:
                with warnings.catch_warnings():
                    # The user chose fork; its danger is in the documentation of start_method.
                    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
                    process = self.launcher.launch(seat, incarnation)
            except Exception as error:  # no process or memory to be had now: others go on
                _log.warning("%s: cannot launch worker %d: %s", self.name, seat, error)
                self._early_deaths += 1
                if self._early_deaths >= _START_DEATHS and not self._workers:
                    self._break(error)
                self._retry_at = time.monotonic() + 0.1
                return
            self._retry_at = None
            self.seat.take(seat, process.pid)
            self._workers[seat] = Worker(self, seat, incarnation, process)
            self.seat.launched(len(self._workers))
            _log.debug("%s: launched worker %d, pid %d", self.name, seat, process.pid)

    def _bury(self, worker: Worker) -> None:
        """The kernel says that the worker's process is gone."""
        code = worker._process.reap()
        ready = self.seat.is_ready(worker.id, worker._incarnation)
        again, died, cancelled = self.seat.recover(worker.id, worker.pid, code)
        report = worker._process.report()
        with self._changed:
            worker.exitcode = code
            del self._workers[worker.id]
            self._lost[worker.id] = worker
            self.seat.launched(len(self._workers))
            self._early_deaths = 0 if ready else self._early_deaths + 1
        worker._process.close()
        self.on_change()
        if worker._stopping and code == 0:
            return
        _log.warning(
            "%s: worker %d (pid %d) ended with %d: %d tasks failed, %d run again",
            self.name, worker.id, worker.pid, code, died + cancelled, again,
        )  # fmt: skip
        if code == EXIT_START and report:
            self._break(_start_error(worker, report))
        elif self._early_deaths >= _START_DEATHS:
            self._break(WorkerDied(worker.id, worker.pid, code, doing="started"))

    def _break(self, error: BaseException) -> None:
        self.broken = error
        self.on_broken(error)
        self.on_change()


def _start_error(worker: Worker, report: bytes) -> BaseException:
    """The pool's error for a start hook that raised: what it raised is the cause."""
    from workpool.errors import RemoteTraceback

    error = WorkerDied(worker.id, worker.pid, worker.exitcode or 0, doing="ran its start hook")
    try:
        data, text, _ = pickle.loads(report)
        error.__cause__ = pickle.loads(data)
        error.__cause__.__cause__ = RemoteTraceback(text)
    except Exception as failure:  # the report was cut short, or its exception is not known here
        error.__cause__ = RemoteTraceback(f"(the start hook's own error cannot be shown: {failure})")
    return error
