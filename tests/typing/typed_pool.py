"""What a type checker says of pools: read by mypy, never run.

SPDX-License-Identifier: BSD-3-Clause
"""

from typing import Any, assert_type

import workpool
from workpool import Task, WorkerClient, WorkerPool


def plain(arg: int) -> str:
    return str(arg)


def with_client(arg: int, client: WorkerClient) -> str:
    return str(arg)


async def later(arg: int) -> str:
    return str(arg)


async def later_with_client(arg: int, client: WorkerClient) -> str:
    return str(arg)


@workpool.entrypoint
def decorated(arg: int, client: WorkerClient) -> str:
    return str(arg)


assert_type(WorkerPool(), WorkerPool[Any, Any])
assert_type(WorkerPool("my_worker.py", 2), WorkerPool[Any, Any])
assert_type(WorkerPool(plain), WorkerPool[int, str])
assert_type(WorkerPool(with_client), WorkerPool[int, str])
assert_type(WorkerPool(later), WorkerPool[int, str])
assert_type(WorkerPool(later_with_client), WorkerPool[int, str])
assert_type(WorkerPool(decorated, max_workers=2, spin=0), WorkerPool[int, str])

pool = WorkerPool(plain)
assert_type(pool.add_task(1), Task[str])
assert_type(pool.add_task(1).result(), str)
assert_type(pool.submit(len, "abc"), Task[int])
assert_type(list(pool.map(plain, [1])), list[str])
assert_type(pool.run_on_workers(plain, 1), list[str])
pool.add_task("1")  # type: ignore[arg-type]
WorkerPool(plain, memroy=1)  # type: ignore[call-overload]


async def main() -> None:
    assert_type(await pool.add_task(1), str)
