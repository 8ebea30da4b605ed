"""What a type checker says of calls of a pool: read by mypy, never run.

A line with ``type: ignore`` is one that must be refused: mypy --strict complains of an ignore
that nothing needs.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import functools
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import workpool
from workpool import Task, WorkerPool, as_completed, get_pool
from workpool.options import OptionsView
from workpool.results import Results


def one(number: int, *, scale: float = 1.0) -> str:
    return str(number * scale)


def two(number: int, text: str) -> bytes:
    return number * text.encode()


def three(a: int, b: str, c: bytes) -> float:
    return 0.0


def four(a: int, b: int, c: int, d: int) -> list[int]:
    return [a, b, c, d]


async def later(number: int) -> str:
    return str(number)


class Thing:
    def __init__(self, size: int) -> None:
        self.size = size

    def method(self, by: int) -> float:
        return by / self.size


pool = get_pool()
assert_type(pool, WorkerPool[Any, Any])
assert_type(get_pool(max_workers=2), WorkerPool[Any, Any])
get_pool("2")  # type: ignore[arg-type]

# ---- submit ------------------------------------------------------------------------------

assert_type(pool.submit(one, 1), Task[str])
assert_type(pool.submit(one, 1, scale=2), Task[str])
assert_type(pool.submit(later, 1), Task[str])
assert_type(pool.submit(Thing, 1), Task[Thing])
assert_type(pool.submit(Thing(1).method, 2), Task[float])
assert_type(pool.submit(functools.partial(two, 1), "a"), Task[bytes])
pool.submit(one, "1")  # type: ignore[call-overload]
pool.submit(one)  # type: ignore[call-overload]
pool.submit(one, 1, scael=2)  # type: ignore[call-arg, arg-type]
pool.submit(3)  # type: ignore[call-overload]

# ---- map ---------------------------------------------------------------------------------

assert_type(pool.map(one, [1, 2]), Results[str])
assert_type(list(pool.map(one, range(3), chunksize=2, ordered=False, progress=True)), list[str])
assert_type(list(pool.map(later, [1])), list[str])
assert_type(list(pool.map(two, [1], ["a"], progress="text")), list[bytes])
assert_type(list(pool.map(three, [1], ["a"], [b"a"])), list[float])
assert_type(list(pool.map(four, [1], [2], [3], [4])), list[list[int]])
assert_type(next(pool.map(one, [1])), str)
assert_type(list(workpool.map(one, [1], buffersize=3)), list[str])
assert_type(list(workpool.map(two, [1], ["a"])), list[bytes])
assert_type(pool.starmap(two, [(1, "a")]), list[bytes])
assert_type(list(pool.imap(one, [1])), list[str])
assert_type(list(pool.imap_unordered(one, [1])), list[str])
pool.map(one, ["1"])  # type: ignore[arg-type]
pool.map(two, [1], [2])  # type: ignore[arg-type]
pool.map(one, [1], chunksise=2)  # type: ignore[call-overload]
workpool.map(one, ["1"])  # type: ignore[arg-type]

# ---- options -----------------------------------------------------------------------------

typed = WorkerPool(one)
view = typed.options(retries=2, key="k")
assert_type(view, OptionsView[int, str])
assert_type(view.add_task(1), Task[str])
assert_type(view.submit(two, 1, "a"), Task[bytes])
assert_type(list(view.map(one, [1])), list[str])
view.add_task("1")  # type: ignore[arg-type]
view.submit(two, 1, 2)  # type: ignore[call-overload]
view.map(one, ["1"])  # type: ignore[arg-type]
pool.options(retrys=2)  # type: ignore[call-arg]

# ---- event loops -------------------------------------------------------------------------


async def main() -> None:
    async with WorkerPool(one) as own:
        assert_type(own, WorkerPool[int, str])
        assert_type(await own.add_task_async(1), Task[str])
        assert_type(await own.submit_async(two, 1, "a"), Task[bytes])
        assert_type(await (await own.submit_async(two, 1, "a")), bytes)
        assert_type([result async for result in own.map(one, [1])], list[str])
        tasks = [own.submit(one, number) for number in range(3)]
        async for task in as_completed(tasks, timeout=3):
            assert_type(task, Task[str])
        for task in as_completed(tasks):
            assert_type(task.result(), str)
        assert_type(await asyncio.get_running_loop().run_in_executor(own, one, 1), str)
        await own.submit_async(two, 1, 2)  # type: ignore[arg-type]
        await own.when_idle()


# ---- arrays ------------------------------------------------------------------------------

assert_type(pool.zeros((2, 3)), NDArray[Any])
assert_type(pool.array([1, 2]), NDArray[Any])


def total(rows: NDArray[np.float64]) -> float:
    return float(rows.sum())


assert_type(pool.reduce(total, pool.zeros(3)), float)
pool.empty("3")  # type: ignore[arg-type]
pool.parallel_for(one, "3")  # type: ignore[arg-type]
