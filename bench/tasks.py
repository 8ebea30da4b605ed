"""The functions that the cases send to workers.

Importable, and next to nothing imported at the top: every worker imports this module, and
what that takes is in the start-up figure of every pool.

SPDX-License-Identifier: BSD-3-Clause
"""

import time


def identity(value: int) -> int:
    return value


def burn(cpu_ms: float) -> None:
    """Use the CPU for so long. CPU time and not wall time: a task that is preempted is not done sooner."""
    end_ns = time.thread_time_ns() + int(cpu_ms * 1e6)
    while time.thread_time_ns() < end_ns:
        pass


def can_submit(_: None) -> bool:
    """Can tasks be submitted from inside this worker? In most pools they cannot."""
    try:
        from workpool import current_client

        return hasattr(current_client(), "submit")
    except (ImportError, RuntimeError):
        return False


def burn_nested(count: int) -> None:
    """Fill this worker's own deque with `count` tasks of 1 ms and wait for them."""
    from typing import Any

    from workpool import current_client

    client: Any = current_client()
    for task in [client.submit(burn, 1.0) for _ in range(count)]:
        task.result()
