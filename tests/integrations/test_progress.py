"""``map(progress=...)``, and the recipe for rich.

SPDX-License-Identifier: BSD-3-Clause
"""

import builtins
import io
from collections.abc import Iterator
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import ROOT

from workpool import WorkerPool

Pool = WorkerPool[Any, Any]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready()
        yield pool


def test_text_draws_with_plain_characters_up_to_the_total(
    pool: Pool, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tqdm")
    assert list(pool.map(tasks.echo, iter(range(20)), progress="text")) == list(range(20))
    shown = capfd.readouterr().err
    assert "20/20" in shown
    assert shown.isascii()


def test_true_shows_a_bar_also_over_options_and_as_they_come(
    pool: Pool, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tqdm")
    view = pool.options(retries=1)
    got = view.map(tasks.add, range(8), range(9), ordered=False, buffersize=4, progress=True)
    assert sorted(got) == list(range(0, 16, 2))
    assert "8it" in capfd.readouterr().err  # the number of an iterator's items is not known before


def test_without_tqdm_it_says_what_to_install(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "tqdm":
            raise ModuleNotFoundError("No module named 'tqdm'", name="tqdm")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    for progress in (True, "text"):
        with pytest.raises(ModuleNotFoundError, match="pip install tqdm"):
            pool.map(tasks.echo, range(3), progress=progress)


@pytest.mark.parametrize("progress", ["bar", 1, None])
def test_what_it_cannot_be_is_refused(pool: Pool, progress: Any) -> None:
    with pytest.raises(ValueError, match="progress must be"):
        pool.map(tasks.echo, range(3), progress=progress)


def test_nothing_is_shown_unless_asked_for(pool: Pool, capfd: pytest.CaptureFixture[str]) -> None:
    assert list(pool.map(tasks.echo, range(3))) == [0, 1, 2]
    assert capfd.readouterr().err == ""


def test_recipe_for_rich_of_the_documentation() -> None:
    rich_console = pytest.importorskip("rich.console")
    text = (ROOT / "docs" / "integrations.md").read_text()
    names: dict[str, Any] = {}
    exec(text.partition("# with_rich.py\n")[2].partition("```")[0], names)
    out = io.StringIO()
    console = rich_console.Console(file=out, force_terminal=True)
    assert names["sums"](range(10), console) == (45, 45)
    assert "100%" in out.getvalue()
