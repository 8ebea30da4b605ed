"""Measure workpool and its rivals on this machine: `python bench/run.py [CASE …]`.

README.md beside this file says how a figure is taken.

SPDX-License-Identifier: BSD-3-Clause
"""

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The script's own folder would make `cases` and `rivals` importable under a second name.
sys.path[0] = str(HERE.parent)

from bench import bars, cases, machine, report  # noqa: E402
from bench.report import Results  # noqa: E402
from bench.rivals import RIVALS  # noqa: E402

# The slowest honest sample takes about 10 s; what takes this long hangs.
SAMPLE_TIMEOUT_SECONDS = 120.0
QUICK_SCALE = 0.1


def take(case: str, rival: str, scale: float) -> dict[str, object]:
    """Take one sample in a fresh process.

    Returns:
        The answer of sample.py, or {"failed": why}.
    """
    # -P: the checkout is put on the path by sample.py, which knows where it belongs there.
    command = [sys.executable, "-P", str(HERE / "sample.py"), case, rival, str(scale)]
    # A session of its own, so that a hanging pool goes with all its workers.
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = child.communicate(timeout=SAMPLE_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        out, err = "", f"no answer after {SAMPLE_TIMEOUT_SECONDS} s"
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    if child.returncode == 0 and out:
        answer: dict[str, object] = json.loads(out.splitlines()[-1])
        return answer
    return {"failed": (err.strip().splitlines() or [f"exit code {child.returncode}"])[-1]}


def find_rivals(names: list[str], results: Results) -> list[str]:
    """Ask each rival for its version; those that are not there are noted in the results."""
    present = []
    for name in names:
        answer = take("version", name, 1)
        if "version" in answer:
            results.versions[name] = str(answer["version"])
            present.append(name)
        else:
            results.absent[name] = str(answer.get("absent") or answer.get("failed"))
    return present


def run(plan: list[tuple[str, str]], results: Results, repeats: int, scale: float) -> None:
    """Visit every case and rival once per repeat, so that slow drift of the machine meets all alike."""
    for repeat in range(repeats):
        for case, rival in _rotated(plan, repeat):
            if f"{case}, {rival}" in results.failed:
                continue
            _progress(f"{repeat + 1}/{repeats} {case} {rival}")
            answer = take(case, rival, scale)
            figures = answer.get("figures")
            if isinstance(figures, dict):
                results.add(case, rival, figures)
            else:
                results.failed[f"{case}, {rival}"] = str(answer.get("failed") or answer)
    _progress("")


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _rotated(plan: list[tuple[str, str]], turns: int) -> list[tuple[str, str]]:
    """The plan with the rivals of each case rotated: nobody always follows the same neighbour."""
    order = []
    for case in dict.fromkeys(case for case, _ in plan):
        own = [step for step in plan if step[0] == case]
        cut = turns % len(own)
        order += own[cut:] + own[:cut]
    return order


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
        print(f"\nsaved as {report.save(results, HERE / 'results')}")
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
