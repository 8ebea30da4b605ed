"""The comparison page says who is first and who is not, and a merge of parts loses nothing.

SPDX-License-Identifier: BSD-3-Clause
"""

from pathlib import Path

import pytest
from helpers import ROOT

from bench import comparison, report
from bench.report import Results
from bench.rivals import COMPARED, OURS, PROCESSES, RIVALS

MACHINE: dict[str, str | int | float] = {
    "cpu": "a CPU", "cpus_usable": 2, "cgroup_cpus": "max", "virtual": False, "kernel": "6", "python": "3.11",
    "numpy": "2", "libc": "glibc", "load_1min": 0.0,
}  # fmt: skip


def results(**hot: float) -> Results:
    found = Results(dict(MACHINE), {"repeats": 1, "scale": 0.2}, "2026-01-01T00:00:00+00:00")
    for rival, value in hot.items():
        found.add("round_trip", rival, {"hot": value})
    return found


def test_panels_name_figures_that_exist_and_every_case_has_rivals() -> None:
    for case, figure, _ in comparison.PANELS:
        assert figure in comparison.cases.load(case).FIGURES
    for case in comparison.CASES:
        rivals = comparison.rivals_of(case)
        assert rivals[0] == OURS and len(rivals) > 5
        assert set(rivals) <= {*COMPARED, comparison.FORKED}


def test_only_process_pools_are_ranked() -> None:
    (chart,) = comparison.charts(results(workpool=5.0, threads=1.0, loky=20.0, piscina=2.0))
    assert {bar.name for bar in chart.bars if not bar.ranked} == {"threads", "piscina"}
    assert chart.best_other is not None and chart.best_other.name == "loky"
    assert all(RIVALS[name].kind != PROCESSES for name in ("threads", "serial", "piscina", "c"))
    assert comparison.summary([chart]) == [
        "Among process pools workpool is first, or level, in 1 of 1 figures."
    ]


def test_a_figure_in_which_workpool_is_not_first_is_named_with_who_is() -> None:
    told = comparison.summary(comparison.charts(results(workpool=5.0, loky=2.0, mpire=4.0)))
    assert told[0].endswith("in 0 of 1 figures.")
    assert told[1] == "- Not first: round trip, hot (less is better): loky is 2.50 times better."


def test_readme_block_is_replaced_and_the_rest_of_the_page_is_not(tmp_path: Path) -> None:
    readme, saved = tmp_path / "README.md", tmp_path / "bench" / "page.md"
    readme.write_text(f"before\n{comparison.BEGIN}\nold\n{comparison.END}\nafter\n")
    for value in (7.0, 5.0):
        comparison.into_readme(results(workpool=value, loky=2.0), saved, readme)
    text = readme.read_text()
    assert text.startswith(f"before\n{comparison.BEGIN}\n") and text.endswith(f"\n{comparison.END}\nafter\n")
    assert "bench/page.png" in text and "5.00" in text and "2.00 (loky)" in text and "(not first)" in text
    assert "old" not in text and "7.00" not in text
    readme.write_text("no markers")
    with pytest.raises(ValueError, match="has no block"):
        comparison.into_readme(results(workpool=1.0), saved, readme)


def test_the_readme_has_the_block() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.index(comparison.BEGIN) < text.index(comparison.END)


def test_merged_parts_hold_every_sample_and_what_one_part_could_not_do(tmp_path: Path) -> None:
    first, second = results(workpool=5.0, loky=20.0), results(workpool=6.0, dask=90.0)
    first.failed, first.absent = {"round_trip, dask": "no time was left", "map, ray": "why"}, {"dask": "why"}
    first.versions, second.versions = {"loky": "3"}, {"dask": "1"}
    for number, part in enumerate((first, second)):
        (tmp_path / f"{number}.json").write_text(part.to_json())
    merged = report.merge([report.load(tmp_path / f"{number}.json") for number in range(2)])
    assert merged.samples["round_trip"]["hot"] == {"workpool": [5.0, 6.0], "loky": [20.0], "dask": [90.0]}
    assert (merged.failed, merged.absent) == ({"map, ray": "why"}, {})
    assert merged.versions == {"loky": "3", "dask": "1"}


def test_parts_of_different_machines_are_not_merged() -> None:
    other = results(workpool=1.0)
    other.machine["cpu"] = "another"
    with pytest.raises(ValueError, match="different machines"):
        report.merge([results(workpool=1.0), other])
