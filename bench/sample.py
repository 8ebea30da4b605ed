"""Take one sample, in a process of its own: `python -P sample.py CASE RIVAL SCALE`.

The last line printed is JSON: {"figures": …}, {"version": …} for the case "version", or
{"absent": why}. Bare at the top, because spawned workers import it again.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import sys


def _find_packages() -> None:
    """Make `bench` and the right `workpool` importable.

    With the extension built in place the checkout is what is measured; without it the
    checkout's bare sources must not hide the installed package.
    """
    from importlib.machinery import EXTENSION_SUFFIXES
    from pathlib import Path

    root = Path(__file__).resolve().parents[1]
    built_here = any((root / "workpool").glob("*" + EXTENSION_SUFFIXES[0]))
    sys.path.insert(0 if built_here else len(sys.path), str(root))


def main() -> None:
    import json

    _find_packages()
    from bench import cases
    from bench.rivals import RIVALS

    case, name, scale = sys.argv[1], sys.argv[2], float(sys.argv[3])
    rival = RIVALS[name]
    try:
        adapter = rival.adapter()
    except ImportError as error:
        answer: dict[str, object] = {"absent": str(error)}
    else:
        if case == "version":
            answer = {"version": adapter.version(**(rival.options if hasattr(adapter, "sample") else {}))}
        elif hasattr(adapter, "sample"):
            answer = {"figures": adapter.sample(case, scale, **rival.options)}
        else:
            answer = {"figures": cases.load(case).sample(rival, scale)}
    print(json.dumps(answer), flush=True)
    if case != "version" and getattr(cases.load(case), "LEAVES_RUINS", False):
        os._exit(0)  # else it would wait for what never ends


if __name__ == "__main__":
    main()
