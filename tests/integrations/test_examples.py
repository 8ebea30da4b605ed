"""Each program of examples/ does what its head says, and what plain NumPy says.

SPDX-License-Identifier: BSD-3-Clause
"""

import json
import math
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT
from sklearn.datasets import load_diabetes, load_digits

EXAMPLES = ROOT / "examples"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKPOOL_MAX_WORKERS", "2")


def python(*arguments: str | Path, stdin: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    untested = [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in text]
    assert not untested


def test_greeting_greets_each_name() -> None:
    said = python("-m", "workpool", "run", EXAMPLES / "greeting.py", "-", stdin="Ada\nGrace\n")
    assert said == "Hello, Ada!\nHello, Grace!\n"
    assert python(EXAMPLES / "greeting.py", "Ada", "Grace") == said
    assert python(EXAMPLES / "greeting.py") == "Hello, World!\n"


def test_input_is_the_data_set() -> None:
    python(EXAMPLES / "make_input.py", "diabetes.jsonl")
    pairs = [json.loads(line) for line in Path("diabetes.jsonl").read_text().splitlines()]
    data = load_diabetes(scaled=False)
    assert len(pairs) == 11 * 10 // 2
    first = next(pair for pair in pairs if (pair["x_name"], pair["y_name"]) == ("bmi", "progression"))
    np.testing.assert_array_equal(first["x"], data.data[:, data.feature_names.index("bmi")])
    np.testing.assert_array_equal(first["y"], data.target)
    python(EXAMPLES / "make_input.py", "digits.npy")
    np.testing.assert_array_equal(np.load("digits.npy"), load_digits().data)


def test_bootstrap_through_the_pool_is_bootstrap_in_one_process() -> None:
    python(EXAMPLES / "make_input.py", "diabetes.jsonl")
    lines = Path("diabetes.jsonl").read_text().splitlines(keepends=True)[::6]
    Path("some.jsonl").write_text("".join(lines))
    python("-m", "workpool", "run", EXAMPLES / "bootstrap.py", "some.jsonl", "--output", "slopes.jsonl")
    assert Path("slopes.jsonl").read_text() == python(EXAMPLES / "bootstrap.py", "some.jsonl")
    for line, result in zip(lines, Path("slopes.jsonl").read_text().splitlines(), strict=True):
        check_against_numpy(json.loads(line), json.loads(result))


def check_against_numpy(pair: dict[str, Any], result: dict[str, Any]) -> None:
    x, y = np.array(pair["x"]), np.array(pair["y"])
    slope, intercept = np.polyfit(x, y, 1)
    assert result["slope"] == pytest.approx(slope, rel=1e-9)
    # A bootstrap interval is near slope ± 1.96 heteroscedastic standard errors.
    dx = x - x.mean()
    error = np.sqrt((dx**2 * (y - intercept - slope * x) ** 2).sum()) / (dx**2).sum()
    assert result["low"] == pytest.approx(slope - 1.96 * error, abs=0.5 * error)
    assert result["high"] == pytest.approx(slope + 1.96 * error, abs=0.5 * error)


def test_hooks_answers_as_a_serial_search_does() -> None:
    data = load_digits()
    np.save("digits.npy", data.data[:200])
    said = python("-m", "workpool", "run", EXAMPLES / "hooks.py", "digits.npy", "--output", "guesses.npy")
    guesses = np.load("guesses.npy")
    distance = ((data.data[:200, None, :] - data.data) ** 2).sum(axis=2)
    distance[distance == 0] = np.inf
    np.testing.assert_array_equal(guesses, data.target[distance.argmin(axis=1)])
    # The exit hooks have counted every task once.
    # Unbuffered (PYTHONUNBUFFERED), two that end at once may print on one line.
    counts = [int(count) for count in re.findall(r"answered (\d+) times", said)]
    assert sum(counts) == 200
    assert 1 <= len(counts) <= 2


def test_messages_stop_the_workers_once_pi_is_known() -> None:
    words = python(EXAMPLES / "messages.py").split()
    value, points = float(words[2].rstrip(",")), int(words[4])
    assert value == pytest.approx(math.pi, abs=6e-3)  # six standard errors
    # One more is thrown while the message is on its way: some, and not for ever.
    assert 2_600_000 <= points < 20_000_000


def test_affinity_makes_a_table_where_it_is_and_keeps_one_register() -> None:
    words = python(EXAMPLES / "affinity.py").split()
    assert words[:4] == ["320", "questions,", "8", "tables,"]
    assert 8 <= int(words[5]) <= 16


def test_main_fills_a_database_of_the_parent() -> None:
    below = np.ones(200_000, bool)
    below[:2] = False
    for n in range(2, 448):
        below[2 * n :: n] = False
    assert python(EXAMPLES / "main.py") == f"{below.sum()} primes below 200000\n"


def test_quadrature_finds_the_peak() -> None:
    value, _, intervals, _ = python(EXAMPLES / "quadrature.py").split()
    assert float(value) == pytest.approx(math.atan(0.7e4) + math.atan(0.3e4), abs=1e-9)
    assert int(intervals) > 1000


def test_sweep_learns_its_costs_and_knows_them_when_run_again() -> None:
    first = python(EXAMPLES / "sweep.py", "costs.json")
    learned = json.loads(Path("costs.json").read_text())
    assert len(learned) == 50
    assert learned["1.0"] > learned["1.78"] > 0  # from many sweeps to few
    done = subprocess.run(
        [sys.executable, EXAMPLES / "sweep.py", "costs.json"], capture_output=True, text=True, timeout=50
    )
    assert done.stdout == first
    assert "50 of 50 costs were known" in done.stderr


@pytest.mark.parametrize(("queens", "solutions"), [(1, 1), (3, 0), (8, 92), (9, 352)])
def test_queens_counts_as_the_encyclopedia_does(queens: int, solutions: int) -> None:
    assert python(EXAMPLES / "queens.py", str(queens)) == f"{queens} queens: {solutions} solutions\n"


def test_examples_are_entrypoints_of_their_own() -> None:
    for name in ("greeting.py", "bootstrap.py"):
        assert callable(runpy.run_path(str(EXAMPLES / name))["worker_entrypoint"])
