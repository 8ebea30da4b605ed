"""A worker's main: what it is told, and how it begins and ends.

What a fresh worker imports is kept short, because every import is paid before the first
result: this module, the core, pickle. NumPy, asyncio and cloudpickle come with the first
task that needs them.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import signal
import sys

from workpool import _core, authkey, logs, payload, stacks, threads
from workpool.runner import Runner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The worker could not start: its start hook raised, or its entrypoint cannot be loaded.
EXIT_START = 70
# It has run as many tasks as it may, or grown too large: between two tasks, with none in its hands.
EXIT_REPLACE = 71


class WorkerConfig:
    """What every worker of a pool is told.

    Attributes:
        control_fd, arena_fd, parent_pidfd, hungry_fd, eventfds: Descriptors, as they are numbered
            in the worker.
        grow_at: More unfinished tasks of its own than this, and a worker asks, on
            ``hungry_fd``, for another worker.
        grace: Seconds between an interrupt of a task and the end of this process.
        max_tasks, max_memory: What a process may run, and how many bytes it may have of its own,
            before it is replaced; or None.
        lifeline_fd, lifeline_end: A pipe that the parent closes when it becomes another program; its
            own end, which a forked worker has too, and closes.
        stacks_fd: Where a worker writes its stacks when it is asked.
        levels: Of the parent's loggers.
        name: The pool's.
        inner_threads: For BLAS and OpenMP; None leaves them alone.
        authkey: The parent's, for its multiprocessing managers.
        work: Pickled ``(EntrypointSpec, initializer, initargs)``: needs ``sys_path`` first.
    """

    def __init__(
        self,
        *,
        control_fd: int,
        arena_fd: int,
        control_bytes: int,
        arena_bytes: int,
        parent_pidfd: int,
        eventfds: tuple[int, ...],
        sys_path: tuple[str, ...],
        spin: float,
        concurrency: int,
        hungry_fd: int,
        grow_at: float,
        grace: float,
        max_tasks: int | None,
        max_memory: int | None,
        stacks_fd: int,
        lifeline_fd: int,
        lifeline_end: int,
        levels: dict[str, int],
        name: str,
        inner_threads: int | None,
        authkey: bytes,
        work: bytes,
    ) -> None:
        self.control_fd = control_fd
        self.arena_fd = arena_fd
        self.control_bytes = control_bytes
        self.arena_bytes = arena_bytes
        self.parent_pidfd = parent_pidfd
        self.eventfds = eventfds
        self.sys_path = sys_path
        self.spin = spin
        self.concurrency = concurrency
        self.hungry_fd = hungry_fd
        self.grow_at = grow_at
        self.grace = grace
        self.max_tasks = max_tasks
        self.max_memory = max_memory
        self.stacks_fd = stacks_fd
        self.lifeline_fd = lifeline_fd
        self.lifeline_end = lifeline_end
        self.levels = levels
        self.name = name
        self.inner_threads = inner_threads
        self.authkey = authkey
        self.work = work

    @property
    def fds(self) -> list[int]:
        """All descriptors a worker needs."""
        first = [self.control_fd, self.arena_fd, self.parent_pidfd, self.hungry_fd]
        return [*first, self.stacks_fd, self.lifeline_fd, *self.eventfds]

    def with_fds(self, fds: list[int]) -> WorkerConfig:
        """The same with other descriptors, in the order of ``fds``."""
        control, arena, parent, hungry, stacks, lifeline, *eventfds = fds
        told = vars(self) | {"control_fd": control, "arena_fd": arena, "parent_pidfd": parent}
        return WorkerConfig(
            **told
            | {"hungry_fd": hungry, "stacks_fd": stacks, "lifeline_fd": lifeline, "eventfds": tuple(eventfds)}
        )


def main() -> None:
    """Entry of a worker started by ``exec``: argv is seat, incarnation, config fd, report fd."""
    seat, incarnation, config_fd, report_fd = map(int, sys.argv[1:5])
    sys.argv[1:] = []
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # into a pipe, too: not at its end
    data = os.pread(config_fd, os.fstat(config_fd).st_size, 0)
    os.close(config_fd)
    code = run(pickle.loads(data), seat, incarnation, report_fd)
    sys.exit(code)


def main_multiprocessing(
    config: WorkerConfig, handles: Any, seat: int, incarnation: int, report_fd: int, inherited: Any
) -> None:
    """Entry of a worker started through a multiprocessing context.

    Args:
        config: What every worker is told; with ``handles``, its descriptors are replaced.
        handles: What brings the descriptors into this process, in the order of
            ``WorkerConfig.fds`` with ``report_fd`` last; None if it inherited them.
        seat: Which seat it is for.
        incarnation: How many processes sat there before it, and itself.
        report_fd: Where to say why it cannot start.
        inherited: ``(initializer, initargs)``, if they travel with the process; else None.
    """
    if handles is not None:
        *fds, report_fd = [handle.detach() for handle in handles]
        config = config.with_fds(fds)
    else:
        os.close(config.lifeline_end)
    code = run(config, seat, incarnation, report_fd, inherited)
    if code:
        sys.exit(code)


def run(config: WorkerConfig, index: int, incarnation: int, report_fd: int, inherited: Any = None) -> int:
    """Be a worker; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _core.watch_parent(config.parent_pidfd, config.lifeline_fd)
    sys.path[:] = config.sys_path
    _set_title(f"{config.name} worker {index}", f"wp{index} {config.name}")
    threads.limit(config.inner_threads)
    authkey.give(config.authkey)
    control = mmap.mmap(config.control_fd, config.control_bytes)
    arena = mmap.mmap(config.arena_fd, config.arena_bytes)
    # The arena stays: arrays in it are a task's own, and so a fork's of the task.
    _core.dont_fork(control)
    seat = _core.Seat(control, arena, config.arena_fd, index)
    for other, fd in enumerate(config.eventfds):
        seat.eventfd(other, fd)
    seat.spin(config.spin)
    runner = Runner(seat, config, incarnation)
    os.register_at_fork(after_in_child=runner.forked)
    stacks.listen(config.stacks_fd)
    post = runner.client.post_message_to_pool
    logs.install(lambda record: post(logs.RECORD, record), config.levels)
    try:
        runner.start(inherited)
    except BaseException as error:
        os.write(report_fd, payload.pack_exception(error)[:60_000])
        return EXIT_START
    os.close(report_fd)
    runner.listen()
    seat.ready(incarnation)
    spent = runner.serve()
    runner.end()
    return EXIT_REPLACE if spent else 0


def _set_title(title: str, short: str) -> None:
    """What ``ps`` and ``top`` show: all of it with setproctitle, else fifteen characters."""
    if "setproctitle" in sys.modules or _is_installed("setproctitle"):
        import setproctitle

        setproctitle.setproctitle(title)
        return
    try:
        fd = os.open("/proc/self/comm", os.O_WRONLY)
    except OSError:
        return  # no such file system here
    os.write(fd, short.encode()[:15])
    os.close(fd)


def _is_installed(name: str) -> bool:
    return any(os.access(f"{folder}/{name}", os.F_OK) for folder in sys.path)
