"""Samples are taken here: each in a fresh process, all of a repeat before the next.

SPDX-License-Identifier: BSD-3-Clause
"""

import compileall
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import workpool
from bench import cases
from bench.report import Results
from bench.rivals import RIVALS

HERE = Path(__file__).resolve().parent

# The slowest honest sample takes about 20 s; what takes this long hangs.
SAMPLE_TIMEOUT_SECONDS = 60.0


def take(case: str, rival: str, scale: float) -> dict[str, object]:
    """Take one sample in a fresh process.

    Returns:
        The answer of sample.py, or {"failed": why}.
    """
    # -P: the checkout is put on the path by sample.py, which knows where it belongs there.
    command = [sys.executable, "-P", str(HERE / "sample.py"), case, rival, str(scale)]
    if RIVALS[rival].by_mpi and case != "version":
        workers = getattr(cases.load(case), "WORKERS", 2)
        command[2:2] = ["-m", "mpi4py.futures"]
        command = ["mpiexec", "-n", str(1 + workers), *command]
    # Files and not pipes: a pool's worker that outlives the sample holds its end of a pipe open.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            # A session of its own, so that a hanging pool goes with all its workers.
            child = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
        except OSError as error:
            return {"failed": str(error)}
        try:
            child.wait(timeout=SAMPLE_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            return {"failed": f"no answer after {SAMPLE_TIMEOUT_SECONDS} s"}
        finally:
            _end_session(child)
        out.seek(0)
        err.seek(0)
        printed, complaints = out.read().strip().splitlines(), err.read().strip().splitlines()
    if child.returncode == 0 and printed:
        answer: dict[str, object] = json.loads(printed[-1])
        return answer
    return {"failed": (complaints or [f"exit code {child.returncode}"])[-1]}


def _end_session(child: "subprocess.Popen[bytes]") -> None:
    """End what a sample leaves: gently first, so that the trackers of its names clean up after it."""
    for number, seconds in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
        end = time.monotonic() + seconds
        try:
            os.killpg(child.pid, number)
            while time.monotonic() < end:
                child.poll()  # of the session's processes the only one that is ours to wait for
                os.killpg(child.pid, 0)
                time.sleep(0.01)
        except ProcessLookupError:
            break
    child.wait()


def find_rivals(names: list[str], results: Results) -> list[str]:
    """Ask each rival for its version; those that are not there are noted in the results."""
    # What is installed has its bytecode; a checkout that was just edited, and where
    # PYTHONDONTWRITEBYTECODE is set, would be compiled by each process that starts.
    compileall.compile_dir(workpool.__path__[0], quiet=2)
    present = []
    for name in names:
        answer = take("version", name, 1)
        if "version" in answer:
            results.versions[name] = str(answer["version"])
            present.append(name)
        else:
            results.absent[name] = str(answer.get("absent") or answer.get("failed"))
    return present


def run(
    plan: list[tuple[str, str]], results: Results, repeats: int, scale: float, seconds: float = float("inf")
) -> None:
    """Visit every case and rival once per repeat, so that slow drift of the machine meets all alike.

    With a budget of seconds a sample for which the time is not left, as far as the repeats before tell,
    is not begun; what was then never measured is noted as failed.
    """
    end = time.monotonic() + seconds
    took: dict[tuple[str, str], float] = {}
    for repeat in range(repeats):
        for case, rival in _rotated(plan, repeat):
            if f"{case}, {rival}" in results.failed:
                continue
            began = time.monotonic()
            if began + took.get((case, rival), 0.0) > end:
                if repeat == 0:
                    results.failed[f"{case}, {rival}"] = "no time was left"
                continue
            _progress(f"{repeat + 1}/{repeats} {case} {rival}")
            answer = take(case, rival, scale)
            took[case, rival] = time.monotonic() - began
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
