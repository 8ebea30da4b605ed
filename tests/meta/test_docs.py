"""Every fenced Python block of README.md and docs/ runs, and prints what it says it prints.

A block whose first line is a comment with a file name, such as ``# my_worker.py``, is
that file; the other blocks of the page find it beside them. A comment behind a call of
``print`` is a line of the output. A block that imports a package of the extra
``integrations`` is skipped where that is not installed.

SPDX-License-Identifier: BSD-3-Clause
"""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w./-]+\.\w+)\n")
# The packages of the extra `integrations`, by their modules.
OPTIONAL = {"dask", "distributed", "dynesty", "emcee", "joblib", "pandas", "scipy", "sklearn"}
PRINTED = re.compile(r"^.*\bprint\(.*\)\s+# (.+)$", re.MULTILINE)


class Block(NamedTuple):
    page: Path
    line: int
    text: str

    @property
    def file_name(self) -> str | None:
        found = FILE_NAME.match(self.text)
        return found[1] if found else None


def modules_of(text: str) -> set[str]:
    """The first names of what a block imports."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(page, text.count("\n", 0, found.start(1)) + 1, found[1]) for found in FENCE.finditer(text)]


RUN = [block for page in PAGES for block in blocks_of(page) if block.file_name is None]


@pytest.mark.parametrize("block", RUN, ids=lambda block: f"{block.page.relative_to(ROOT)}:{block.line}")
def test_block_runs_and_prints_what_it_says(block: Block, tmp_path: Path) -> None:
    for module in sorted(modules_of(block.text) & OPTIONAL):
        pytest.importorskip(module)
    for other in blocks_of(block.page):
        if other.file_name:
            (tmp_path / other.file_name).write_text(other.text)
    program = tmp_path / "block.py"
    # Blank lines in front, so that a traceback has the line of the page.
    program.write_text("\n" * (block.line - 1) + block.text)
    done = subprocess.run(
        [sys.executable, "-Werror", program.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    printed = iter(done.stdout.splitlines())
    for expected in PRINTED.findall(block.text):
        assert expected in printed, f"{expected!r} was not printed, or not in this order:\n{done.stdout}"


def test_the_readme_has_blocks() -> None:
    assert any(block.page.name == "README.md" for block in RUN)
