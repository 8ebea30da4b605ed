"""Stacks: where each worker is, by a signal that needs no interpreter to answer.

The dump goes to a file in memory that all workers inherit; a worker that is stuck in C code
answers too.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from workpool.supervisor import Worker

# A real-time signal, which nothing else sends; only workers that listen to it are signalled.
SIGNAL = signal.SIGRTMIN + 9

# A dump takes less than a millisecond; that of a stopped process never comes.
_PATIENCE_SECONDS = 1.0
_QUIET_SECONDS = 0.02


def listen(fd: int) -> None:
    """In a worker: write all threads' stacks to ``fd`` when signalled, and to stderr at a crash."""
    import faulthandler

    try:
        faulthandler.enable()
    except (AttributeError, OSError, RuntimeError, ValueError):  # it has no stderr
        pass
    faulthandler.register(SIGNAL, file=fd, all_threads=True)


def dump(workers: tuple[Worker, ...], fd: int, send: Callable[[Worker, int], None]) -> str:
    """The stacks of all workers, as text."""
    parts = []
    for worker in workers:
        state = worker.state
        told = "" if state == "starting" else _ask(worker, fd, send)
        parts.append(f"worker {worker.id} (pid {worker.pid}), {state}:\n{told or '  (no answer)' + chr(10)}")
    return "\n".join(parts)


def _ask(worker: Worker, fd: int, send: Callable[[Worker, int], None]) -> str:
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    send(worker, SIGNAL)
    end = time.monotonic() + _PATIENCE_SECONDS
    size = 0
    while time.monotonic() < end:
        time.sleep(_QUIET_SECONDS)
        before, size = size, os.fstat(fd).st_size
        if size and size == before:
            break
    return os.pread(fd, size, 0).decode(errors="replace")
