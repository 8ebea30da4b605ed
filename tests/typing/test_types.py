"""Types: what a checker infers for users.

SPDX-License-Identifier: BSD-3-Clause
"""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from workpool import WorkerPool
from workpool.options import PoolOptions


def test_overloads_know_every_option_of_the_pool() -> None:
    parameters = inspect.signature(WorkerPool.__init__).parameters.values()
    named = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    assert set(PoolOptions.__annotations__) == named


@pytest.mark.timeout(180)
def test_programs_are_typed_as_they_say_and_wrong_lines_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    programs = sorted(str(path) for path in Path(__file__).parent.glob("typed_*.py"))
    assert len(programs) >= 2
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), *programs,
        ],
        capture_output=True, text=True, cwd=ROOT, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
