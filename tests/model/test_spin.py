"""Each protocol model passes, and each of its broken variants fails.

SPDX-License-Identifier: BSD-3-Clause
"""

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("model_run", HERE / "run.py")
assert _spec is not None
assert _spec.loader is not None
run = importlib.util.module_from_spec(_spec)
sys.modules["model_run"] = run
_spec.loader.exec_module(run)

VARIANTS = [
    v for model in sorted(HERE.glob("*.pml")) for v in run.variants_of(model) if v.verdict != "long pass"
]


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    missing = run.missing_tools()
    if not missing:
        return
    # `.ci/run proof` installs what is missing and checks them all.
    pytest.skip(f"{' and '.join(missing)} not found, so no model is checked (Debian: apt install spin gcc)")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_model_has_the_verdict_that_its_head_names(variant: "run.Variant") -> None:
    outcome = run.check(variant, timeout=250.0, memory_mb=2000)
    assert outcome.verdict == variant.verdict.split()[1], f"{variant}: {outcome}"


def test_every_model_has_variants_of_both_kinds() -> None:
    for model in HERE.glob("*.pml"):
        assert {"must pass", "must fail"} <= {v.verdict for v in run.variants_of(model)}, model.name
