"""What a run found, and how it is told: tables, JSON.

SPDX-License-Identifier: BSD-3-Clause
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench import cases, machine
from bench.rivals import OURS

# Raised when a reader of old files would misread a new one.
FORMAT = 1
# Above this, in CPUs, others disturb what is measured.
NOISY_CPUS = 0.05


@dataclass
class Results:
    """`samples[case][figure][rival]` holds one value per repeat, in the order taken."""

    machine: dict[str, str | int | float]
    settings: dict[str, Any]
    date: str = ""
    others_cpus: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    samples: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    bars: list[dict[str, Any]] = field(default_factory=list)

    def add(self, case: str, rival: str, sample: cases.Sample) -> None:
        for figure, value in sample.items():
            self.samples.setdefault(case, {}).setdefault(figure, {}).setdefault(rival, []).append(value)

    def values(self, case: str, figure: str, rival: str = OURS) -> list[float]:
        """The samples; KeyError when there are none."""
        return self.samples[case][figure][rival]

    def median(self, case: str, figure: str, rival: str = OURS) -> float:
        return median(self.values(case, figure, rival))

    def ratio(self, case: str, figure: str, rival: str) -> float:
        """How many times better workpool is: the median over repeats of the ratios within a repeat.

        Both sides of each ratio are from about the same moment, so what slows the whole
        machine for a while cancels.
        """
        ours, theirs = self.values(case, figure), self.values(case, figure, rival)
        if cases.load(case).FIGURES[figure].less_is_better:
            return median(b / a for a, b in zip(ours, theirs, strict=False))
        return median(a / b for a, b in zip(ours, theirs, strict=False))

    def to_json(self) -> str:
        """One object: the fields of this class; medians are for the reader to take."""
        units = {
            case: {name: vars(figure) for name, figure in cases.load(case).FIGURES.items()}
            for case in self.samples
        }
        return json.dumps({"format": FORMAT, **vars(self), "figures": units}, indent=1) + "\n"


def load(path: Path) -> Results:
    stored = json.loads(path.read_text())
    if stored.pop("format") != FORMAT:
        raise ValueError(f"{path} has another format than {FORMAT}")
    del stored["figures"]
    return Results(**stored)


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, which also reads well as it is; numbers to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def aligned(row: list[str]) -> str:
        cells = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * width if i < 2 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([aligned(head), f"| {' | '.join(rule)} |", *map(aligned, rows)])


def case_table(results: Results, case: str) -> str:
    rows = []
    for figure, about in cases.load(case).FIGURES.items():
        by_rival = results.samples[case].get(figure, {})
        for rival, values in by_rival.items():
            low, high = quartiles(values)
            compared = rival != OURS and OURS in by_rival
            rows.append(
                [
                    figure if rival == next(iter(by_rival)) else "",
                    rival,
                    number(median(values)),
                    f"{number(low)} - {number(high)}",
                    about.unit,
                    f"{number(results.ratio(case, figure, rival))} x" if compared else "",
                ]
            )
    head = ["figure", "pool", "median", "quartiles", "unit", "workpool is better"]
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return table(head, rows)


def bar_table(results: Results) -> str:
    rows = [[bar["text"], bar["verdict"], bar["measured"], bar["bar"]] for bar in results.bars]
    return table(["bar", "verdict", "measured", "limit"], rows)


def page(results: Results) -> str:
    """Everything that was found, in Markdown."""
    lines = [f"{results.date}, {machine.line(results.machine)}", ""]
    lines.append(
        f"Medians of {results.settings['repeats']} repeats, with quartiles. Other processes kept "
        f"{results.others_cpus:.2f} CPUs busy meanwhile."
    )
    if results.others_cpus > NOISY_CPUS:
        lines.append("**Noisy: the machine was not quiet, so no bar is decided by this run.**")
    if results.settings["scale"] != 1:
        lines.append("**A quick look: short samples, so no bar is decided by this run.**")
    lines += ["", *(f"- {name}: {text}" for name, text in results.versions.items())]
    lines += [f"- {name}: absent ({why})" for name, why in results.absent.items()]
    lines += [f"- {what}: failed ({why})" for what, why in results.failed.items()]
    for case in results.samples:
        summary = (cases.load(case).__doc__ or "").strip().splitlines()[0]
        lines += ["", f"## {case}", "", summary, "", case_table(results, case)]
    if results.bars:
        lines += ["", "## The bars", "", bar_table(results)]
    return "\n".join(lines) + "\n"


def save(results: Results, folder: Path) -> Path:
    """Write JSON and Markdown into the folder, named by date and machine; the Markdown's path."""
    cpu = re.sub(r"[^a-z0-9]+", "-", str(results.machine["cpu"]).lower()).strip("-")
    stem = f"{results.date[:16].replace(':', '')}-{cpu}-py{results.machine['python']}"
    path = folder / f"{stem}.md"
    path.parent.mkdir(exist_ok=True)
    path.with_name(f"{stem}.json").write_text(results.to_json())
    path.write_text(page(results))
    return path
