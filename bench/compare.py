"""The comparison with other pools: `python bench/compare.py [CASE …] --save --readme`.

It can be run in parts, whose JSON is merged; README.md beside this file says how.

SPDX-License-Identifier: BSD-3-Clause
"""

import argparse
import datetime
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# As in run.py: the script's own folder must not give its modules a second name.
sys.path[0] = str(HERE.parent)

from bench import comparison, report  # noqa: E402
from bench.report import Results  # noqa: E402
from bench.rivals import COMPARED  # noqa: E402
from bench.taking import find_rivals, run  # noqa: E402
from workpool.measure import machine  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare workpool with other pools, in one run or in parts.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(comparison.CASES)}")
    parser.add_argument("--rivals", metavar="NAME,…", help=f"of {', '.join(COMPARED)}")
    parser.add_argument(
        "--budget", type=float, default=660, metavar="SECONDS", help="for all samples (default: %(default)s)"
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="as many as the budget allows, at most (default: %(default)s)"
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=0.2,
        help="of a sample's length; 1 is that of run.py (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured to FILE")
    parser.add_argument(
        "--merge", type=Path, nargs="+", metavar="FILE", help="measure nothing; take these parts"
    )
    parser.add_argument(
        "--save", action="store_true", help="write page, JSON, PNG and SVG under bench/results"
    )
    parser.add_argument(
        "--readme", action="store_true", help="and plot and table into README.md; implies --save"
    )
    chosen = parser.parse_args()
    chosen.rivals = chosen.rivals.split(",") if chosen.rivals else None
    for names, known in (
        (chosen.cases, comparison.CASES),
        (chosen.rivals or [], (*COMPARED, comparison.FORKED)),
    ):
        for name in names:
            if name not in known:
                parser.error(f"{name!r} is none of {', '.join(known)}")
    if not 0 < chosen.scale <= 1 or chosen.repeats < 1:
        parser.error("--scale is above 0 and at most 1, --repeats at least 1")
    return chosen


def measure(chosen: argparse.Namespace) -> Results:
    plan = [
        (case, rival)
        for case in chosen.cases or comparison.CASES
        for rival in comparison.rivals_of(case)
        if not chosen.rivals or rival in chosen.rivals
    ]
    results = Results(machine.describe(), {"repeats": chosen.repeats, "scale": chosen.scale})
    results.date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    others = machine.OthersMeter()
    present = find_rivals(list(dict.fromkeys(rival for _, rival in plan)), results)
    try:
        run(
            [step for step in plan if step[1] in present],
            results, chosen.repeats, chosen.scale, chosen.budget,
        )  # fmt: skip
    except KeyboardInterrupt:
        print("\ninterrupted: what follows is from fewer repeats", file=sys.stderr)
    results.others_cpus = others.cpus()
    return results


def main() -> int:
    chosen = arguments()
    results = report.merge([report.load(path) for path in chosen.merge]) if chosen.merge else measure(chosen)
    if chosen.json:
        chosen.json.write_text(results.to_json())
    print(comparison.page(results))
    if chosen.save or chosen.readme:
        saved = comparison.save(results, HERE / "results")
        print(f"\nsaved as {saved}")
        if chosen.readme:
            comparison.into_readme(results, saved, HERE.parent / "README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
