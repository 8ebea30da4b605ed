"""Figures as a reader meets them: numbers, tables, and charts to be drawn.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class Bar:
    """One pool's value.

    Attributes:
        ours: It is drawn so that it is found at a glance.
        ranked: It is of our kind, and may be called better or worse than ours.
    """

    name: str
    value: float
    ours: bool = False
    ranked: bool = True


@dataclass(frozen=True)
class Chart:
    """What is compared in one figure, best first; ``linear`` for shares, else bars are logarithmic."""

    title: str
    unit: str
    less_is_better: bool
    bars: tuple[Bar, ...]
    linear: bool = False
    note: str = ""  # behind the unit

    @classmethod
    def of(
        cls,
        title: str,
        unit: str,
        less_is_better: bool,
        values: dict[str, float],
        ours: str,
        unranked: Collection[str] = (),
    ) -> Chart:
        """Make a chart of the values by pool."""
        order = sorted(values, key=lambda name: values[name] if less_is_better else -values[name])
        bars = tuple(Bar(name, values[name], name == ours, name not in unranked) for name in order)
        return cls(title, unit, less_is_better, bars, linear=unit in ("", "%"))

    @property
    def best_other(self) -> Bar | None:
        """The best of those that ours is ranked with."""
        return next((bar for bar in self.bars if bar.ranked and not bar.ours), None)

    @property
    def ratio(self) -> float:
        """How many times better ours is than the best other; less than 1: it is not first."""
        ours, other = next(bar for bar in self.bars if bar.ours), self.best_other
        if other is None:
            return 1.0
        above, below = (other.value, ours.value) if self.less_is_better else (ours.value, other.value)
        if above == below:
            return 1.0  # two nothings too
        return above / below if below else float("inf")

    @property
    def better(self) -> str:
        """Which way is better, in words."""
        return "less is better" if self.less_is_better else "more is better"


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def quartiles(values: list[float]) -> tuple[float, float]:
    """The first and the third."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def table(head: list[str], rows: list[list[str]], texts: int = 2) -> str:
    """A Markdown table, which also reads well as it is; all but the first columns to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def aligned(row: list[str]) -> str:
        cells = [
            cell.ljust(width) if i < texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * width if i < texts else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([aligned(head), f"| {' | '.join(rule)} |", *map(aligned, rows)])
