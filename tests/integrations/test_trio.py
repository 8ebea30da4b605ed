"""trio and anyio, by the recipes of docs/integrations.md.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import ROOT
from pool_support import Gate

from workpool import Task, WorkerPool

anyio = pytest.importorskip("anyio")
trio = pytest.importorskip("trio")

Pool = WorkerPool[Any, Any]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready()
        yield pool


def recipe(name: str) -> Any:
    """``result_of`` of the block of docs/integrations.md that is called ``name``."""
    text = (ROOT / "docs" / "integrations.md").read_text()
    program = text.partition(f"# {name}\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(program, names)
    return names["result_of"]


def test_trio_awaits_many_tasks_at_once(pool: Pool) -> None:
    got: list[int] = []
    result_of = recipe("with_trio.py")

    async def one(number: int) -> None:
        got.append(await result_of(pool.submit(tasks.echo, number)))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(one, number)

    trio.run(main)
    assert sorted(got) == list(range(100))


def test_trio_gets_the_exception_and_is_not_held_up(pool: Pool, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    beats = 0
    result_of = recipe("with_trio.py")

    async def main() -> None:
        nonlocal beats
        with pytest.raises(ZeroDivisionError):
            await result_of(pool.submit(tasks.divide, 1, 0))
        with trio.move_on_after(0.1) as scope:
            await result_of(pool.submit(tasks.enter, gate.path))
        assert scope.cancelled_caught
        while beats < 10:
            beats += 1
            await trio.sleep(0)

    trio.run(main)
    assert beats == 10
    gate.open()
    pool.when_idle().result(20)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio_awaits_and_gives_up(pool: Pool, tmp_path: Path, backend: str) -> None:
    gate = Gate(tmp_path)
    result_of = recipe("with_anyio.py")

    async def main() -> None:
        assert await result_of(pool.submit(tasks.echo, 5)) == 5
        with anyio.move_on_after(0.1) as scope:
            await result_of(pool.submit(tasks.enter, gate.path))
        assert scope.cancelled_caught
        gate.open()

    anyio.run(main, backend=backend)
    pool.when_idle().result(20)


def test_on_asyncio_a_task_is_awaited_as_it_is(pool: Pool) -> None:
    async def main() -> None:
        async with anyio.create_task_group():
            assert await pool.submit(tasks.echo, 1) == 1

    asyncio.run(main())


def test_loops_of_both_kinds_in_threads_at_once(pool: Pool) -> None:
    got: list[Any] = []

    async def asks(wait: Any) -> None:
        for number in range(50):
            got.append(await wait(pool.submit(tasks.echo, number)))

    async def awaited(task: Task[Any]) -> Any:
        return await task

    threads = [
        threading.Thread(target=trio.run, args=(asks, recipe("with_trio.py"))),
        threading.Thread(target=lambda: asyncio.run(asks(awaited))),
        threading.Thread(target=trio.run, args=(asks, recipe("with_trio.py"))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(3 * [*range(50)])
