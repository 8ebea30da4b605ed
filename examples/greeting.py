r"""The smallest entrypoint: one item of the input in, one line of the output out.

    printf 'Ada\nGrace\n' | python -m workpool run examples/greeting.py -

SPDX-License-Identifier: BSD-3-Clause
"""


def worker_entrypoint(name: str) -> str:
    """Greet one name."""
    return f"Hello, {name}!"
