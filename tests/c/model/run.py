#!/usr/bin/env python3
"""Build the explorer's programs against the headers of csrc and run them.

    tests/c/model/run.py --quick     what CI runs: every scenario, complete within its bounds
    tests/c/model/run.py --long      larger bounds, each scenario up to --seconds, then random play

A scenario that is cut says so; a violation ends in a string for ``--replay`` of the program,
which then prints every step. Programs are left in ``--build``.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[2] / "csrc"
PROGRAMS = [
    "model_litmus",
    "model_deque",
    "model_slot",
    "model_taskset",
    "model_wake",
    "model_completion",
    "model_recover",
    "model_arena",
    "model_borrow",
    "model_lane",
]
STRICT = [
    "-std=c11",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wundef",
    "-Wshadow",
    "-Wconversion",
]
STRICT += ["-Wstrict-prototypes", "-Werror"]
# The engine stands in for ThreadSanitizer's runtime: it only wants to be told of plain accesses.
INSTRUMENT = ["-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0"]


def compiler() -> str:
    return os.environ.get("CC", "gcc")


def instrument() -> list[str]:
    version = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True).stdout
    return (
        INSTRUMENT
        if "clang" not in version
        else [INSTRUMENT[0], "-mllvm", "-tsan-instrument-func-entry-exit=0"]
    )


def build_engine(build: Path) -> Path:
    engine = build / "model.o"
    command = [compiler(), *STRICT, "-O3", "-g", f"-I{HERE}", "-c", str(HERE / "model.c"), "-o", str(engine)]
    subprocess.run(command, check=True)
    return engine


def build_program(name: str, build: Path, engine: Path, csrc: Path = CSRC, strict: bool = True) -> Path:
    """Compile one program against the headers in ``csrc``.

    Raises:
        CalledProcessError: It does not compile; ``stderr`` says why.
    """
    warnings = STRICT if strict else ["-std=c11", "-D_GNU_SOURCE", "-w"]
    unit, program = build / f"{name}.o", build / name
    command = [compiler(), *warnings, "-O2", "-g", "-DWP_MODEL", f"-I{HERE}", f"-I{csrc}", *instrument()]
    subprocess.run(
        [*command, "-c", str(HERE / f"{name}.c"), "-o", str(unit)], check=True, capture_output=True, text=True
    )
    subprocess.run(
        [compiler(), str(unit), str(engine), "-o", str(program)], check=True, capture_output=True, text=True
    )
    return program


def scenarios(program: Path) -> list[str]:
    listed = subprocess.run([str(program), "--list"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in listed.splitlines()]


def explore(program: Path, scenario: str, *options: str) -> tuple[int, str, str]:
    command = ["nice", "-n", "10", str(program), "--scenario", scenario, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the bounds of CI (the default)")
    parser.add_argument("--long", action="store_true", help="larger bounds, then random play")
    parser.add_argument("--seconds", type=float, default=600, help="CPU time of each scenario of --long")
    parser.add_argument(
        "--random", type=int, default=300_000, help="executions of each scenario played by --long"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--csrc", type=Path, default=CSRC, help="headers to explore")
    parser.add_argument("--build", type=Path, help="directory for the programs; a temporary one without")
    parser.add_argument("program", nargs="*", default=PROGRAMS)
    options = parser.parse_args()
    temporary = None
    if options.build is None:
        temporary = tempfile.TemporaryDirectory(prefix="wp-model-")
        options.build = Path(temporary.name)
    options.build.mkdir(parents=True, exist_ok=True)

    begun = time.monotonic()
    engine = build_engine(options.build)
    tasks: list[tuple[Path, str, list[str]]] = []
    for name in options.program:
        try:
            program = build_program(name, options.build, engine, options.csrc)
        except subprocess.CalledProcessError as error:
            print(error.stderr, file=sys.stderr)
            return 1
        for scenario in scenarios(program):
            if not options.long:
                tasks.append((program, scenario, []))
                continue
            tasks.append((program, scenario, ["--more", "--seconds", str(options.seconds)]))
            if name != "model_litmus":
                played = ["--random", str(options.random), "--seed", str(options.seed), "--more"]
                tasks.append((program, scenario, [*played, "--seconds", str(options.seconds)]))

    violations = cut = executions = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for code, out, err in pool.map(lambda task: explore(task[0], task[1], *task[2]), tasks):
            print(out, end="", flush=True)
            executions += sum(int(n) for n in re.findall(r"(\d+) executions", out))
            cut += out.count("CUT")
            if code != 0:
                violations += 1
                print(err, end="", file=sys.stderr, flush=True)
    took = time.monotonic() - begun
    print(f"{len(tasks)} runs, {executions} executions, {cut} cut, {violations} violations, {took:.0f} s")
    if temporary is not None:
        temporary.cleanup()
    return 1 if violations or (cut and not options.long) else 0


if __name__ == "__main__":
    sys.exit(main())
