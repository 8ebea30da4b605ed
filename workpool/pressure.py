"""When shared memory is full: who waits for room, for how long, and who gives it back.

What can never fit fails at once. Else room comes: from outcomes that are gathered, from
views that are let go of. It is looked for, not signalled: a block may be freed by any
process, and by the end of any object.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import time

from workpool.errors import ArenaFull

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

# Without any unfinished task only garbage may still free something: so long is waited for that.
GRACE_SECONDS = 1.0

# A worker waits so long with a result in its hands. The pool's process may be at something
# else meanwhile, and gather nothing.
RESULT_SECONDS = 30.0

_FIRST_NAP_SECONDS, _LAST_NAP_SECONDS = 0.0001, 0.005


def when_it_fits(
    attempt: Callable[[], T], look: Callable[[], object], is_busy: Callable[[], bool], limit: float | None
) -> T:
    """What ``attempt()`` returns, once it raises no ``ArenaFull`` any more.

    Args:
        attempt: Raises ``ArenaFull`` and has changed nothing while there is no room.
        look: Called between attempts: gathers what is done, or runs a task.
        is_busy: Whether a task is unfinished: its end may make room.
        limit: Seconds of waiting while it is; None for as long as it takes.

    Raises:
        ArenaFull: It can never fit, or the time is up.
    """
    begun = free_since = time.monotonic()
    nap = _FIRST_NAP_SECONDS
    while True:
        try:
            return attempt()
        except ArenaFull as full:
            now = time.monotonic()
            if is_busy():
                free_since = now
            if full.never or now - free_since > GRACE_SECONDS or (limit is not None and now - begun > limit):
                raise
        look()
        time.sleep(nap)
        nap = min(2 * nap, _LAST_NAP_SECONDS)
