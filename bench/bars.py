"""The figures that workpool is held to, judged on the samples of one run.

Source: issues 2, 4, 5 and 6, "Figures it must reach". On a quiet machine with 2 CPUs.

SPDX-License-Identifier: BSD-3-Clause
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.cases import load
from bench.report import Results
from bench.rivals import OURS
from workpool.measure.figures import number


@dataclass(frozen=True)
class Bar:
    text: str
    cases: tuple[str, ...]  # all that must have been run to judge it
    measured: Callable[[Results], float]
    limit: Callable[[Results], float]
    at_most: bool
    unit: str


def _figure(case: str, figure: str, limit: float, text: str, rival: str = OURS) -> Bar:
    about = load(case).FIGURES[figure]
    return Bar(
        text,
        (case,),
        lambda results: results.median(case, figure, rival),
        lambda results: limit,
        about.less_is_better,
        about.unit,
    )


def _times_better(case: str, figure: str, rivals: tuple[str, ...], times: float, text: str) -> Bar:
    def measured(results: Results) -> float:
        # Against the best of the named that ran; KeyError when none did.
        ran = [rival for rival in rivals if rival in results.samples[case][figure]]
        return min(results.ratio(case, figure, rival) for rival in ran or rivals)

    return Bar(text, (case,), measured, lambda results: times, at_most=False, unit="x")


def _beside_a_copy(size: str, more: float, unit: str) -> Bar:
    return Bar(
        f"{size} array in, a number out: 1.3 x its copy" + (f" + {more:.0f} {unit}" if more else ""),
        ("arrays",),
        lambda results: results.median("arrays", f"{size} in"),
        lambda results: 1.3 * results.median("arrays", f"{size} copied") + more,
        at_most=True,
        unit=unit,
    )


_FUTURES = ("futures-fork", "futures-spawn")

BARS = [
    _figure("round_trip", "hot", 5.0, "hot round trip, 1 worker"),
    _times_better("round_trip", "hot", _FUTURES, 50, "hot round trip beside ProcessPoolExecutor"),
    Bar(
        "round trip after 2 ms idle: 1.6 x futex round trip + 10 us",
        ("round_trip", "floor"),
        lambda results: results.median("round_trip", "after 2 ms"),
        lambda results: 1.6 * results.median("floor", "futex round trip, after 2 ms", "c") / 1000 + 10,
        at_most=True,
        unit="us",
    ),
    _figure("burst", "tasks", 500_000, "burst, 2 workers"),
    _times_better("burst", "tasks", _FUTURES, 60, "burst beside ProcessPoolExecutor"),
    _times_better(
        "burst", "tasks", ("multiprocessing-chunk1",), 30, "burst beside multiprocessing.Pool, chunks of 1"
    ),
    _times_better("map", "items", ("multiprocessing",), 1, "map beside multiprocessing.Pool, default chunks"),
    _figure("memory", "PSS", 20, "idle worker, exec"),
    _figure("memory", "PSS", 10, "idle worker, fork", "workpool-fork"),
    _figure("idle_cpu", "CPU in 5 s", 10, "idle pool, 2 workers, 5 s"),
    _times_better(
        "start_up", "first result", ("futures-spawn",), 1, "first result beside ProcessPoolExecutor, spawn"
    ),
    _figure("steal", "speed-up, from a worker", 1.8, "a worker's deque, 2 workers beside 1"),
    _figure("nested", "tasks", 200_000, "fork and join down to single leaves, 2 workers"),
    _figure("grain", "20 us", 0.85, "efficiency, tasks of 20 us one by one, 2 workers"),
    _figure("grain", "100 us", 0.93, "efficiency, tasks of 100 us one by one, 2 workers"),
    _figure("grain", "1 ms", 0.97, "efficiency, tasks of 1 ms one by one, 2 workers"),
    _figure("grain", "20 us, map", 0.93, "efficiency, items of 20 us through map, 2 workers"),
    _figure("messages", "round trip", 15.0, "message round trip, idle worker"),
    _figure("messages", "to worker", 300_000, "burst of messages, pool to worker"),
    _figure("messages", "to pool", 300_000, "burst of messages, worker to pool"),
    _figure("strong", "late", 3.0, "strong task behind one of 2 s, started elsewhere"),
    _figure("skewed", "unknown, of the best", 1.10, "skewed load, costs unknown, beside list scheduling"),
    _figure("limits", "cancelled, in Python", 20.0, "task in Python code cancelled with force"),
    _figure("limits", "timed out, in Python", 20.0, "task in Python code beyond its timeout"),
    _figure("limits", "timed out in C, beyond the grace", 300.0, "task in C code: next task in a new worker"),
    _figure("limits", "Ctrl-C, 10,000 queued", 1000.0, "Ctrl-C until nothing is left"),
    _figure("arrays", "8 KB in", 12.0, "8 KB array in, a number out"),
    _beside_a_copy("1 MB", 20.0, "us"),
    _beside_a_copy("64 MB", 0.0, "ms"),
    _figure("arrays", "64 MB made there, beyond the task", 100.0, "64 MB made with client.empty, out"),
    _figure("arrays", "64 MB shared, beyond the task", 20.0, "64 MB shared, written in place"),
    _figure("arrays", "64 MB shared, beyond the task, spin=0.05", 20.0, "the same, with no side asleep"),
    _figure("arrays", "blocks, 2 workers", 1.9, "map_blocks, 1 us a row, nothing tuned"),
    _figure("skewed", "learned, of the ideal", 1.03, "skewed load, costs learned, beside the ideal"),
]


def judge(results: Results) -> list[dict[str, Any]]:
    """Judge the bars of which something was run."""
    judged = []
    for bar in BARS:
        if not any(case in results.samples for case in bar.cases):
            continue
        relation = "<=" if bar.at_most else ">="
        try:
            value, limit = bar.measured(results), bar.limit(results)
        except KeyError as missing:
            verdict = f"not judged: no samples of {missing.args[0]}"
            judged.append({"text": bar.text, "measured": "", "bar": "", "verdict": verdict})
            continue
        met = value <= limit if bar.at_most else value >= limit
        judged.append(
            {
                "text": bar.text,
                "measured": f"{number(value)} {bar.unit}",
                "bar": f"{relation} {number(limit)} {bar.unit}",
                "verdict": "met" if met else "not met",
            }
        )
    return judged
