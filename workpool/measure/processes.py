"""What the kernel says about this process and its descendants.

SPDX-License-Identifier: BSD-3-Clause
"""

import ctypes
import os
import time
from collections.abc import Iterable
from pathlib import Path

_libc = ctypes.CDLL(None)


def descendants(root: int) -> list[int]:
    """All living descendants of `root`, a pool's helpers (fork server, resource tracker) among them."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The command, in parentheses, may itself hold spaces and parentheses.
            state, parent, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        if state != "Z":
            children.setdefault(int(parent), []).append(int(stat.parent.name))
    found: list[int] = []
    level = [root]
    while level:
        level = [child for pid in level for child in children.get(pid, [])]
        found += level
    return found


def cpu_ns(pid: int) -> int:
    """CPU time of a process, ended threads included.

    From its CPU clock: /proc/<pid>/stat counts in ticks of 10 ms, as much as the whole bar
    of an idle pool, and /proc/<pid>/schedstat tells of the main thread alone.
    """
    clock = ctypes.c_int()
    if _libc.clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        raise ProcessLookupError(pid)
    return time.clock_gettime_ns(clock.value)


def _cpu_times(pids: Iterable[int]) -> dict[int, int]:
    times = {}
    for pid in pids:
        try:
            times[pid] = cpu_ns(pid)
        except OSError:
            pass  # it has ended
    return times


class CpuMeter:
    """CPU time that this process and its descendants use from `start` to `stop`.

    The tree is looked up when the meter is made and again after it is read, not in between:
    to read all of /proc takes milliseconds of CPU, as much as an idle pool may use.
    """

    def __init__(self) -> None:
        self._pids = [os.getpid(), *descendants(os.getpid())]
        self.start()

    def start(self) -> None:
        self._before = _cpu_times(self._pids)

    def stop(self) -> int:
        """Nanoseconds since the start; of a process launched since then, all it has used."""
        after = _cpu_times(self._pids)
        after |= _cpu_times(pid for pid in descendants(os.getpid()) if pid not in self._pids)
        return sum(ns - self._before.get(pid, 0) for pid, ns in after.items())


def wait_until_quiet(timeout: float = 30.0) -> None:
    """Return when this process and its descendants have nothing left to do, such as to start."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        meter = CpuMeter()
        time.sleep(0.1)
        # 3 ms in 100: some pools poll all the time and are never quieter.
        if meter.stop() < 3_000_000:
            return
    raise TimeoutError(f"the pool's processes did not become idle within {timeout} s")


def memory_bytes(pid: int) -> dict[str, int]:
    """Memory of a process by kind, from /proc/<pid>/smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(size.split()[0]) * 1024 for name, _, size in (line.partition(":") for line in lines)}
