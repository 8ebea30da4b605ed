"""Every atomic access of the core says why its order is enough, and names its meeting.

SPDX-License-Identifier: BSD-3-Clause
"""

import re
from pathlib import Path

import pytest
from helpers import ROOT

HEADERS = sorted((ROOT / "csrc").glob("*.h"))
SYNC = re.compile(r"sync ([a-z_]+(?:\.[a-z_]+)+) \((publish|observe)\)")
ACCESS = re.compile(r"\bwp_(?:load|store|cas|swap|or|and)_(?:relaxed|acquire|release|acq_rel|seq_cst)\(")
REASON = re.compile(r"//.*\b(relaxed:|sync )")
# Lines above an access that may hold its reason.
REACH_LINES = 4


def test_every_sync_point_has_both_sides() -> None:
    sides: dict[str, set[str]] = {}
    for header in HEADERS:
        for name, side in SYNC.findall(header.read_text()):
            sides.setdefault(name, set()).add(side)
    one_sided = {name: side for name, side in sides.items() if side != {"publish", "observe"}}
    assert not one_sided
    assert sides


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.name)
def test_every_atomic_access_says_why_its_order_is_enough(header: Path) -> None:
    lines = header.read_text().splitlines()
    silent = [
        f"{header.name}:{number + 1}: {line.strip()}"
        for number, line in enumerate(lines)
        if ACCESS.search(line.partition("//")[0])
        and not line.startswith("#define")
        and not any(REASON.search(near) for near in lines[max(0, number - REACH_LINES) : number + 1])
    ]
    assert not silent, "\n".join(silent)


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.name)
def test_a_sync_comment_is_well_formed(header: Path) -> None:
    for line in header.read_text().splitlines():
        if re.search(r"//\s*sync\b", line):
            assert SYNC.search(line), line.strip()
