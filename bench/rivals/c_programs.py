"""The programs of bench/c, built when their sources are newer.

SPDX-License-Identifier: BSD-3-Clause
"""

import json
import shutil
import subprocess
from pathlib import Path

_HERE = Path(__file__).parents[1] / "c"
_CORE = _HERE.parents[1] / "csrc"
_BUILD = _HERE / "build"

if shutil.which("gcc") is None:
    raise ImportError("gcc is not on PATH")


def run(program: str) -> dict[str, float]:
    """Build and run one program.

    Returns:
        The medians of its figures, ns.
    """
    source, binary = _HERE / f"{program}.c", _BUILD / program
    newest = max(path.stat().st_mtime for path in [source, *_HERE.glob("*.h"), *_CORE.glob("*.h")])
    if not binary.exists() or binary.stat().st_mtime < newest:
        _BUILD.mkdir(exist_ok=True)
        flags = ["-std=c11", "-O2", "-D_GNU_SOURCE", "-pthread", f"-I{_CORE}"]
        subprocess.run(["gcc", *flags, str(source), "-o", str(binary)], check=True)
    printed = subprocess.run([str(binary)], check=True, stdout=subprocess.PIPE, timeout=60).stdout
    return {name: figure["median"] for name, figure in json.loads(printed)["figures"].items()}


def version() -> str:
    return subprocess.run(
        ["gcc", "--version"], check=True, capture_output=True, text=True
    ).stdout.splitlines()[0]
