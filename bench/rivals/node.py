"""Pools of Node's worker threads, measured by bench/node in the same cases.

What is sent is copied there too (structured clone), between threads of one process.

SPDX-License-Identifier: BSD-3-Clause
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parents[1] / "node"

if shutil.which("node") is None:
    raise ImportError("node is not on PATH")
if not (_HERE / "node_modules").is_dir():
    raise ImportError("not installed: npm install --prefix bench/node")


def _ask(*arguments: str) -> Any:
    # From its folder: what a failure says of the command is committed with the results.
    command = ["node", "measure.mjs", *arguments]
    done = subprocess.run(command, cwd=_HERE, stdout=subprocess.PIPE, text=True, check=True, timeout=100)
    return json.loads(done.stdout.splitlines()[-1])


def sample(case: str, scale: float, pool: str) -> dict[str, float]:
    figures: dict[str, float] = _ask(pool, case, str(scale))
    return figures


def version(pool: str) -> str:
    return str(_ask(pool, "version"))
