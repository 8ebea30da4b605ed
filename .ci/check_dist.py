"""Check what a built sdist and wheel hold: python .ci/check_dist.py DIST...

SPDX-License-Identifier: BSD-3-Clause
"""

import sys
import tarfile
import zipfile
from pathlib import Path

IN_SDIST = (
    ".ci/run",
    "LICENSE",
    "csrc/wp_atomic.h",
    "examples/greeting.py",
    "pyproject.toml",
    "setup.py",
    "tests/conftest.py",
    "workpool/_core.pyx",
)
IN_WHEEL = (
    "workpool/__init__.py",
    "workpool/_core.pyi",
    "workpool/cli.py",
    "workpool/measure/command.py",
    "workpool/py.typed",
)
NOT_IN_WHEEL = (".c", ".h", ".pxd", ".pyx")


def check(dist: Path) -> list[str]:
    """Return what is wrong with one distribution."""
    if dist.suffix == ".whl":
        with zipfile.ZipFile(dist) as wheel:
            names = wheel.namelist()
        wrong = [f"lacks {name}" for name in IN_WHEEL if name not in names]
        wrong += [f"has {name}" for name in names if name.endswith(NOT_IN_WHEEL)]
        wrong += [f"has {name}" for name in names if not name.startswith(("workpool/", "workpool-"))]
        if not any(name.startswith("workpool/_core.") and name.endswith(".so") for name in names):
            wrong.append("lacks the built workpool._core")
        return wrong
    with tarfile.open(dist) as sdist:
        names = [name.partition("/")[2] for name in sdist.getnames()]
    wrong = [f"lacks {name}" for name in IN_SDIST if name not in names]
    return wrong + [
        f"has {name}" for name in names if name.endswith((".so", ".pyc")) or "node_modules" in name
    ]


if __name__ == "__main__":
    status = 0
    for path in map(Path, sys.argv[1:]):
        for complaint in check(path):
            print(f"{path.name}: {complaint}", file=sys.stderr)
            status = 1
        print(f"{path.name}: {path.stat().st_size // 1024} KiB")
    sys.exit(status)
