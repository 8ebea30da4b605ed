"""A short storm of forced cancels; ``cancel_storm.py`` runs longer ones.

SPDX-License-Identifier: BSD-3-Clause
"""

import subprocess
import sys
from pathlib import Path

import pytest
from pool_support import script_environment


@pytest.mark.timeout(200)
def test_forced_cancels_and_limits_in_traffic_reach_nobody_else() -> None:
    script = Path(__file__).with_name("cancel_storm.py")
    options = ["--tasks", "10000", "--cancels", "150", "--stuck", "2"]
    done = subprocess.run(
        [sys.executable, str(script), *options], capture_output=True, text=True, timeout=180,
        env=script_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    # Wherever the dice fell, each kind came up.
    assert all(kind in done.stdout for kind in ("'result'", "'cancelled'", "'timed out'")), done.stdout
