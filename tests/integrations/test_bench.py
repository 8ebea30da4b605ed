"""The measurements of ``bench.integrations`` run: one case each of what they are made of.

SPDX-License-Identifier: BSD-3-Clause
"""

import subprocess
import sys
from pathlib import Path

import pytest
from pool_support import script_environment

ROOT = Path(__file__).parents[2]

for package in ("dask.dataframe", "joblib", "scipy", "sklearn", "emcee", "dynesty"):
    pytest.importorskip(package)


@pytest.mark.parametrize("case", ["0.1 ms", "brute", "delayed"])
def test_a_case_prints_both_sides_and_their_ratio(case: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.integrations", "--repeats", "1", "--only", case],
        cwd=ROOT, env=script_environment(), capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("|") and case in line]
    assert len(rows) == 1
    assert rows[0].rstrip(" |").endswith("x")
