"""Starting worker processes, by our own launcher or a multiprocessing context.

``exec`` runs a fresh interpreter on a bootstrap of one line: it never imports
``__main__``, so scripts need no guard. Descriptors are inherited by number.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from multiprocessing import reduction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from workpool import threads
from workpool.errors import WorkpoolError
from workpool.worker import WorkerConfig, main_multiprocessing

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

_BOOTSTRAP = "import sys; sys.path.insert(0, sys.argv.pop(1)); from workpool.worker import main; main()"


class Process(Protocol):
    """A started worker process."""

    pid: int
    pidfd: int

    def reap(self) -> int:
        """Its exit code, or minus the signal; called once ``pidfd`` is readable."""

    def report(self) -> bytes:
        """What it wrote before it failed to start; empty if it did not."""

    def close(self) -> None:
        """Let go of its descriptors."""


class Launcher(Protocol):
    """Starts workers for one pool."""

    method: str

    def launch(self, seat: int, incarnation: int) -> Process: ...

    def close(self) -> None: ...


def make(method: str | None, context: BaseContext | None, config: WorkerConfig, inherited: Any) -> Launcher:
    """The launcher for a start method or a multiprocessing context.

    Args:
        method: One of the start methods, or None.
        context: A multiprocessing context, or None.
        config: What each worker is told.
        inherited: What multiprocessing alone can hand over, as it starts a process; or None.
    """
    if context is None and is_exec(method):
        return ExecLauncher(config)
    return ContextLauncher(context or multiprocessing.get_context(method), config, inherited)


def is_exec(method: str | None) -> bool:
    """Whether a start method is our own."""
    return method in (None, "exec")


class _Report:
    """The pipe on which a worker that cannot start says why."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)

    def started(self) -> None:
        os.close(self.write_fd)

    def read(self) -> bytes:
        try:
            return os.read(self.read_fd, 1 << 16)
        except BlockingIOError:  # a child of the worker keeps the other end
            return b""

    def close(self) -> None:
        os.close(self.read_fd)


class ExecLauncher:
    """A fresh interpreter for each worker, by posix_spawn."""

    method = "exec"

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        data = pickle.dumps(config)
        self._config_fd = os.memfd_create("workpool-config", os.MFD_CLOEXEC)
        os.write(self._config_fd, data)
        package = str(Path(__file__).resolve().parent.parent)
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        self._command = [sys.executable, *flags, "-c", _BOOTSTRAP, package]

    def launch(self, seat: int, incarnation: int) -> Process:
        report = _Report()
        try:
            command = [
                *self._command,
                str(seat),
                str(incarnation),
                str(self._config_fd),
                str(report.write_fd),
            ]
            environment = threads.environment(self._config.inner_threads, dict(os.environ))
            # Duplicating a descriptor onto itself makes it survive exec in the child alone.
            keep = [*self._config.fds, self._config_fd, report.write_fd]
            actions: list[Any] = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in keep]
            actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
            pid = os.posix_spawn(
                sys.executable, command, environment, file_actions=actions,
                setsigmask=[signal.SIGINT], setsigdef=[signal.SIGPIPE],
            )  # fmt: skip
        except BaseException:
            report.close()
            raise
        finally:
            report.started()
        return _Child(pid, report)

    def close(self) -> None:
        os.close(self._config_fd)


class _Child:
    """A child of this process."""

    def __init__(self, pid: int, report: _Report) -> None:
        self.pid = pid
        self._report = report
        self.pidfd = os.pidfd_open(pid)

    def reap(self) -> int:
        try:
            status = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except ChildProcessError:  # somebody else waits for all children, or SIGCHLD is ignored
            return 255
        if status is None:
            return 255
        return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status

    def report(self) -> bytes:
        return self._report.read()

    def close(self) -> None:
        os.close(self.pidfd)
        self._report.close()


class ContextLauncher:
    """``spawn``, ``forkserver`` or ``fork``, through multiprocessing."""

    def __init__(self, context: BaseContext, config: WorkerConfig, inherited: Any) -> None:
        self._context = context
        self._config = config
        self._inherited = inherited
        self.method = context.get_start_method()

    def launch(self, seat: int, incarnation: int) -> Process:
        report = _Report()
        try:
            # spawn and forkserver resolve these while the process object is pickled.
            handles = None if self.method == "fork" else _Handles([*self._config.fds, report.write_fd])
            process = self._context.Process(  # type: ignore[attr-defined]
                target=main_multiprocessing,
                args=(self._config, handles, seat, incarnation, report.write_fd, self._inherited),
                name=f"workpool-{seat}",
            )
            process.start()
        except BaseException:
            report.close()
            raise
        finally:
            report.started()
        return _ContextChild(process, report)

    def close(self) -> None:
        pass


class _Handles:
    """Descriptors that travel with a process object; in the child a list of handles."""

    def __init__(self, fds: list[int]) -> None:
        self._fds = fds

    def __reduce__(self) -> Any:
        return list, ([reduction.DupFd(fd) for fd in self._fds],)


class _ContextChild:
    def __init__(self, process: Any, report: _Report) -> None:
        self._process = process
        self._report = report
        self.pid: int = process.pid
        try:
            self.pidfd = os.pidfd_open(process.pid)
        except OSError as error:
            raise WorkpoolError(
                f"worker process {process.pid} was gone before it could be watched"
            ) from error

    def reap(self) -> int:
        self._process.join()
        code = self._process.exitcode
        return 255 if code is None else int(code)

    def report(self) -> bytes:
        return self._report.read()

    def close(self) -> None:
        os.close(self.pidfd)
        self._report.close()
        try:
            self._process.close()
        except ValueError:
            pass  # still seen as running: multiprocessing lets go of it later
