"""``workpool bench``: every pool in every figure, as text and as a picture; and what it says of them.

SPDX-License-Identifier: BSD-3-Clause
"""

import subprocess
import sys
from pathlib import Path

import pytest
from pool_support import script_environment

from workpool.measure import command, plots
from workpool.measure.figures import Chart, number, table
from workpool.measure.sample import FIGURES, OURS, POOLS

COMMAND = [sys.executable, "-m", "workpool", "bench"]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=55, env=script_environment()
    )


def test_each_figure_has_a_bar_of_each_pool_and_a_verdict() -> None:
    done = bench("--quick")
    assert done.returncode == 0, done.stderr
    for title in FIGURES:
        lines = done.stdout[done.stdout.index(title) :].splitlines()[1 : len(POOLS) + 2]
        assert sorted(line[2:].partition("  ")[0].strip() for line in lines[:-1]) == sorted(POOLS)
        assert [line[2:].startswith(OURS) for line in lines if line.startswith(">")] == [True]
        assert "times better" in lines[-1]


def chart(values: dict[str, float], less_is_better: bool = True, unit: str = "us") -> Chart:
    return Chart.of("trip", unit, less_is_better, values, "ours", ["threads"])


@pytest.mark.parametrize(
    ("less_is_better", "values", "ratio", "said"),
    [
        (True, {"ours": 2.0, "fork": 8.0, "spawn": 9.0}, 4.0, "4.00 times better than fork"),
        (True, {"ours": 8.0, "fork": 2.0, "threads": 1.0}, 0.25, "not first: fork is 4.00 times better"),
        (False, {"ours": 2.0, "fork": 8.0, "spawn": 1.0}, 0.25, "not first: fork is 4.00 times better"),
        (False, {"ours": 9.0, "fork": 3.0, "threads": 20.0}, 3.0, "3.00 times better than fork"),
        (True, {"ours": 0.0, "fork": 0.0}, 1.0, "1.00 times better than fork"),
    ],
)
def test_verdict_compares_with_the_best_of_the_same_kind(
    less_is_better: bool, values: dict[str, float], ratio: float, said: str
) -> None:
    drawn = chart(values, less_is_better)
    assert drawn.ratio == ratio
    assert command.verdict(drawn).startswith(said)
    best_first = sorted(values.values(), reverse=not less_is_better)
    assert [bar.value for bar in drawn.bars] == best_first


def test_bars_grow_by_decades_and_shares_by_value() -> None:
    one, two, three = plots.lengths(chart({"a": 1.0, "b": 10.0, "c": 100.0}))
    assert two - one == pytest.approx(three - two)
    assert one > 0 and three == 1
    assert plots.lengths(chart({"a": 0.25, "b": 0.5}, unit="")) == [0.5, 1]
    assert plots.lengths(chart({"a": 0.0, "b": 5.0})) == [0, 1]


def test_plot_is_drawn_in_the_format_of_its_suffix(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = [tmp_path / "bars.png", tmp_path / "bars.svg"]
    plots.draw(
        [chart({"ours": 1.0, "fork": 50.0}), chart({"ours": 0.0, "fork": 0.5})], paths, "pools", "here"
    )
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    drawn = paths[1].read_text()
    assert all(text in drawn for text in ("<svg", "pools", "fork", "50.0", "less is better", "here"))


@pytest.mark.parametrize("file", ["bars.gif", "no/folder/bars.png"])
def test_plot_that_cannot_be_drawn_is_refused_before_anything_is_measured(file: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = bench("--plot", str(tmp_path / file))
    assert done.returncode == 2
    assert file in done.stderr and done.stdout == ""


def test_numbers_and_tables_line_up() -> None:
    assert [number(value) for value in (0.123, 12.34, 1234.5)] == ["0.12", "12.3", "1,234"]
    lines = table(["a", "b", "n"], [["x", "longer", "1"], ["", "y", "1,000"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "| - | ------ | ----: |"
    assert lines[2].endswith("|     1 |")
