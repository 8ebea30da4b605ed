"""What the tests of nested tasks run in workers, imported there by name.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import sys
import threading
from typing import Any

import pool_tasks as tasks

from workpool import current_client


def fib(n: int) -> int:
    if n < 2:
        return n
    left, right = current_client().submit(fib, n - 1), current_client().submit(fib, n - 2)
    return int(left.result() + right.result())


def chain(depth: int) -> int:
    return 0 if depth == 0 else 1 + int(current_client().submit(chain, depth - 1).result())


async def chain_later(depth: int) -> int:
    return 0 if depth == 0 else 1 + int(await current_client().submit(chain_later, depth - 1))


async def fib_later(n: int) -> int:
    if n < 2:
        return n
    import asyncio

    client = current_client()
    return sum(await asyncio.gather(*[wrapped(client.submit(fib_later, n - k)) for k in (1, 2)]))


async def wrapped(task: Any) -> int:
    return int(await task)


def entry(arg: Any, client: Any) -> Any:
    """An entrypoint: the sum of the leaves of nested tuples, or who runs a leaf."""
    if isinstance(arg, tuple):
        return sum(child.result() for child in [client.add_task(part) for part in arg])
    return arg


def tagged(arg: Any, client: Any) -> Any:
    if arg == "top":
        child = client.add_task("child", key=("k", 1), meta={"m": 2})
        return child.argument, child.key, child.meta, child.result()
    return client.task.key, client.task.meta, client.task.attempt


def dying_child(arg: Any, client: Any) -> Any:
    if arg == "top":
        return client.add_task("child", retries=2).result()
    if client.task.attempt < 3:
        os._exit(1)
    return client.task.attempt


def refused(arg: Any, client: Any) -> str:
    """What client.add_task says of so many retries."""
    if arg == "child":
        return "ran"
    try:
        child = client.add_task("child", retries=arg)
    except (ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return str(child.result(5))


def sent(arg: Any, client: Any) -> Any:
    """Children that are sent to workers, by id and strength; each says where it ran."""
    if arg is None:
        return client.worker_id
    children = [
        client.add_task(None, worker_affinity=seat, affinity_strength=strength, priority=priority)
        for seat, strength, priority in arg
    ]
    return [child.result(20) for child in children]


def sent_wrongly(options: dict[str, Any], client: Any) -> str:
    try:
        client.add_task(None, **options)
    except (ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return "sent"


def worker_of(*_: Any) -> int:
    return current_client().worker_id


def bound_through_an_inner_pool(seats: list[int]) -> list[list[int]]:
    from workpool import WorkerPool

    with WorkerPool() as pool:
        views = [pool.options(worker_affinity=seat, affinity_strength="force", key="k") for seat in seats]
        here = [view.submit(worker_of).result(20) for view in views]
        return [here, *[list(view.map(worker_of, range(2), chunksize=1)) for view in views]]


def mapped(n: int) -> list[int]:
    return list(current_client().map(tasks.add, range(n), range(n), chunksize=3))


def mapped_of_maps(n: int) -> list[list[int]]:
    return list(current_client().map(mapped, range(n)))


def keyworded() -> Any:
    return current_client().submit(tasks.keywords, 1, fn=2, key=3).result()


def waited(n: int) -> tuple[int, int]:
    import concurrent.futures

    futures = [current_client().submit(tasks.echo, number) for number in range(n)]
    done, pending = concurrent.futures.wait(futures, timeout=20)
    return len(done), len(pending)


def first_completed(n: int) -> Any:
    import concurrent.futures

    futures = [current_client().submit(tasks.echo, number) for number in range(n)]
    done, _ = concurrent.futures.wait(futures, timeout=20, return_when="FIRST_COMPLETED")
    return len(done) >= 1, sorted(future.result() for future in futures)


def completed(n: int) -> list[int]:
    import concurrent.futures

    futures = [current_client().submit(tasks.echo, number) for number in range(n)]
    return sorted(future.result() for future in concurrent.futures.as_completed(futures, timeout=20))


def called_back(n: int) -> list[int]:
    called: list[int] = []
    futures = [current_client().submit(tasks.echo, number) for number in range(n)]
    for future in futures:
        future.add_done_callback(lambda task: called.append(task.result()))
    for future in futures:
        future.result()
    return sorted(called)


async def awaited(n: int) -> list[int]:
    client = current_client()
    return [await client.submit(tasks.echo, number) for number in range(n)]


async def gathered(n: int) -> list[int]:
    import asyncio

    client = current_client()
    return list(await asyncio.gather(*[asyncio.wrap_future(client.submit(tasks.echo, k)) for k in range(n)]))


def children(n: int) -> int:
    """More of them than slots: what has none runs here."""
    futures = [current_client().submit(tasks.echo, number) for number in range(n)]
    return sum(future.result() for future in futures)


def fire_and_forget(trace: str, n: int, gate: str | None = None) -> None:
    for number in range(n):
        current_client().submit(forgotten, trace, number, gate)


def forgotten(trace: str, number: int, gate: str | None) -> None:
    if gate is not None:
        tasks.enter(gate)
    tasks.mark(trace, number)


def family(trace: str, depth: int) -> None:
    """Leave children that leave children."""
    tasks.mark(trace, depth)
    if depth:
        for _ in range(2):
            current_client().submit(family, trace, depth - 1)


def fail_below(levels: int) -> Any:
    if levels == 0:
        raise tasks.OwnError("at the bottom")
    return current_client().submit(fail_below, levels - 1).result()


def catch_below() -> str:
    try:
        current_client().submit(fail_below, 2).result()
    except tasks.OwnError as error:
        return f"caught {error}"
    return "nothing caught"


def unpicklable_child(what: str) -> str:
    client = current_client()
    child = client.submit(tasks.give, "generator") if what == "result" else client.submit(tasks.echo, lock)
    return type(child.exception()).__name__


lock = threading.Lock()


def wait_locked(value: Any) -> Any:
    """Wait for a child with the lock held: no other task that wants it may run here meanwhile."""
    with lock:
        return current_client().submit(tasks.echo, value).result()


def take_lock(value: Any) -> Any:
    if not lock.acquire(timeout=20):
        raise AssertionError("the lock is held by a task below this one")
    lock.release()
    return value


def timed_out(gate: str) -> str:
    child = current_client().submit(tasks.enter, gate)
    try:
        child.result(0.001)
    except TimeoutError:
        return "in time"
    return "too late"


def cancelled(n: int) -> tuple[int, int]:
    futures = [current_client().submit(tasks.echo, number) for number in range(n)]
    gone = [future for future in futures[::2] if future.cancel()]
    done = [future for future in futures if not future.cancelled()]
    return len(gone), sum(1 for future in done if future.result() >= 0)


def submitted_by_a_thread(n: int) -> list[int]:
    client = current_client()
    results: list[int] = []

    def work() -> None:
        results.extend(future.result(20) for future in [client.submit(tasks.echo, k) for k in range(n)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return results


def gathered_by_a_thread(rounds: int) -> int:
    """Wait for tasks that another thread looks at all the while."""
    from concurrent.futures import wait

    client = current_client()
    sent: list[Any] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for task in list(sent):
                task.done()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(rounds):
            sent[:] = [client.submit(tasks.echo, number) for number in range(4)]
            wait(sent)
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(before)
    return rounds


def own_info(depth: int) -> list[Any]:
    """What client.task says before and after a child was waited for."""
    client = current_client()
    before = client.task
    below = client.submit(own_info, depth - 1).result() if depth else []
    after = client.task
    assert before is not None
    assert after is not None
    assert (before.id, before.key) == (after.id, after.key)
    return [before.id, *below]
