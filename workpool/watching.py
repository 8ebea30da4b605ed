"""Other processes' pools, found and looked at from outside.

The shared memory of a pool has no name, so it is found through those who hold it: the
descriptors of this user's processes that are links to deleted names in ``/dev/shm``. The
control segment is mapped read-only; which of them it is, and of which release, its own
head says. The arena is not mapped at all.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from workpool import _core, _look

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARED_MEMORY = "/dev/shm/"
_DELETED = " (deleted)"


class Holder(NamedTuple):
    """A descriptor of a process."""

    pid: int
    fd: int

    @property
    def path(self) -> str:
        """What opens the same file again."""
        return f"/proc/{self.pid}/fd/{self.fd}"


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """What can be seen of one worker; counters belong to the seat, and a replacement goes on counting."""

    id: int
    pid: int
    state: str  # "starting", "idle", "running", "stopping"
    tasks_run: int
    busy_seconds: float  # in tasks, the running one's time included
    steals: int
    queued: int  # tasks that wait here
    load: float  # seconds of them: by their estimates, else by what its tasks usually take
    arena_bytes: int


@dataclass(frozen=True, slots=True)
class SeenPool:
    """A snapshot; fields may be a few microseconds apart."""

    at: float  # seconds, of a clock that does not jump
    tasks_done: int  # that the parent submitted
    tasks_queued: int
    tasks_running: int
    queued_in_parent: int  # part of tasks_queued: bound to no worker
    arena_budget_bytes: int
    arena_bytes: int
    workers: tuple[SeenWorker, ...]


@dataclass
class Watched:
    """A pool of another process.

    Attributes:
        holders: Who has its control segment open.
        identity: Device and inode of the control segment.
    """

    holders: list[Holder]
    identity: tuple[int, int]
    _look: _look.Look
    name: str = field(init=False)
    pid: int = field(init=False)

    def __post_init__(self) -> None:
        workers = {pid: seat for seat, (pid, *_) in enumerate(self._look.look()) if pid}
        others = {holder.pid for holder in self.holders} - set(workers)
        # Forks of the parent may hold it too: they are younger.
        self.pid = min(others, key=_started, default=0)
        names = (_pool_of_worker(pid, seat) for pid, seat in workers.items())
        self.name = next(filter(None, names), "")

    @property
    def lives(self) -> bool:
        """Whether somebody still holds it: its parent, if that is known."""
        return any(
            _identity(holder.path) == self.identity for holder in self.holders if self.pid in (holder.pid, 0)
        )

    def snapshot(self) -> SeenPool:
        """Look at all of it."""
        looks = self._look.look()
        (budget, _, used, _), arena = self._look.usage()
        _, _, ready, claimed, running, _ = self._look.phases()
        now_ns = _look.now_ns()
        workers = []
        for seat, look in enumerate(looks):
            pid, stop, due, ready_there, runs, since_ns, mean_ns, queued, unknown, known_us = look
            if seat == 0 or not (pid or due):
                continue
            counted = self._counters(seat)
            busy_ns = counted["run_ns"] + (max(now_ns - since_ns, 0) if runs else 0)
            workers.append(
                SeenWorker(
                    id=seat,
                    pid=pid,
                    state=_state(stop, ready_there, runs),
                    tasks_run=counted["run"],
                    busy_seconds=busy_ns / 1e9,
                    steals=counted["steals"],
                    queued=queued,
                    load=known_us / 1e6 + unknown * mean_ns / 1e9,
                    arena_bytes=arena[seat][0],
                )
            )
        return SeenPool(
            at=now_ns / 1e9,
            tasks_done=self._counters(0)["released"],
            tasks_queued=ready,
            tasks_running=claimed + running,
            queued_in_parent=looks[0][7],
            arena_budget_bytes=budget,
            arena_bytes=used,
            workers=tuple(workers),
        )

    def _counters(self, seat: int) -> dict[str, int]:
        return dict(zip(_core.STATISTICS, self._look.statistics(seat), strict=True))


def find_pools() -> tuple[list[Watched], int]:
    """Find this user's pools on this machine.

    Returns:
        The pools, by their parents' process ids, and how many there are of other releases.
    """
    holders: dict[tuple[int, int], list[Holder]] = {}
    for holder in _holders_of_deleted():
        identity = _identity(holder.path)
        if identity is not None:
            holders.setdefault(identity, []).append(holder)
    pools, strange = [], 0
    for identity, held in holders.items():
        try:
            look = _open(held)
        except _look.NotAPool as error:
            strange += error.check == _look.OTHER_RELEASE
            continue
        except OSError:
            continue  # it went while we looked
        pools.append(Watched(held, identity, look))
    return sorted(pools, key=lambda pool: pool.pid), strange


def _open(holders: list[Holder]) -> _look.Look:
    for holder in holders:
        try:
            fd = os.open(holder.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # gone; the next may have it still
        try:
            size = os.fstat(fd).st_size
            if size < mmap.PAGESIZE:
                raise _look.NotAPool(_look.ALIEN)
            return _look.Look(mmap.mmap(fd, size, prot=mmap.PROT_READ))
        finally:
            os.close(fd)
    raise ProcessLookupError("nobody holds it any more")


def _holders_of_deleted() -> Iterator[Holder]:
    own = os.getuid()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            if entry.stat().st_uid != own:
                continue
            names = os.listdir(f"{entry.path}/fd")
        except OSError:
            continue  # it ended, or it is not to be looked at
        for name in names:
            try:
                target = str(Path(entry.path, "fd", name).readlink())
            except OSError:
                continue
            if target.startswith(_SHARED_MEMORY) and target.endswith(_DELETED):
                yield Holder(int(entry.name), int(name))


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _started(pid: int) -> int:
    """When a process began, in ticks since the machine did; a process that is gone is the youngest."""
    try:
        # The command, in parentheses, may itself hold spaces and parentheses.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 1 << 62


def _pool_of_worker(pid: int, seat: int) -> str:
    """The pool's name from what a worker calls itself (worker.py): whole, or its first characters."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")
        short = Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return ""
    for text, before, after in ((title, "", f" worker {seat}"), (short, f"wp{seat} ", "")):
        if "\0" not in text and text.startswith(before) and text.endswith(after):
            return text.removeprefix(before).removesuffix(after)
    return ""


def _state(stop: int, ready: bool, runs: bool) -> str:
    if stop != _look.STOP_NO:
        return "stopping"
    if not ready:
        return "starting"
    return "running" if runs else "idle"
