"""The pool's shared memory: made, unlinked at once, reserved before it is touched.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import errno
import os
import sys
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from workpool import _core
from workpool.errors import ArenaFull

# Slots of the parent and of each worker: a burst beyond them waits in the parent's
# backlog; a worker beyond them runs its own tasks first.
PARENT_SLOTS = 16384
WORKER_SLOTS = 1024

_ARENA_FLOOR = 1 << 20


class Segments:
    """The control segment and the arena of one pool.

    Raises:
        ArenaFull: The system's shared memory cannot hold the control segment.
    """

    def __init__(self, seats: int, cpus: int, memory: int | None, polls: bool) -> None:
        self.arena_bytes = shared_memory_free() // 2 if memory is None else memory
        self.arena_bytes = max(self.arena_bytes, _ARENA_FLOOR)
        shape = (seats, PARENT_SLOTS, WORKER_SLOTS, self.arena_bytes)
        control_bytes, arena_mapping = _core.sizes(*shape)
        self.control = _create(control_bytes)
        try:
            if _core.reserve(_fd(self.control), control_bytes) == errno.ENOSPC:
                raise ArenaFull(control_bytes, True, self.arena_bytes, self.arena_bytes)
            _core.lay_out(self.control.buf, *shape, cpus, polls)
            self.arena = _create(arena_mapping)
        except BaseException:
            self.control.close()
            raise
        self.control_fd = _fd(self.control)
        self.arena_fd = _fd(self.arena)

    @property
    def control_bytes(self) -> int:
        """Size of the control segment's mapping."""
        return self.control.size

    def close(self) -> None:
        """Unmap; what a live view still needs stays mapped until it is gone."""
        for memory in (self.control, self.arena):
            try:
                memory.close()
            except BufferError:
                _keep_mapped(memory)


def shared_memory_free() -> int:
    """Bytes that ``/dev/shm`` can still give; half the memory where there is none."""
    try:
        status = os.statvfs("/dev/shm")
        return status.f_bavail * status.f_frsize
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _create(size: int) -> SharedMemory:
    # The name lives for an instant: workers inherit the descriptor.
    options: dict[str, Any] = {"track": False} if sys.version_info >= (3, 13) else {}
    memory = SharedMemory(create=True, size=size, **options)
    memory.unlink()
    return memory


def _fd(memory: SharedMemory) -> int:
    return memory._fd  # type: ignore[attr-defined,no-any-return]


def _keep_mapped(memory: SharedMemory) -> None:
    """Close the descriptor now, and leave the mapping to its last view."""
    if memory._fd >= 0:  # type: ignore[attr-defined]
        os.close(memory._fd)  # type: ignore[attr-defined]
        memory._fd = -1  # type: ignore[attr-defined]
    memory._mmap = None  # type: ignore[attr-defined]
    memory._buf = None  # type: ignore[attr-defined]
