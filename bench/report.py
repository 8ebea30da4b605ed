"""What a run found, and how it is told: tables, JSON.

SPDX-License-Identifier: BSD-3-Clause
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench import cases
from bench.rivals import OURS
from workpool.measure import machine
from workpool.measure.figures import number, quartiles, table

# Raised when a reader of old files would misread a new one.
FORMAT = 1


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
            ours, theirs = theirs, ours
        # Of nothing and something; tasks lost may be none.
        return median(a / b if b else float("inf") if a else 1.0 for a, b in zip(ours, theirs, strict=False))

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


def merge(parts: list[Results]) -> Results:
    """One run of several: other cases, other rivals, or further repeats of the same."""
    first = parts[0]
    whole = Results(first.machine, dict(first.settings), first.date)
    for part in parts:
        if part.settings["scale"] != first.settings["scale"]:
            raise ValueError("the parts have samples of different lengths")
        if any(part.machine[key] != first.machine[key] for key in ("cpu", "cpus_usable", "python")):
            raise ValueError("the parts are of different machines")
        whole.others_cpus = max(whole.others_cpus, part.others_cpus)
        whole.settings["repeats"] = max(whole.settings["repeats"], part.settings["repeats"])
        whole.versions |= part.versions
        whole.absent |= part.absent
        whole.failed |= part.failed
        for case, figures in part.samples.items():
            for figure, by_rival in figures.items():
                for rival, values in by_rival.items():
                    whole.samples.setdefault(case, {}).setdefault(figure, {}).setdefault(rival, []).extend(
                        values
                    )
    # What one part could not do another may have done.
    done = {f"{case}, {rival}" for case, of in whole.samples.items() for by in of.values() for rival in by}
    whole.failed = {what: why for what, why in whole.failed.items() if what not in done}
    whole.absent = {name: why for name, why in whole.absent.items() if name not in whole.versions}
    return whole


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
    if results.others_cpus > machine.NOISY_CPUS:
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


def save(results: Results, folder: Path, text: str, kind: str = "") -> Path:
    """Write JSON and Markdown into the folder, named by date and machine; the Markdown's path."""
    cpu = re.sub(r"[^a-z0-9]+", "-", str(results.machine["cpu"]).lower()).strip("-")
    stem = f"{results.date[:16].replace(':', '')}-{kind}{cpu}-py{results.machine['python']}"
    path = folder / f"{stem}.md"
    path.parent.mkdir(exist_ok=True)
    path.with_name(f"{stem}.json").write_text(results.to_json())
    path.write_text(text)
    return path
