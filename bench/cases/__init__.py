"""The things that are measured.

A case is a module of this package with

    RIVALS   the names of the rivals it is run with when none are asked for
    FIGURES  what it measures: name -> Figure
    sample(rival, scale) -> Sample   one repeat: figure name -> value

and, where they are needed,

    WITHOUT  rivals of the comparison page that it says nothing about
    WORKERS  of the pool it opens, if not 2, for a rival whose workers are started before
    LEAVES_RUINS  its pools may never end

`scale` is 1 for a figure and less for a quick look. A sample may leave out a figure that
the rival cannot give. Each is taken in a fresh process (sample.py), so nothing that one
pool leaves behind weighs on the next.

SPDX-License-Identifier: BSD-3-Clause
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from bench.rivals import Rival

Sample = dict[str, float]


@dataclass(frozen=True)
class Figure:
    unit: str
    less_is_better: bool = True


class Case(Protocol):
    RIVALS: tuple[str, ...]
    FIGURES: dict[str, Figure]
    sample: Callable[[Rival, float], Sample]
    __doc__: str | None


# In the order of the report.
NAMES = (
    "round_trip",
    "burst",
    "map",
    "grain",
    "start_up",
    "idle_cpu",
    "memory",
    "steal",
    "nested",
    "skewed",
    "strong",
    "messages",
    "loop_lag",
    "limits",
    "endless",
    "arrays",
    "kill",
    "floor",
)


def load(name: str) -> Case:
    return cast("Case", importlib.import_module(f"bench.cases.{name}"))
