#!/usr/bin/env python3
"""Run the protocol models, with the variants that must fail.

A model names its variants in its head, one a line: ``must pass: FLAGS``, ``must fail: FLAGS``,
and ``long pass: FLAGS`` for bounds that need minutes and gigabytes (``--long``). A variant fails
by an assertion, by a state in which nobody can go on, or (``-DLIVE``) by a run without an end.
A search that was cut short is neither a pass nor a failure: it is an error.

It needs ``spin`` and a C compiler.

SPDX-License-Identifier: BSD-3-Clause
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
VARIANT = re.compile(r"^\s*(must pass|must fail|long pass):(.*?)(?:\*/)?$", re.MULTILINE)
CUT_SHORT = ("max search depth too small", "reached -DMEMLIM", "out of memory")


class Variant(NamedTuple):
    model: Path
    verdict: str
    flags: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join([self.model.stem, *self.flags])


class Outcome(NamedTuple):
    verdict: str  # "pass", "fail", or why it is neither
    states: int
    seconds: float


def variants_of(model: Path) -> list[Variant]:
    return [
        Variant(model, found[1], tuple(found[2].split())) for found in VARIANT.finditer(model.read_text())
    ]


def missing_tools() -> list[str]:
    return [tool for tool in ("spin", compiler()) if shutil.which(tool) is None]


def compiler() -> str:
    return os.environ.get("CC", "gcc")


def check(variant: Variant, timeout: float, memory_mb: int) -> Outcome:
    live = "-DLIVE" in variant.flags
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as work:

        def call(*command: str) -> str:
            done = subprocess.run(
                command,
                cwd=work,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
            )
            return done.stdout

        shutil.copy(variant.model, work)
        said = call("spin", *variant.flags, "-a", variant.model.name)
        # What must fail ends soon: building it faster is worth more than running it faster.
        level = "-O0" if variant.verdict == "must fail" else "-O2"
        kind = ["-DNFAIR=4"] if live else ["-DSAFETY"]
        said += call(
            compiler(), level, "-w", *kind, "-DVECTORSZ=2048", f"-DMEMLIM={memory_mb}", "-o", "pan", "pan.c"
        )
        if not Path(work, "pan").exists():
            return Outcome(f"not built: {said.strip()[-500:]}", 0, time.monotonic() - begun)
        try:
            said = call("./pan", "-m600000", *(["-a", "-f"] if live else []))
        except subprocess.TimeoutExpired:
            return Outcome(f"no end within {timeout:g} s", 0, timeout)
    seconds = time.monotonic() - begun
    states = re.search(r"^\s*([\d.e+]+) states, stored", said, re.MULTILINE)
    errors = re.search(r"errors: (\d+)", said)
    stored = int(float(states[1])) if states else 0
    if errors is None:
        return Outcome(f"no verdict: {said.strip()[-500:]}", stored, seconds)
    if int(errors[1]) > 0:
        return Outcome("fail", stored, seconds)
    for sign in CUT_SHORT:
        if sign in said:
            return Outcome(f"cut short: {sign}", stored, seconds)
    return Outcome("pass", stored, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", help="names of models, such as park; all without any")
    parser.add_argument("--long", action="store_true", help="also the larger bounds: minutes and gigabytes")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    missing = missing_tools()
    if missing:
        print(f"missing: {', '.join(missing)}")
        return 2
    models = sorted(HERE.glob("*.pml"))
    models = [model for model in models if not options.models or model.stem in options.models]
    variants = [v for model in models for v in variants_of(model) if options.long or v.verdict != "long pass"]
    wrong = 0
    begun = time.monotonic()
    print(f"{'model and variant':40} {'expected':>8} {'found':>8} {'states':>12} {'s':>6}")
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        limits = [(3600.0, 6000) if v.verdict == "long pass" else (300.0, 2000) for v in variants]
        futures = [pool.submit(check, v, *limit) for v, limit in zip(variants, limits, strict=True)]
        for variant, future in zip(variants, futures, strict=True):
            outcome = future.result()
            expected = variant.verdict.split()[1]
            right = outcome.verdict == expected
            wrong += not right
            found = f"{outcome.verdict:>8} {outcome.states:12,} {outcome.seconds:6.1f}"
            print(f"{variant!s:40} {expected:>8} {found}{'' if right else '   WRONG'}", flush=True)
    print(f"{len(variants)} variants, {wrong} not as expected, {time.monotonic() - begun:.0f} s")
    return 1 if wrong or not variants else 0


if __name__ == "__main__":
    sys.exit(main())
