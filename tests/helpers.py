"""What tests share: ``from helpers import wait_until``.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent


def wait_until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Return as soon as ``condition()`` is true; fail when it is not within ``timeout`` seconds.

    What the condition says last is in the failure, so let it return what is being waited
    on where that helps: ``wait_until(lambda: pool.is_idle)``.
    """
    end = time.monotonic() + timeout
    nap = 0.0005
    while not (answer := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {condition}, at last {answer!r}")
        time.sleep(nap)
        nap = min(2 * nap, 0.02)


def children_of(pid: int) -> set[int]:
    """Return the children of a process, those included that nobody has waited for."""
    children = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = Path(entry.path, "stat").read_text()
            except OSError:
                continue  # gone since
            # "pid (name) state ppid …", and a name may hold anything
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                children.add(int(entry.name))
    return children


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and has not ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def shared_memory_names() -> set[str]:
    """Return the names of segments in ``/dev/shm``: others' semaphores and folders come and go."""
    return {entry.name for entry in os.scandir("/dev/shm") if entry.name.startswith("psm_")}
