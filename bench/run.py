"""Measure workpool and its rivals on this machine: `python bench/run.py [CASE …]`.

README.md beside this file says how a figure is taken.

SPDX-License-Identifier: BSD-3-Clause
"""

import argparse
import datetime
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The script's own folder would make `cases` and `rivals` importable under a second name.
sys.path[0] = str(HERE.parent)

from bench import bars, cases, report  # noqa: E402
from bench.report import Results  # noqa: E402
from bench.rivals import RIVALS  # noqa: E402
from bench.taking import find_rivals, run  # noqa: E402
from workpool.measure import machine  # noqa: E402

QUICK_SCALE = 0.1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure workpool beside its rivals, in one run.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="what to measure; without, everything")
    parser.add_argument("--rivals", metavar="NAME,…", help="only these, in every case that is run")
    parser.add_argument("--repeats", type=int, default=5, help="samples per figure (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a look: short samples, two repeats at most")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, samples too, to FILE")
    parser.add_argument("--save", action="store_true", help="write JSON and tables under bench/results")
    parser.add_argument("--list", action="store_true", help="name cases and rivals, and end")
    chosen = parser.parse_args()
    for names, known in ((chosen.cases, cases.NAMES), ((chosen.rivals or "").split(","), ["", *RIVALS])):
        for name in names:
            if name not in known:
                parser.error(f"{name!r} is none of {', '.join(filter(None, known))}")
    if chosen.repeats < 1:
        parser.error("--repeats must be at least 1")
    return chosen


def main() -> int:
    chosen = arguments()
    if chosen.list:
        for name in cases.NAMES:
            print(f"{name:12} {(cases.load(name).__doc__ or '').strip().splitlines()[0]}")
        print()
        for rival in RIVALS.values():
            print(f"{rival.name:24} {rival.what}")
        return 0

    names = list(chosen.cases or cases.NAMES)
    # A bar that compares two cases needs both from the same run.
    for bar in bars.BARS:
        if bar.cases[0] in names:
            names += [case for case in bar.cases if case not in names]
    plan = []
    for case in names:
        own = cases.load(case).RIVALS
        wanted = chosen.rivals.split(",") if chosen.rivals and case != "floor" else own
        # Asked for by name, a case is run with any pool; else a rival is run where it competes.
        plan += [(case, rival) for rival in wanted if rival in own or (case in chosen.cases and rival != "c")]

    scale = QUICK_SCALE if chosen.quick else 1.0
    repeats = min(chosen.repeats, 2) if chosen.quick else chosen.repeats
    results = Results(machine.describe(), {"repeats": repeats, "scale": scale})
    results.date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    present = find_rivals(list(dict.fromkeys(rival for _, rival in plan)), results)
    others = machine.OthersMeter()
    try:
        run([step for step in plan if step[1] in present], results, repeats, scale)
    except KeyboardInterrupt:
        print("\ninterrupted: what follows is from fewer repeats", file=sys.stderr)
    results.others_cpus = others.cpus()
    results.bars = bars.judge(results)

    print(report.page(results), end="")
    if chosen.json:
        chosen.json.write_text(results.to_json())
    if chosen.save:
        print(f"\nsaved as {report.save(results, HERE / 'results', report.page(results))}")
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
