"""Charts as text, and as one page of bars where matplotlib is installed.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from workpool.measure.figures import number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from workpool.measure.figures import Chart

# Of a bar, in characters, and the shortest.
_WIDEST, _SHORTEST = 40, 1
# Ink for ours, the others, those that are not ranked, and text: apart without colour too.
_OURS, _OTHERS, _PALE, _INK, _FAINT = "#c2410c", "#9aa7b4", "#d9dfe5", "#1f2933", "#6b7785"
# Inches of a panel: a row a pool, and what title and margins take.
_PANEL_WIDTH, _ROW_HEIGHT, _PANEL_REST = 4.6, 0.2, 0.8


def lengths(chart: Chart) -> list[float]:
    """Return how long each bar is, between 0 and 1: by value, or by how many decades above the least."""
    values = [bar.value for bar in chart.bars]
    most = max(values)
    if chart.linear or most <= 0:
        return [value / most if most > 0 else 0.0 for value in values]
    # Half a decade below the least, so that the least has a length too.
    least = min(value for value in values if value > 0) / math.sqrt(10)
    return [
        max(math.log(value / least) / math.log(most / least), 0.0) if value > 0 else 0.0 for value in values
    ]


def text(chart: Chart) -> str:
    """Return a chart as lines: ours is dark and marked."""
    names = max(len(bar.name) for bar in chart.bars)
    scale = "" if chart.linear else ", logarithmic"
    lines = [f"{chart.title} ({chart.unit + ', ' if chart.unit else ''}{chart.better}{scale})"]
    for bar, length in zip(chart.bars, lengths(chart), strict=True):
        drawn = ("█" if bar.ours else "░") * max(round(_WIDEST * length), _SHORTEST)
        mark = ">" if bar.ours else " "
        lines.append(f"{mark} {bar.name:{names}}  {drawn} {number(bar.value)}")
    return "\n".join(lines)


def draw(charts: Sequence[Chart], paths: Sequence[Path], title: str, note: str, across: int = 3) -> None:
    """Write one page of the charts to each path, in the format of its suffix; so many beside each other.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The same bytes for the same figures, and text as text in an SVG.
    with mpl.rc_context({"svg.hashsalt": "workpool", "svg.fonttype": "none", "font.size": 8}):
        across = min(across, len(charts))
        rows = [charts[start : start + across] for start in range(0, len(charts), across)]
        tall = [max(len(chart.bars) for chart in row) * _ROW_HEIGHT + _PANEL_REST for row in rows]
        size = (max(across * _PANEL_WIDTH, 6.0), sum(tall) + 0.9)
        page = Figure(figsize=size, layout="constrained", facecolor="white")
        FigureCanvasAgg(page)
        page.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=_INK)
        page.supxlabel(note, x=0.01, ha="left", fontsize=8, color=_FAINT)
        panels = page.subplots(len(rows), across, squeeze=False, gridspec_kw={"height_ratios": tall})
        for row, axes in zip(rows, panels, strict=True):
            for chart, panel in zip(row, axes, strict=False):
                _draw_panel(chart, panel, max(len(chart.bars) for chart in row))
            for panel in axes[len(row) :]:
                panel.set_axis_off()
        for path in paths:
            # No date inside: a page that is drawn again differs by its figures alone.
            metadata = {"Date": None} if path.suffix == ".svg" else None
            page.savefig(path, dpi=130, metadata=metadata)


def _draw_panel(chart: Chart, panel: Any, rows: int) -> None:
    places = range(len(chart.bars))
    values = [bar.value for bar in chart.bars]
    ends = values
    colours = [_OURS if bar.ours else _OTHERS if bar.ranked else _PALE for bar in chart.bars]
    if chart.linear:
        panel.barh(places, values, color=colours, height=0.72)
        panel.set_xlim(0, max(*values, 0) * 1.22 or 1)
    else:
        least = min((value for value in values if value > 0), default=1.0) / math.sqrt(10)
        most = max(*values, least * 10)
        panel.set_xscale("log")
        # What is nothing has no place on this axis: a bar that is hardly one.
        ends = [max(value, least * 1.02) for value in values]
        panel.barh(places, ends, color=colours, height=0.72)
        panel.set_xlim(least, most * (most / least) ** 0.22)
    for place, bar, end in zip(places, chart.bars, ends, strict=True):
        panel.annotate(
            number(bar.value),
            (end, place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=_OURS if bar.ours else _FAINT,
            fontweight="bold" if bar.ours else "normal",
            annotation_clip=False,
        )
    panel.set_yticks(places, [bar.name for bar in chart.bars])
    for bar, label in zip(chart.bars, panel.get_yticklabels(), strict=True):
        label.set_color(_OURS if bar.ours else _INK)
        label.set_fontweight("bold" if bar.ours else "normal")
    panel.set_ylim(rows - 0.5, -0.5)  # from above, and a bar is as thick as in the panel beside
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", which="both", length=0, labelbottom=False)
    for side in ("top", "right", "bottom"):
        panel.spines[side].set_visible(False)
    panel.spines["left"].set_color(_OTHERS)
    unit = f"{chart.unit}, " if chart.unit else ""
    panel.set_title(chart.title, loc="left", fontsize=9, fontweight="bold", color=_INK, pad=14)
    panel.annotate(
        unit + chart.better + chart.note, (0, 1), xytext=(0, 4), xycoords="axes fraction",
        textcoords="offset points", fontsize=7, color=_FAINT,
    )  # fmt: skip
