"""The supervisor: launches workers, notices their death, recovers, replaces.

One thread, asleep in ``poll`` on the workers' pidfds and an eventfd of its own. Death is
what the kernel says of a pidfd: no heartbeat, no time-out, so a stopped worker is not dead.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import select
import signal
import threading
import time
import warnings
from typing import TYPE_CHECKING

from workpool import _core
from workpool.death import WorkerDied
from workpool.identity import stays_here
from workpool.limits import Limits
from workpool.once import start_first
from workpool.worker import EXIT_REPLACE, EXIT_START

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from workpool._core import Seat
    from workpool.launcher import Launcher, Process

# What a program that says nothing of logging wants to hear of workpool's: nothing.
logging.getLogger("workpool").addHandler(logging.NullHandler())
_log = logging.getLogger("workpool.supervisor")

# So many workers in a row that die before their start hook has run break the pool: the
# next would too.
_START_DEATHS = 5

# A longer sleep is cut in two.
_LONGEST_SECONDS = 3600.0


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
        self._post = supervisor.seat.post
        self._stopping = False
        self._dismissed = False
        self._killed = False  # by this pool

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        stays_here("a worker", "send its id")

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

    @property
    def load(self) -> float:
        """Seconds of estimated work that was placed here and is not done."""
        return self._supervisor.loads[self.id]

    def post_message(self, type: str, contents: Any = None) -> None:  # noqa: A002
        """Send a message to the worker's handlers; waits while 64 KiB of messages are unread.

        One to a worker that is gone, or goes before it reads it, is logged as undelivered.

        Args:
            type: Which handlers get it.
            contents: Anything that can be pickled, of any size.
        """
        if not self._post(self.id, self._incarnation, type, contents):
            self._supervisor.on_undelivered(self, [type])

    def _signal(self, number: int) -> None:
        """Send the process a signal; by the supervisor's thread, which alone lets go of it."""
        try:
            signal.pidfd_send_signal(self._process.pidfd, number)
        except ProcessLookupError:
            pass  # it is gone, and will be buried

    def __repr__(self) -> str:
        return f"<Worker {self.id} pid={self.pid} {self.state}>"


class Supervisor:
    """Keeps a pool's seats filled. All methods may be called from any thread."""

    def __init__(
        self, seat: Seat, launcher: Launcher, seats: int, name: str, eventfd: int, grace: float
    ) -> None:
        self.seat = seat
        self._limits = Limits(seat, grace)
        self.launcher = launcher
        self.name = name
        self.broken: BaseException | None = None
        self.on_broken: Callable[[BaseException], None] = lambda error: None
        self.on_change: Callable[[], None] = lambda: None
        self.on_hungry: Callable[[], None] = lambda: None  # a worker asks for another
        self.on_undelivered: Callable[[Worker, list[str]], None] = lambda worker, types: None
        self._workers: dict[int, Worker] = {}
        self._lost: dict[int, Worker] = {}
        self.on_launched: Callable[[Worker], None] = lambda worker: None
        self.on_lost: Callable[[Worker, int], None] = lambda worker, exitcode: None
        self.on_fallen: Callable[[Worker, int], None] = lambda worker, exitcode: None  # before recovery
        self.loads = [0.0] * seats  # by seat, kept by the placement
        self._most = seats - 1
        self._wanted: set[int] = set()  # seats that shall have a worker
        self._retired: set[int] = set()  # those that were given up, and not wanted again since
        self._bound: dict[int, int] = {}  # unfinished tasks of the parent that only one seat may run
        self._announced: list[Worker] = []  # launched, and not told of yet
        self._stop = _core.STOP_NO
        self._early_deaths = 0
        self._changed = threading.RLock()
        self._eventfd = eventfd
        self._launching = False
        self._open = threading.RLock()  # guards the eventfd against its own end
        self._thread: threading.Thread | None = None
        self._retry_at: float | None = None
        self._calls: list[Callable[[], object]] = []

    # ---- what the pool asks ----------------------------------------------------------

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers that live, by seat, but for those that retire."""
        workers = dict(self._workers)
        return tuple(workers[seat] for seat in sorted(workers) if seat not in self._retired)

    @property
    def wanted(self) -> int:
        """How many workers there should be."""
        return len(self._wanted)

    @property
    def seats(self) -> tuple[int, ...]:
        """Which seats have a worker, or shall have one soon."""
        return tuple(sorted(self._wanted.copy()))

    def worker(self, seat: int) -> Worker | None:
        """Who sits, or last sat, in ``seat``."""
        worker = self._workers.get(seat) or self._lost.get(seat)
        if worker is None:
            with self._changed:  # it is being launched, and quick to say something
                worker = self._workers.get(seat)
        return worker

    def want(self, workers: int, at_once: bool = False) -> None:
        """Launch until there are so many workers, at most one for each seat; lowest seats first.

        Args:
            workers: How many there shall be; more are left alone.
            at_once: Launch them here and now, and not by the supervisor's thread.
        """
        with self._changed:
            for seat in range(1, self._most + 1):
                if len(self._wanted) >= workers:
                    break
                self._want(seat)
            self._start(at_once)
        self._announce()

    def need(self, seat: int) -> None:
        """A task prefers ``seat``: launch a worker there, unless it was given up."""
        if seat not in self._wanted and seat not in self._retired:
            with self._changed:
                self._want(seat)
                self._start()
            self._announce()

    def bind(self, seat: int) -> None:
        """A task of the parent may run in ``seat`` alone: keep, or launch, a worker there until unbind().

        Raises:
            ValueError: The seat was given up.
        """
        with self._changed:
            if seat in self._retired:
                raise ValueError(f"worker {seat} is gone: resize_down_to() has retired it")
            self._bound[seat] = self._bound.get(seat, 0) + 1
        self.need(seat)

    def unbind(self, seat: int) -> None:
        """A task that bind() was called for is done."""
        with self._changed:
            self._bound[seat] -= 1

    def is_bound(self, seat: int) -> bool:
        """Whether a task is unfinished that only this seat may run."""
        return self._bound.get(seat, 0) > 0

    def _want(self, seat: int) -> None:
        if seat in self._wanted or self._stop:
            return
        self._wanted.add(seat)
        self._retired.discard(seat)
        worker = self._workers.get(seat)
        if worker is None:
            self.seat.due(seat)
        elif worker._stopping:  # it may be gone already: then it is replaced
            worker._stopping = False
            self.seat.stop(seat, _core.STOP_NO)

    def _start(self, at_once: bool = False) -> None:
        """Have the missing workers launched. Called with the lock held."""
        if self._stop or self._wanted <= self._workers.keys():
            return
        # fork wants a process without threads: the caller's own thread launches, and all.
        if self.launcher.method == "fork" and self._thread is None:
            for seat in range(1, self._most + 1):
                self._want(seat)
            at_once = True
        if at_once:
            self._launch_missing()
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=f"{self.name}-supervisor", daemon=True)
            try:
                start_first(self, thread)
            except RuntimeError as error:  # no thread to be had: nobody would notice that a worker ends
                self._give_up_all(error)
                raise
        else:
            self._nudge()

    def _give_up_all(self, error: BaseException) -> None:
        """No worker can be kept: end those there are, and break the pool."""
        self._stop = _core.STOP_DRAINED
        self._wanted.clear()
        for worker in list(self._workers.values()):
            worker._stopping = worker._killed = True
            worker._signal(signal.SIGKILL)
            self._bury(worker)
        self._break(error)

    def give_up(self, most: int) -> list[int]:
        """Keep no more than ``most`` seats: give up empty ones first, then idle ones, then higher ones.

        Returns:
            The seats; dismiss() each once nothing is bound to it.
        """

        def rank(seat: int) -> tuple[bool, int, int]:
            worker = self._workers.get(seat)
            busy = 0 if worker is None else {"idle": 1, "starting": 2}.get(worker.state, 3)
            return self.is_bound(seat), busy, -seat

        with self._changed:
            given = sorted(self._wanted, key=rank)[: max(0, len(self._wanted) - most)]
            self._wanted.difference_update(given)
            self._retired.update(given)
        return given

    def is_free(self, seat: int) -> bool:
        """Whether nothing is bound to it."""
        return not self.is_bound(seat)

    def dismiss(self, seat: int, _: object = None) -> None:
        """Tell the worker of a seat that was given up to end; it leaves its queue to the others."""
        with self._changed:
            worker = self._workers.get(seat)
            if worker is not None and seat in self._retired and not self.is_bound(seat) and not self._stop:
                worker._stopping = worker._dismissed = True
                self.seat.stop(seat, _core.STOP_RETIRE)

    def _announce(self) -> None:
        while self._announced:
            try:
                worker = self._announced.pop(0)
            except IndexError:  # another thread was quicker
                return
            self.on_launched(worker)

    def is_ready(self) -> bool:
        """Whether every wanted worker has run its start hook; True too if that cannot be."""
        workers = self.workers
        if self.broken is not None:
            return True
        are_ready = all(self.seat.is_ready(w.id, w._incarnation) for w in workers)
        return are_ready and len(workers) >= len(self._wanted)

    def launch_now(self) -> tuple[Worker, ...]:
        """The workers, those included that the thread was about to launch."""
        if len(self._workers) < len(self._wanted) and self._retry_at is None:
            with self._changed:
                self._start(at_once=True)
            self._announce()
        return self.workers

    def is_empty(self) -> bool:
        """Whether no worker is left."""
        return not self._workers

    def stop(self, how: int) -> None:
        """Ask every worker to end, and launch no more."""
        with self._changed:
            self._stop = max(how, self._stop)
            for worker in self._workers.values():
                worker._stopping = True
                self.seat.stop(worker.id, self._stop)
        self._nudge()

    def join(self) -> None:
        """Wait until the stopped workers are gone; then nothing of the supervisor is left."""
        with self._changed:
            thread = self._thread
        if thread is None:
            self._close()
            return
        if thread is threading.current_thread():  # a callback, called as workers were found dead
            raise RuntimeError("a pool cannot be shut down by its own supervisor: use shutdown(wait=False)")
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
            self._announce()
            due = self._limits.due
            if self._retry_at is not None:
                due = min(due, self._retry_at)
            # In whole milliseconds, which poll() counts, but not to any number; up, or it would look
            # before the time.
            left = min(due - time.monotonic(), _LONGEST_SECONDS)
            timeout = None if due == math.inf else max(0, math.ceil(left * 1000))
            for fd, _ in poll.poll(timeout):
                if fd == self._eventfd:
                    os.eventfd_read(self._eventfd)
                    self._limits.note(0.0)  # it may be a worker that asks
                    self._want_bound()
                    self.on_hungry()
                    while self._calls:
                        self._call(self._calls.pop())
                else:
                    poll.unregister(fd)
                    self._bury(watched.pop(fd))
            if time.monotonic() >= self._limits.due:
                self._limits.look(self._workers, self._kill)
        self._close()

    def ask(self, handle: int, grace: float | None) -> None:
        """Something was asked of a running task: see to it, now and for as long as it takes."""
        self._limits.ask(handle, grace)
        self._nudge()

    def note_limit(self, limit: float) -> None:
        """A task was offered that may run so many seconds."""
        if self._limits.note(limit):
            self._nudge()

    def signal(self, worker: Worker, number: int) -> None:
        """Send a worker that lives a signal, from any thread."""
        with self._changed:  # after the exit code is set, its descriptor may be another's
            if worker.exitcode is None:
                worker._signal(number)

    def _kill(self, worker: Worker) -> None:
        """End a worker that does not end its task."""
        _log.warning(
            "%s: worker %d (pid %d) is replaced: its task did not end in time",
            self.name,
            worker.id,
            worker.pid,
        )
        worker._killed = True
        worker._signal(signal.SIGKILL)

    def _call(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception:  # without this thread nobody would be buried, or replaced
            _log.exception("%s: a call in the supervisor's thread raised", self.name)

    def _nudge(self) -> None:
        """Have the thread look at what is wanted now."""
        with self._open:
            if self._eventfd >= 0:
                os.eventfd_write(self._eventfd, 1)

    def _close(self) -> None:
        with self._open:
            if self._eventfd < 0:
                return
            os.close(self._eventfd)
            self._eventfd = -1
        self.launcher.close()

    def call_later(self, call: Callable[[], object]) -> None:
        """Have the supervisor's thread call ``call``; before any launch there is none: call it here."""
        if self._thread is None:
            call()
        else:
            self._calls.append(call)
            self._nudge()

    def _launch_missing(self) -> None:
        """Fill empty seats, lowest first. Called with the lock held."""
        if self._launching:  # a signal's handler or a finalizer that submits, while this thread launches
            return
        self._launching = True
        try:
            while (seat := self._next_missing()) is not None and self._launch(seat):
                pass
        finally:
            self._launching = False

    def _next_missing(self) -> int | None:
        """The lowest seat that shall have a worker, and has none."""
        if self.broken is not None:
            return None
        # One that was given up is filled again if its worker died before what is bound to it.
        kept = {seat for seat in self._retired if self.is_bound(seat) or self.seat.is_bound(seat)}
        return min((self._wanted | kept) - self._workers.keys(), default=None)

    def _launch(self, seat: int) -> bool:
        """Fill one seat. False: no process is to be had now."""
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
            return False
        self._retry_at = None
        self.seat.take(seat, process.pid)
        self._workers[seat] = Worker(self, seat, incarnation, process)
        self.seat.launched(len(self._workers))
        if seat in self._retired:
            self.dismiss(seat)
        else:
            self._announced.append(self._workers[seat])
        _log.debug("%s: launched worker %d, pid %d", self.name, seat, process.pid)
        return True

    def _want_bound(self) -> None:
        """Launch where a worker has bound a task and nobody was ever wanted."""
        with self._changed:
            for seat in range(1, self._most + 1):
                if seat not in self._wanted and seat not in self._retired and self.seat.is_bound(seat):
                    self._want(seat)

    def _bury(self, worker: Worker) -> None:
        """The kernel says that the worker's process is gone."""
        code = worker._process.reap()
        ready = self.seat.is_ready(worker.id, worker._incarnation)
        unread = self.seat.hang_up(worker.id)
        if not worker._killed:
            self.on_fallen(worker, code)
        again, died, cancelled = self.seat.recover(worker.id, worker.pid, code)
        report = worker._process.report()
        with self._changed:
            worker.exitcode = code
            del self._workers[worker.id]
            self._lost[worker.id] = worker
            self.seat.launched(len(self._workers))
            self._early_deaths = 0 if ready else self._early_deaths + 1
        worker._process.close()
        self.on_undelivered(worker, unread)
        self.on_change()
        if not self._stop:
            self.on_lost(worker, code)
        if code == 0 and (worker._stopping or worker._dismissed):
            return
        if code == EXIT_REPLACE:
            _log.debug("%s: worker %d (pid %d) is replaced", self.name, worker.id, worker.pid)
            return
        _log.warning(
            "%s: worker %d (pid %d) ended with %d: %d tasks failed, %d run again",
            self.name, worker.id, worker.pid, code, died + cancelled, again,
        )  # fmt: skip
        if code == EXIT_START and report:
            error = _start_error(worker, report)
            _log.critical("%s: no worker can start", self.name, exc_info=error)
            self._break(error)
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
