"""docs/migrating.md: both sides of each row are run, and give the same.

SPDX-License-Identifier: BSD-3-Clause
"""

import ast
import asyncio
import concurrent.futures
import importlib
import inspect
import multiprocessing
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import migrating_tasks
import numpy as np
import pytest
from helpers import ROOT, wait_until
from migrating_tasks import add, fail, initial_value, initialize, place, square, total

from workpool import WorkerPool, usable_cpus

PAGE = ROOT / "docs" / "migrating.md"
ITEMS = list(range(20))
ENDS = ("close", "terminate", "shutdown", "dispose", "stop_and_join")
MY_WORKER = """
def worker_entrypoint(name, client):
    client.post_message_to_pool("greeted", name)
    return f"Hello, {name}!"


def on_worker_start(client):
    client.on_message("again", lambda name, client: client.post_message_to_pool("greeted", name))
"""


class Row(NamedTuple):
    section: str
    cells: tuple[str, ...]


def rows() -> Iterator[Row]:
    section = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("| ") and not line.startswith("| ---"):
            # A cell that is code, and nothing else, is run.
            found = [re.fullmatch("`(.*)`", cell.strip()) for cell in line.strip("|").split(" | ")]
            cells = tuple(match[1] if match else "" for match in found)
            if cells[1] != "workpool":  # the head of the table
                yield Row(section, cells)


def rows_of(section: str) -> list[Row]:
    return [row for row in rows() if row.section == section]


def common(pool: Any) -> dict[str, Any]:
    asyncio_names = {name: getattr(asyncio, name) for name in ("get_running_loop", "wrap_future")}
    futures = {name: getattr(concurrent.futures, name) for name in ("wait", "as_completed")}
    return {
        "pool": pool, "items": ITEMS, "pairs": [(x, 2 * x) for x in ITEMS], "seen": [], "square": square,
        "add": add, "fail": fail, "total": total, "ones": np.ones,
        "initialize": initialize, "place": place, **asyncio_names, **futures,
    }  # fmt: skip


def ours() -> dict[str, Any]:
    pool: Any = WorkerPool(max_workers=2)
    tqdm = importlib.import_module("tqdm").tqdm
    own = {"WorkerPool": WorkerPool, "usable_cpus": usable_cpus, "task": pool.submit(square, 3), "tqdm": tqdm}
    return common(pool) | own


def of_multiprocessing() -> dict[str, Any]:
    pool = multiprocessing.get_context("fork").Pool(2)
    make = multiprocessing.get_context("fork").Pool
    own = {"Pool": make, "RawArray": multiprocessing.RawArray, "frombuffer": np.frombuffer}
    return common(pool) | own | {"result": pool.apply_async(square, (3,))}


def of_futures() -> dict[str, Any]:
    executor = concurrent.futures.ProcessPoolExecutor
    pool = executor(2, mp_context=multiprocessing.get_context("fork"))
    return common(pool) | {"ProcessPoolExecutor": executor, "get_context": multiprocessing.get_context}


def of_joblib() -> dict[str, Any]:
    joblib = pytest.importorskip("joblib")
    names = {name: getattr(joblib, name) for name in ("Parallel", "delayed", "cpu_count")}
    return common(None) | names


def of_mpire() -> dict[str, Any]:
    mpire = pytest.importorskip("mpire")
    return common(mpire.WorkerPool(n_jobs=2)) | {"mpire": mpire}


def close(pool: Any) -> None:
    for name in ("stop_and_join", "shutdown", "close", "join"):
        end = getattr(pool, name, None)
        if end is not None:
            end()


def value_of(cell: str, names: dict[str, Any]) -> Any:
    """What a cell gives: results for an iterator, what was seen, or what a pool that it made can do."""
    code = compile(cell, str(PAGE), "eval", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if "await " in cell:

        async def run() -> Any:
            return await eval(code, names)  # in the loop: what is awaited may be made there

        value = asyncio.run(run())
    else:
        value = eval(code, names)
    if "seen" in cell:
        wait_until(lambda: names["seen"])
        return names["seen"]
    if inspect.isgenerator(value) or isinstance(value, Iterator):
        return list(value)
    if isinstance(value, tuple):  # several steps: the last one counts
        return value[-1]
    if re.match(r"(mpire\.)?(Worker|Process)?Pool", cell):
        try:
            submit = getattr(value, "submit", None)
            return submit(initial_value).result() if submit else value.apply(initial_value)
        finally:
            close(value)
    return value


def run_rows(section: str, side: int, make: Callable[[], dict[str, Any]]) -> list[Any]:
    values = []
    names = make()
    try:
        for row in rows_of(section):
            if any(f"pool.{end}(" in row.cells[side] for end in ENDS):
                close(names["pool"])
                names = make()  # one to end
            names["seen"] = []
            values.append(value_of(row.cells[side], names))
    finally:
        close(names["pool"])
    return values


@pytest.mark.parametrize(
    ("section", "make"),
    [
        ("multiprocessing.Pool", of_multiprocessing),
        ("concurrent.futures", of_futures),
        # joblib keeps its workers for the next call, and mpire and loky a helper process each.
        pytest.param("joblib", of_joblib, marks=pytest.mark.leaves_processes),
        pytest.param("mpire", of_mpire, marks=pytest.mark.leaves_processes),
    ],
)
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # 3.12 on: fork beside threads, in the rivals
def test_both_sides_of_every_row_give_the_same(section: str, make: Callable[[], dict[str, Any]]) -> None:
    assert migrating_tasks.initialized == 0
    theirs = run_rows(section, 0, make)
    mine = run_rows(section, 1, ours)
    table = rows_of(section)
    assert len(table) >= 8
    different = [
        (row.cells, their, my) for row, their, my in zip(table, theirs, mine, strict=True) if their != my
    ]
    assert not different


def test_every_row_of_the_javascript_pool_gives_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_worker.py").write_text(MY_WORKER)
    monkeypatch.chdir(tmp_path)
    table = rows_of("The JavaScript pool")
    assert len(table) >= 10
    with WorkerPool("my_worker.py", max_workers=2) as pool:
        names = common(pool) | {"WorkerPool": WorkerPool}
        for row in table:
            cell, expected = row.cells[1], row.cells[2]
            made = eval(compile(cell, str(PAGE), "eval")) if cell.startswith("WorkerPool") else None
            if made is not None:
                with made:
                    assert made.add_task("Grace").result() == "Hello, Grace!"
                continue
            names["seen"] = []
            if "message" in cell:  # what the listener is told then
                eval(cell, names)
                if "on_message" in cell:
                    pool.add_task("World").result()
                told = ast.literal_eval(expected)
                wait_until(lambda told=told: told in names["seen"])
            else:
                assert value_of(cell, names) == ast.literal_eval(expected), cell


def test_every_table_is_run() -> None:
    sections = {row.section for row in rows()}
    assert sections == {
        "multiprocessing.Pool", "concurrent.futures", "joblib", "mpire", "The JavaScript pool",
    }  # fmt: skip
    assert all(row.cells[1] for row in rows())
    assert all(row.cells[0] for row in rows() if row.section != "The JavaScript pool")
