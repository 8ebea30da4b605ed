"""The command line, as a user runs it: in a process of its own.

SPDX-License-Identifier: BSD-3-Clause
"""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workpool.files import count_lines, numbered_lines

COMMAND = [sys.executable, "-m", "workpool", "run"]
# Far more than any of these runs takes, less than the limit of a test.
RUN_SECONDS = 40

ENTRYPOINTS = """
import asyncio, os, signal, time
import numpy as np

def worker_entrypoint(item):
    return f"<{item}>"

def later_is_faster(item):
    time.sleep(0.2 / int(item))
    return item

async def slowly(item):
    await asyncio.sleep(0.01)
    return f"~{item}"

def halve(item):
    return int(item) / 2 if int(item) % 3 else 1 // 0

def killed_by_b(item):
    if item == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return item

def describe(value):
    return {"value": value, "numbers": np.arange(2), "half": np.float64(0.5), "name": "é"}

def total(row):
    return row.sum()

def scaled(row):
    return row * 0.5

def kind(row):
    return f"{type(row).__module__}.{type(row).__name__}"

def ragged(row):
    return row[: 1 + int(row[0])]

def unwritable(item):
    return object()

def stuck(item):
    print("stuck", flush=True)
    time.sleep(60)

def with_client(item, client):
    return client.worker_id > 0

not_callable = 3
"""


@pytest.fixture(autouse=True)
def in_a_folder_with_an_entrypoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKPOOL_MAX_WORKERS", "2")
    Path("entry.py").write_text(ENTRYPOINTS)


def run(*arguments: str, stdin: bytes = b"", status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *arguments], input=stdin, capture_output=True, timeout=RUN_SECONDS)
    assert done.returncode == status, done.stderr.decode()
    return subprocess.CompletedProcess(arguments, status, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def start() -> Iterator[Any]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        process = subprocess.Popen([*COMMAND, *arguments], start_new_session=True, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass


# Forms of input and output.


def test_each_line_is_a_task_and_its_result_a_line() -> None:
    Path("names.txt").write_bytes(b"\xef\xbb\xbfAda\r\n\nGr\xc3\xa5ce\nlast")
    assert run("entry.py", "names.txt").stdout == "<Ada>\n<>\n<Gråce>\n<last>\n"


def test_results_come_in_the_order_of_the_items() -> None:
    Path("items.txt").write_text("".join(f"{n}\n" for n in range(1, 30)))
    done = run("entry.py:later_is_faster", "items.txt")
    assert done.stdout.split() == [str(n) for n in range(1, 30)]


def test_many_more_items_than_are_in_flight_at_once() -> None:
    items = "".join(f"{n}\n" for n in range(20_000))
    assert run("entry.py", "-", stdin=items.encode()).stdout == "".join(f"<{n}>\n" for n in range(20_000))


def test_an_empty_input_gives_an_empty_output() -> None:
    assert run("entry.py", "-").stdout == ""


def test_json_lines_give_json_lines_with_numpy_converted() -> None:
    Path("in.jsonl").write_text('{"a": [1, 2]}\n\n"text"\n')
    run("entry.py:describe", "in.jsonl", "--output", "out.jsonl")
    rest = {"numbers": [0, 1], "half": 0.5, "name": "é"}
    lines = Path("out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"value": {"a": [1, 2]}} | rest, {"value": "text"} | rest]


def test_json_lines_from_standard_input() -> None:
    assert run("entry.py", "-", "--format", "jsonl", stdin=b"[1]\n2\n").stdout == '"<[1]>"\n"<2>"\n'


def test_rows_are_tasks_and_results_are_stacked() -> None:
    rows = np.random.default_rng(7).random((50, 3))
    np.save("rows.npy", rows)
    run("entry.py:scaled", "rows.npy", "--output", "scaled.npy")
    np.testing.assert_array_equal(np.load("scaled.npy"), rows * 0.5)
    run("entry.py:total", "rows.npy", "--output", "totals.npy")
    np.testing.assert_array_equal(np.load("totals.npy"), [row.sum() for row in rows])


def test_rows_without_an_output_file_come_as_json() -> None:
    np.save("rows.npy", np.arange(4).reshape(2, 2))
    assert run("entry.py:scaled", "rows.npy").stdout == "[0.0, 0.5]\n[1.0, 1.5]\n"


def test_rows_are_plain_arrays_and_entries_of_a_vector_plain_scalars() -> None:
    np.save("rows.npy", np.zeros((1, 2)))
    np.save("vector.npy", np.zeros(1, dtype=np.float32))
    assert run("entry.py:kind", "rows.npy").stdout == '"numpy.ndarray"\n'
    assert run("entry.py:kind", "vector.npy").stdout == '"numpy.float32"\n'


def test_rows_from_standard_input() -> None:
    stream = io.BytesIO()
    np.save(stream, np.arange(3.0))
    done = run("entry.py:scaled", "-", "--format", "npy", stdin=stream.getvalue())
    assert done.stdout == "0.0\n0.5\n1.0\n"


def test_results_of_differing_number_types_are_stacked_as_the_wider() -> None:
    Path("items.txt").write_text("1\n2\n")
    run("entry.py:halve", "items.txt", "--output", "out.npy")
    np.testing.assert_array_equal(np.load("out.npy"), [0.5, 1.0])


# Ways to name the entrypoint.


@pytest.mark.parametrize(
    "entrypoint",
    [["entry.py:slowly"], ["entry:slowly"], ["entry", "--name", "slowly"], ["entry.py", "--name=slowly"]],
    ids=" ".join,
)
def test_an_entrypoint_is_named_by_file_or_module_and_symbol(entrypoint: list[str]) -> None:
    assert run(entrypoint[0], "-", *entrypoint[1:], stdin=b"a\n").stdout == "~a\n"


def test_the_script_finds_a_module_in_the_current_folder_too() -> None:
    script = Path(sys.executable).with_name("workpool")
    done = subprocess.run(
        [script, "run", "entry", "-"], input=b"a\n", capture_output=True, timeout=RUN_SECONDS
    )
    assert done.stdout == b"<a>\n", done.stderr


def test_an_entrypoint_may_take_the_client() -> None:
    assert run("entry.py:with_client", "-", stdin=b"a\n").stdout == "True\n"


# What goes wrong with an item: the others are written, the status is 1.


def test_bad_lines_and_failing_tasks_are_reported_with_their_line() -> None:
    Path("items.jsonl").write_bytes(b"1\n3\n{bad\n\n\xff\n4\n")
    done = run("entry.py:halve", "items.jsonl", status=1)
    assert done.stdout == "0.5\n2.0\n"
    second, third, fifth, summary = done.stderr.splitlines()
    assert second.startswith("workpool: items.jsonl:2: ZeroDivisionError: ")
    assert third.startswith("workpool: items.jsonl:3: not JSON: ")
    assert fifth.startswith("workpool: items.jsonl:5: not UTF-8: ")
    assert summary == "workpool: 3 of 5 failed"


def test_a_failing_row_is_reported_with_its_index_and_left_out() -> None:
    np.save("rows.npy", np.array([1, 3, 4]))
    done = run("entry.py:halve", "rows.npy", "--output", "out.npy", status=1)
    np.testing.assert_array_equal(np.load("out.npy"), [0.5, 2.0])
    assert done.stderr.startswith("workpool: rows.npy[1]: ZeroDivisionError: ")


def test_an_item_that_kills_its_worker_costs_only_itself() -> None:
    done = run("entry.py:killed_by_b", "-", stdin=b"a\nb\nc\nd\n", status=1)
    assert done.stdout == "a\nc\nd\n"
    assert "<stdin>:2: WorkerDied" in done.stderr


def test_a_result_that_has_no_such_form_is_a_failure_of_its_item() -> None:
    done = run("entry.py:unwritable", "-", "--format", "jsonl", stdin=b"1\n", status=1)
    assert "<stdin>:1: TypeError: " in done.stderr
    done = run("entry.py:unwritable", "-", "--output", "out.npy", stdin=b"a\n", status=1)
    assert "<stdin>:1: TypeError: " in done.stderr
    np.save("rows.npy", np.array([[1, 5], [0, 5], [1, 6]]))
    done = run("entry.py:ragged", "rows.npy", "--output", "out.npy", status=1)
    assert "rows.npy[1]: ValueError: " in done.stderr
    np.testing.assert_array_equal(np.load("out.npy"), [[1, 5], [1, 6]])


# What cannot be used at all: status 2, one line, nothing written.


@pytest.mark.parametrize(
    "entrypoint",
    ["missing.py", "missing_module", "entry.py:missing", "entry.py:not_callable", "raises.py", "wrong.py"],
)
def test_an_unusable_entrypoint_is_named_and_no_output_is_touched(entrypoint: str) -> None:
    Path("raises.py").write_text("raise RuntimeError('on import')\n")
    Path("wrong.py").write_text("def worker_entrypoint(:\n")
    Path("kept.txt").write_text("kept\n")
    done = run(entrypoint, "-", "--output", "kept.txt", status=2)
    assert entrypoint in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert Path("kept.txt").read_text() == "kept\n"


def test_an_unusable_input_is_named() -> None:
    Path("text.npy").write_text("no array\n")
    np.savez("several.npy.npz", np.zeros(2))
    Path("several.npy.npz").rename("several.npy")
    np.save("single.npy", np.float64(3))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    for name in ("missing.txt", ".", "text.npy", "several.npy", "single.npy", "objects.npy", "missing.npy"):
        done = run("entry.py", name, status=2)
        assert name in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_an_output_that_cannot_be_written_is_named() -> None:
    assert "none/out" in run("entry.py", "-", "--output", "none/out", status=2).stderr
    done = run("entry.py", "-", "--output", "/dev/full", stdin=b"a\n" * 100_000, status=2)
    assert "/dev/full" in done.stderr


def test_the_input_is_not_overwritten_by_the_output() -> None:
    Path("items.txt").write_text("a\n")
    assert "items.txt" in run("entry.py", "items.txt", "--output", "./items.txt", status=2).stderr
    assert Path("items.txt").read_text() == "a\n"


@pytest.mark.parametrize("workers", ["0", "-1", "many"])
def test_a_number_of_workers_below_one_is_a_usage_error(workers: str) -> None:
    assert "--workers" in run("entry.py", "-", f"--workers={workers}", status=2).stderr


# Streams and signals.


def test_a_live_input_is_answered_before_its_next_item(start: Any) -> None:
    process = start("entry.py", "-")
    for item in (b"a", b"b"):
        process.stdin.write(item + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"<" + item + b">\n"
    process.stdin.close()
    assert process.wait(RUN_SECONDS) == 0


def test_an_unread_output_stops_the_reading_of_an_endless_input(start: Any) -> None:
    process = start("entry.py", "-")
    os.set_blocking(process.stdin.fileno(), False)
    line = b"x" * 99 + b"\n"
    taken = still = 0
    while still < 20:
        try:
            taken += os.write(process.stdin.fileno(), line * 100)
            still = 0
        except BlockingIOError:
            still += 1
            time.sleep(0.05)  # that nothing more happens takes time to see
        # Pipes, buffers and the window hold some; an endless input is not read on.
        assert taken < 5_000_000
    assert taken > 10_000
    assert process.stdout.readline() == b"<" + line[:-1] + b">\n"


def test_a_reader_that_goes_away_ends_the_run_quietly(start: Any) -> None:
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as feeder:
        process = start("entry.py", "-", stdin=feeder.stdout)
        assert feeder.stdout is not None
        feeder.stdout.close()
        try:
            assert process.stdout.readline() == b"<y>\n"
            process.stdout.close()
            assert process.wait(RUN_SECONDS) == 128 + signal.SIGPIPE
            assert process.stderr.read() == b""
        finally:
            process.kill()  # and with it goes who reads the feeder


def test_ctrl_c_says_one_line_and_keeps_what_is_written(start: Any) -> None:
    process = start("entry.py", "-")
    process.stdin.write(b"a\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"<a>\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    assert process.wait(RUN_SECONDS) == 128 + signal.SIGINT
    assert len(process.stderr.read().splitlines()) == 1


def test_a_second_ctrl_c_does_not_wait_for_running_tasks(start: Any) -> None:
    process = start("entry.py:stuck", "-")
    process.stdin.write(b"a\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"stuck\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.stderr.readline().startswith(b"workpool: interrupted")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(RUN_SECONDS) == -signal.SIGINT
    assert process.stderr.read() == b""


# The progress bar.


def on_terminal(arguments: list[str], *, results_too: bool, environment: dict[str, str] | None = None) -> str:
    """Run with standard error (and output) on a terminal; return what it shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs if results_too else subprocess.DEVNULL,
        stderr=theirs,
        env=os.environ | (environment or {}),
    )
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 1 << 16):
            shown += block
    except OSError:
        pass  # so Linux tells the end of a terminal
    os.close(ours)
    assert process.wait(RUN_SECONDS) == 0, shown.decode()
    return shown.decode()


@pytest.fixture
def items() -> str:
    Path("items.txt").write_text("".join(f"{n}\n" for n in range(25)))
    return "items.txt"


def test_a_terminal_shows_a_bar_that_ends_full(items: str) -> None:
    assert "25/25" in on_terminal(["entry.py", items], results_too=False)


def test_results_and_bar_share_a_terminal(items: str) -> None:
    shown = on_terminal(["entry.py", items], results_too=True)
    assert "25/25" in shown
    for n in range(25):
        assert f"\r<{n}>\r\n" in shown or f"\n<{n}>\r\n" in shown


def test_no_bar_is_drawn_when_not_wanted_or_not_seen(items: str) -> None:
    assert on_terminal(["entry.py", items, "--no-progress"], results_too=False) == ""
    assert run("entry.py", items).stderr == ""


def test_a_plain_counter_stands_in_for_tqdm(items: str, tmp_path: Path) -> None:
    (tmp_path / "without" / "tqdm").mkdir(parents=True)
    (tmp_path / "without" / "tqdm" / "__init__.py").write_text("raise ImportError\n")
    shown = on_terminal(
        ["entry.py", items],
        results_too=False,
        environment={"PYTHONPATH": f"{tmp_path / 'without'}:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert shown.endswith("\r25 tasks\r\n")


# The pieces, where a process would be a detour.


def test_lines_are_counted_with_or_without_a_last_line_end(tmp_path: Path) -> None:
    for text, count in [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"\n\n", 2)]:
        (tmp_path / "lines").write_bytes(text)
        assert count_lines(tmp_path / "lines") == count
        assert len(list(numbered_lines(io.BytesIO(text)))) == count
    assert count_lines(Path("/dev/null")) is None
