"""``python -m workpool bench``: this machine's latency and throughput, beside the standard library's.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from workpool.files import Unusable

if TYPE_CHECKING:
    import argparse

    from workpool.measure.figures import Chart

# What a pool takes at most, its start and its end among it; past that it hangs.
_POOL_SECONDS = 60.0
# For each figure of each pool: the whole is then done in about half a minute.
_SECONDS, _QUICK_SECONDS = 0.5, 0.05


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "bench",
        help="measure this machine",
        description="Measure round trips, bursts, map and start-up of a pool beside those of the standard "
        "library, each in a process of its own, in less than a minute.",
    )
    command.add_argument("--plot", metavar="FILE", type=Path, help="draw the bars too: .png, .svg or .pdf")
    command.add_argument("--quick", action="store_true", help="a look: so short that figures are rough")
    command.set_defaults(carry_out=run)


def run(options: argparse.Namespace) -> int:
    """Carry out ``workpool bench`` and return its exit status."""
    from workpool.measure import machine, plots
    from workpool.measure.sample import OURS, POOLS

    if options.plot:
        _check_plot(options.plot)
    meter = machine.OthersMeter()
    about = machine.line(machine.describe())
    print(about, flush=True)
    found = {name: _measure(name, _QUICK_SECONDS if options.quick else _SECONDS) for name in POOLS}
    others = meter.cpus()
    charts = charts_of(found)
    for chart in charts:
        print(f"\n{plots.text(chart)}\n  {verdict(chart)}")
    print()
    if others > machine.NOISY_CPUS:
        print(f"Other processes kept {others:.2f} CPUs busy meanwhile: figures are worse than they could be.")
    if options.plot:
        plots.draw(charts, [options.plot], f"{OURS} beside the standard library", about)
        print(f"drawn: {options.plot}")
    return 0


def _measure(name: str, seconds: float) -> dict[str, float]:
    # -c: a main module that is a file would be imported again by spawned workers, with all of workpool.
    command = [sys.executable, "-c", "from workpool.measure.sample import main; main()", name, str(seconds)]
    if sys.stderr.isatty():
        print(f"\r\x1b[K{name} …", end="", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_POOL_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unusable(f"{name} did not end within {_POOL_SECONDS:.0f} s") from None
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if done.returncode != 0:
        raise Unusable(f"{name}: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}")
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def _check_plot(path: Path) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise Unusable("--plot needs matplotlib, which is not installed")
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise Unusable(f"{path}: .png, .svg or .pdf")
    if not path.parent.is_dir():
        raise Unusable(f"{path}: no such folder")


def charts_of(found: dict[str, dict[str, float]]) -> list[Chart]:
    """Return a chart for each figure."""
    from workpool.measure.figures import Chart
    from workpool.measure.sample import FIGURES, OURS, THREADS

    return [
        Chart.of(title, unit, less, {name: figures[title] for name, figures in found.items()}, OURS, THREADS)
        for title, (unit, less) in FIGURES.items()
    ]


def verdict(chart: Chart) -> str:
    """Say how much better ours is than the best other process pool, or that it is not."""
    from workpool.measure.figures import number

    other = chart.best_other
    if other is None:
        return ""
    if chart.ratio >= 1:
        return f"{number(chart.ratio)} times better than {other.name}, the best of the other process pools"
    return f"not first: {other.name} is {number(1 / chart.ratio)} times better"
