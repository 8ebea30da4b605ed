"""The functions that the cases send to workers.

Importable, and next to nothing imported at the top: every worker imports this module, and
what that takes is in the start-up figure of every pool.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import time
from typing import Any


def identity(value: int) -> int:
    return value


def apply_to_all(work: tuple[Any, list[Any]]) -> list[Any]:
    """A chunk of a map."""
    function, items = work
    return [function(item) for item in items]


def own_pid(seconds: float) -> int:
    """Who answers; after a nap, so that the next task is another worker's."""
    time.sleep(seconds)
    return os.getpid()


def burn(cpu_ms: float) -> None:
    """Use the CPU for so long. CPU time and not wall time: a task that is preempted is not done sooner."""
    end_ns = time.thread_time_ns() + int(cpu_ms * 1e6)
    while time.thread_time_ns() < end_ns:
        pass


def timed_burn(cpu_ms: float) -> float:
    """As burn(); the seconds it took by the clock on the wall."""
    start = time.perf_counter()
    burn(cpu_ms)
    return time.perf_counter() - start


def nap_from(seconds: float) -> float:
    """When it began, by the clock that all processes share; then sleep."""
    begun = time.monotonic()
    time.sleep(seconds)
    return begun


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


def fib_nested(n: int) -> int:
    """Each call is a task that waits for two others, down to those that do nothing."""
    from typing import Any

    from workpool import current_client

    if n < 2:
        return n
    client: Any = current_client()
    one, two = client.submit(fib_nested, n - 1), client.submit(fib_nested, n - 2)
    total: int = one.result() + two.result()
    return total


def count_to(steps: int) -> int:
    """Pure Python for a time in proportion to ``steps``."""
    total = 0
    for step in range(steps):
        total += step
    return total


def answer_messages(count: int) -> None:
    """Have this worker answer "ping" with "pong", and the last of `count` numbers with "counted"."""
    from workpool import current_client

    received = 0

    def ping(contents: Any, client: Any) -> None:
        client.post_message_to_pool("pong", contents)

    def number(contents: int, client: Any) -> None:
        nonlocal received
        received += 1
        if received % count == 0:
            client.post_message_to_pool("counted")

    client = current_client()
    client.on_message("ping", ping)
    client.on_message("number", number)


def post_messages(count: int) -> None:
    from workpool import current_client

    post = current_client().post_message_to_pool
    for number in range(count):
        post("number", number)


def seen_array(array: Any) -> int:
    return len(array)


def added_array(array: Any) -> Any:
    return array + 1


def made_array(items: int) -> Any:
    from workpool import current_client

    return current_client().empty(items)


def write_array(array: Any) -> None:
    array += 1


def row_kernel(block: Any) -> Any:
    """About 1 us a row, in the CPU's own caches."""
    import numpy as np

    result = block.copy()
    for _ in range(100):
        np.sin(result, out=result)
    return result
