"""The comparison page: which figures are on it, its charts, its table, and its place in README.md.

SPDX-License-Identifier: BSD-3-Clause
"""

from dataclasses import replace
from pathlib import Path

from bench import cases, report
from bench.report import Results
from bench.rivals import COMPARED, OURS, PROCESSES, RIVALS
from workpool.measure import machine, plots
from workpool.measure.figures import Chart, number, table

# Of workpool's other start methods this one is shown where the start method is what is measured.
FORKED, FORKED_IN = "workpool-fork", ("start_up", "memory")

# In the order of the page: case, figure, title.
PANELS = (
    ("round_trip", "hot", "round trip, hot"),
    ("round_trip", "after 2 ms", "round trip after 2 ms of idleness"),
    ("burst", "tasks", "burst of single tasks"),
    ("map", "items", "map of a trivial function"),
    ("grain", "20 us", "efficiency, tasks of 20 us"),
    ("grain", "100 us", "efficiency, tasks of 100 us"),
    ("grain", "1 ms", "efficiency, tasks of 1 ms"),
    ("skewed", "unknown, of the best", "skewed load, beside the best schedule"),
    ("arrays", "8 KB in", "8 KB array in"),
    ("arrays", "1 MB in", "1 MB array in"),
    ("arrays", "64 MB in", "64 MB array in"),
    ("start_up", "first result", "first result of a new pool"),
    ("arrays", "8 KB in and out", "8 KB array in, another out"),
    ("arrays", "1 MB in and out", "1 MB array in, another out"),
    ("arrays", "64 MB in and out", "64 MB array in, another out"),
    ("idle_cpu", "CPU in 5 s", "CPU time of an idle pool in 5 s"),
    ("memory", "PSS", "memory of an idle worker, PSS"),
    ("memory", "private", "memory of an idle worker, private"),
    ("kill", "tasks lost of 40", "a worker killed: tasks lost of 40"),
    ("kill", "next result", "the only worker killed: next result"),
)
# Why a figure is not the best where it is not, by its title.
_FORK = (
    'a fork shares the pages of its parent, which a fresh interpreter does not (`start_method="fork"` does)'
)
WHY = {
    "first result of a new pool": "a fresh interpreter takes its time, and is safe beside threads; "
    "forks are quicker, workpool-fork too",
    "CPU time of an idle pool in 5 s": "it gives its memory back in the first three seconds, and then sleeps",
    "memory of an idle worker, PSS": _FORK,
    "memory of an idle worker, private": _FORK,
    "a worker killed: tasks lost of 40": "it runs a lost task again unasked; workpool does with `retries=`",
}
CASES = tuple(dict.fromkeys(case for case, _, _ in PANELS))
ACROSS = 4

BEGIN, END = "<!-- comparison: begin -->", "<!-- comparison: end -->"
# Beside workpool and the best of the others the README has these in columns of their own.
COLUMNS = {"futures-fork": "ProcessPoolExecutor", "multiprocessing": "multiprocessing.Pool"}


def rivals_of(case: str) -> list[str]:
    """Who is compared in a case."""
    without = getattr(cases.load(case), "WITHOUT", ())
    return [name for name in COMPARED if name not in without] + [FORKED] * (case in FORKED_IN)


def charts(results: Results) -> list[Chart]:
    """A chart for each panel of which workpool has a figure."""
    drawn = []
    for case, figure, title in PANELS:
        by_rival = results.samples.get(case, {}).get(figure, {})
        if OURS not in by_rival:
            continue
        about = cases.load(case).FIGURES[figure]
        values = {name: results.median(case, figure, name) for name in by_rival}
        unranked = {name for name in values if RIVALS[name].kind != PROCESSES or name == FORKED}
        chart = Chart.of(title, about.unit, about.less_is_better, values, OURS, unranked)
        if (case, figure) == ("kill", "next result"):
            never = [name for name in results.samples[case]["tasks lost of 40"] if name not in by_rival]
            chart = replace(chart, note=f"; not within 3 s: {', '.join(never)}" if never else "")
        drawn.append(chart)
    return drawn


def summary(drawn: list[Chart]) -> list[str]:
    """In how many figures workpool is first among process pools, and in which it is not."""
    ranked = [chart for chart in drawn if chart.best_other]
    behind = [chart for chart in ranked if chart.ratio < 1]
    first = f"{len(ranked) - len(behind)} of {len(ranked)}"
    lines = [f"Among process pools workpool is first, or level, in {first} figures."]
    for chart in behind:
        assert chart.best_other
        times = f"{number(1 / chart.ratio)} times better" if chart.ratio else "at 0"
        why = f": {WHY[chart.title]}" if chart.title in WHY else ""
        other = chart.best_other.name
        lines.append(f"- Not first: {chart.title} ({chart.better}): {other} is {times}{why}.")
    return lines


def short_table(drawn: list[Chart]) -> str:
    """A row a figure: workpool, the best other process pool, and the standard library's."""
    rows = []
    for chart in drawn:
        values = {bar.name: number(bar.value) for bar in chart.bars}
        other = chart.best_other
        place = (
            "" if other is None else f"{number(chart.ratio)} x" + (" (not first)" if chart.ratio < 1 else "")
        )
        rows.append(
            [
                f"{chart.title}{f', {chart.unit}' if chart.unit else ''}",
                values[OURS],
                f"{number(other.value)} ({other.name})" if other else "",
                place,
                *(values.get(name, "") for name in COLUMNS),
            ]
        )
    head = ["figure", "workpool", "best other process pool", "workpool is better", *COLUMNS.values()]
    return table(head, rows, texts=1)


def note(results: Results) -> str:
    others = f"; other processes kept {results.others_cpus:.2f} CPUs busy" if results.others_cpus else ""
    return f"{results.date[:10]}, {machine.line(results.machine)}{others}"


def page(results: Results) -> str:
    """The whole report, in Markdown."""
    drawn = charts(results)
    return "\n".join(
        [
            "# Comparison",
            "",
            *summary(drawn),
            "",
            short_table(drawn),
            "",
            "Everything that was measured follows. " + report.page(results),
        ]
    )


def save(results: Results, folder: Path) -> Path:
    """Write the page as Markdown, JSON, PNG and SVG, named by date and machine; the Markdown's path."""
    path = report.save(results, folder, page(results), "comparison-")
    plots.draw(
        charts(results), [path.with_suffix(".png"), path.with_suffix(".svg")],
        "workpool beside other pools",
        f"{note(results)}. Pale: no process pools, and not ranked.", ACROSS,
    )  # fmt: skip
    return path


def into_readme(results: Results, saved: Path, readme: Path) -> None:
    """Put plot and table between the markers of README.md."""
    drawn = charts(results)
    plot = saved.with_suffix(".png").relative_to(readme.parent).as_posix()
    block = [
        BEGIN,
        f"![Bars by case: workpool beside other pools]({plot})",
        "",
        f"{note(results)}. Medians of up to {results.settings['repeats']} repeats.",
        "`python bench/compare.py --readme` wrote this block.",
        *(["**The machine was not quiet.**"] if results.others_cpus > machine.NOISY_CPUS else []),
        "",
        *summary(drawn),
        "",
        short_table(drawn),
        END,
    ]
    text = readme.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{readme} has no block between {BEGIN} and {END}")
    readme.write_text(before + "\n".join(block) + after)
