"""Notebooks, in a real kernel; and programs that Python reads from its standard input.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import children_of, wait_until
from pool_support import script_environment

CELLS = {
    "define": """
import functools, os, time
from workpool import WorkerPool, as_completed, get_pool

base = 1

def shift(x):
    return x + base

class Scale:
    def __init__(self, by):
        self.by = by
    def times(self, x):
        return self.by * x
    def __call__(self, x):
        return self.by + x

def make(n):
    return lambda x: x * n

pool = WorkerPool(max_workers=2)
print(list(pool.map(shift, range(3))))
""",
    "kinds": """
print(pool.submit(lambda: base + 1).result(), pool.submit(make(3), 4).result())
print(pool.submit(functools.partial(shift, 5)).result())
print(pool.submit(Scale(2).times, 8).result(), pool.submit(Scale(2), 8).result())
print(type(pool.submit(Scale, 1).result()) is Scale)
""",
    "redefine": """
def shift(x):
    return 100 * x
class Scale(Scale):
    def times(self, x):
        return -x
print(list(pool.map(shift, range(3))), pool.submit(Scale(2).times, 8).result())
""",
    "await": """
print(await pool.submit(shift, 4), [x async for x in pool.map(shift, range(3))])
print({task.result() async for task in as_completed([pool.submit(shift, 1)])})
""",
    "interrupted": """
waiting = pool.submit(time.sleep, 60)
print("waits", flush=True)
waiting.result()
""",
    "goes on": "print(waiting.cancel(force=True), pool.submit(shift, 2).result())",
    "interrupted block": """
with WorkerPool(max_workers=2) as other:
    everyone = [other.submit(time.sleep, 60) for _ in range(8)]
    print("waits", flush=True)
    everyone[0].result()
""",
    "nothing of it left": "print(all(task.cancelled() for task in everyone), other.workers)",
    "of the program": "print(list(get_pool(max_workers=1).map(shift, range(2))), len(pool.workers) > 0)",
    "end": "get_pool().shutdown(); pool.shutdown(); print('ended')",
}


@pytest.fixture(scope="module")
def outputs() -> dict[str, list[Any]]:
    """What each cell gave, run one after the other in one kernel."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS.values()])
    client = nbclient.NotebookClient(book, timeout=25, kernel_name="python3", allow_errors=True)

    async def interrupt(cell: Any) -> None:
        while not cell.outputs:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)  # it said that it will wait, and now does
        await client.km.interrupt_kernel()

    async def main() -> None:
        async with client.async_setup_kernel(env=script_environment()):
            for number, (name, cell) in enumerate(zip(CELLS, book.cells, strict=True)):
                interrupting = asyncio.create_task(interrupt(cell)) if "interrupted" in name else None
                await client.async_execute_cell(cell, number)
                if interrupting is not None:
                    await interrupting

    asyncio.run(main())
    return {name: cell.outputs for name, cell in zip(CELLS, book.cells, strict=True)}


EXPECTED = {
    "define": "[1, 2, 3]\n",
    "kinds": "2 12\n6\n16 10\nTrue\n",
    "redefine": "[0, 100, 200] -8\n",
    "await": "400 [0, 100, 200]\n{100}\n",
    "goes on": "True 200\n",
    "nothing of it left": "True ()\n",
    "of the program": "[0, 100] True\n",
    "end": "ended\n",
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("name", EXPECTED)
def test_cell_prints_what_it_should(outputs: dict[str, list[Any]], name: str) -> None:
    assert [output.get("text", output) for output in outputs[name]] == [EXPECTED[name]]


@pytest.mark.parametrize("name", ["interrupted", "interrupted block"])
def test_interrupted_cell_shows_one_traceback(outputs: dict[str, list[Any]], name: str) -> None:
    said, error = outputs[name]
    assert said["text"] == "waits\n"
    assert (error["output_type"], error["ename"]) == ("error", "KeyboardInterrupt")
    text = "\n".join(error["traceback"])
    assert text.count("Traceback (most recent call last)") == 1


# ---- standard input ----------------------------------------------------------------------

WAITING = """
import time
from workpool import WorkerPool
with WorkerPool(max_workers=2) as pool:
    tasks = [pool.submit(time.sleep, 60) for _ in range(8)]
    pool.wait_ready()
    print("waits", flush=True)
    tasks[0].result()

"""


def test_interrupted_program_from_standard_input_ends_with_one_traceback(tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=tmp_path, env=script_environment(), start_new_session=True,
    )  # fmt: skip
    assert program.stdin is not None and program.stdout is not None
    program.stdin.write(WAITING)
    program.stdin.close()
    program.stdin = None
    assert program.stdout.readline() == "waits\n"
    workers = workers_of(program.pid)
    assert workers
    os.killpg(program.pid, signal.SIGINT)
    out, err = program.communicate(timeout=20)
    assert (program.returncode, out) == (-signal.SIGINT, "")
    assert err.count("Traceback") == 1
    assert err.strip().endswith("KeyboardInterrupt")
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def workers_of(pid: int) -> set[int]:
    """Its children, but for the standard library's helper."""
    return {
        child
        for child in children_of(pid)
        if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()
    }


class Prompt:
    """An interpreter at a terminal."""

    def __init__(self, folder: Path) -> None:
        environment = {**script_environment(), "TERM": "dumb", "PYTHON_BASIC_REPL": "1"}
        self._leader, follower = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-i", "-q"], stdin=follower, stdout=follower, stderr=follower, cwd=folder,
            env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(follower)
        self.seen = ""
        os.set_blocking(self._leader, False)

    def until(self, pattern: str) -> str:
        """Read until the pattern has come; gives what came up to there."""

        def found() -> re.Match[str] | None:
            try:
                self.seen += os.read(self._leader, 1 << 16).decode().replace("\r", "")
            except (BlockingIOError, OSError):
                pass  # nothing yet, or it has ended
            return re.search(pattern, self.seen, re.DOTALL)

        wait_until(found, timeout=20)
        match = found()
        assert match is not None
        text, self.seen = self.seen[: match.end()], self.seen[match.end() :]
        return text

    def say(self, text: str) -> None:
        os.write(self._leader, text.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._leader)


@pytest.fixture
def prompt(tmp_path: Path) -> Iterator[Callable[[], Prompt]]:
    prompts: list[Prompt] = []

    def start() -> Prompt:
        prompts.append(Prompt(tmp_path))
        return prompts[-1]

    yield start
    for each in prompts:
        each.close()


def test_interrupt_at_a_prompt_shows_one_traceback_and_the_prompt_goes_on(
    prompt: Callable[[], Prompt],
) -> None:
    python = prompt()
    python.until(">>> ")
    python.say(WAITING.strip() + "\n\n")
    python.until("waits\n")
    workers = workers_of(python.process.pid)
    assert workers
    os.kill(python.process.pid, signal.SIGINT)
    shown = python.until("KeyboardInterrupt\n")
    python.until(">>> ")
    assert shown.count("Traceback") == 1
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    python.say("def twice(x): return 2 * x\n\n")
    python.say("import workpool; print('sum', sum(workpool.map(twice, range(4))))\n")
    python.until("sum 12\n")
    python.say("def twice(x): return 3 * x\n\n")
    python.say("print('sum', sum(workpool.map(twice, range(4))))\n")
    python.until("sum 18\n")
    begun = time.monotonic()
    python.say("exit()\n")
    assert python.process.wait(20) == 0
    assert time.monotonic() - begun < 10
