"""Short storms; ``WORKPOOL_STRESS_SECONDS`` makes them long. See storm.py.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = float(os.environ.get("WORKPOOL_STRESS_SECONDS", "12"))

# The last look at a pool at rest, on a busy machine; and the storm's own watchdog comes first.
MARGIN = 150.0


def storm(share: float, *options: str, park: str = "futex") -> str:
    """Run a storm as a process of its own, which a hang or a crash takes along; return its report."""
    seconds = share * SECONDS
    seed = os.environ.get("WORKPOOL_STRESS_SEED")
    command = [
        sys.executable, str(Path(__file__).parent / "storm.py"), "--seconds", str(seconds),
        "--kills", "1000000", "--tasks", "1000000000", "--tasks-per-kill", "100",
        *options, *(() if seed is None else ("--seed", seed)),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + MARGIN, check=False,
        env={**os.environ, "WORKPOOL_PARK": park},
    )  # fmt: skip
    print(done.stdout, done.stderr)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""  # what crashes, apart from those that are to, would say where
    return done.stdout


@pytest.mark.timeout(SECONDS + MARGIN + 10)
@pytest.mark.parametrize(
    ("share", "options", "park"),
    [
        (0.5, ("--workers", "3"), "futex"),
        (0.3, ("--workers", "2", "--pools", "2", "--threads", "2"), "futex"),
        (0.2, ("--workers", "4"), "poll"),
    ],
    ids=["one-pool", "two-pools", "polling"],
)
def test_law_holds_in_a_storm(share: float, options: tuple[str, ...], park: str) -> None:
    report = storm(share, *options, park=park)
    assert report.rstrip().endswith("the law holds")
