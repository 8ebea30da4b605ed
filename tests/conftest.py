"""What holds for every test: a time limit (pyproject.toml) and nothing left behind.

SPDX-License-Identifier: BSD-3-Clause
"""

import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
from collections.abc import Iterator

import pytest
from helpers import children_of, shared_memory_names, wait_until

# A shell starts what runs in its background with SIGINT ignored, and so would be every
# process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def standing_processes() -> set[int | None]:
    """Return the helpers that the standard library starts once and keeps."""
    tracker = multiprocessing.resource_tracker._resource_tracker  # type: ignore[attr-defined]
    server = multiprocessing.forkserver._forkserver  # type: ignore[attr-defined]
    return {tracker._pid, server._forkserver_pid}


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which a child process or a name in /dev/shm is new and stays."""
    children, names = children_of(os.getpid()), shared_memory_names()
    yield
    if request.node.get_closest_marker("leaves_processes"):
        return

    def left() -> dict[str, set[object]]:
        return {
            "processes": children_of(os.getpid()) - children - standing_processes(),
            "/dev/shm": shared_memory_names() - names,
        }

    # What a test lets go of may take a moment to go.
    try:
        wait_until(lambda: not any(left().values()), timeout=5.0)
    except AssertionError:
        pytest.fail(f"left behind: { {what: who for what, who in left().items() if who} }")
