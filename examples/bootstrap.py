"""How sure is a regression? Its slope with a bootstrap confidence interval.

    python examples/make_input.py diabetes.jsonl
    python -m workpool run examples/bootstrap.py diabetes.jsonl --output slopes.jsonl

A task is one regression: the patients are drawn anew with replacement 5,000 times
and the slope of y on x is computed each time. As a program of its own this file
takes the same input, in one process, and prints the same lines:

    python examples/bootstrap.py diabetes.jsonl

Source: Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.

SPDX-License-Identifier: BSD-3-Clause
"""

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 5000
LEVEL = 0.95


def slopes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the least-squares slope of ``y`` on ``x`` along the last axis.

    Args:
        x: Shape ``(..., n)``.
        y: The same shape.

    Returns:
        Shape ``(...)``.
    """
    dx = x - x.mean(axis=-1, keepdims=True)
    dy = y - y.mean(axis=-1, keepdims=True)
    result: NDArray[np.float64] = (dx * dy).sum(axis=-1) / (dx * dx).sum(axis=-1)
    return result


def worker_entrypoint(pair: dict[str, Any]) -> dict[str, Any]:
    """Return the slope of one pair of columns and its percentile interval."""
    x, y = np.asarray(pair["x"]), np.asarray(pair["y"])
    # The draw depends on the names alone: not on the worker, nor on the order of tasks.
    random = np.random.default_rng(zlib.crc32(f"{pair['x_name']} {pair['y_name']}".encode()))
    drawn = random.integers(len(x), size=(RESAMPLES, len(x)))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(slopes(x[drawn], y[drawn]), [tail, 1 - tail])
    return {
        "y": pair["y_name"],
        "x": pair["x_name"],
        "slope": float(slopes(x, y)),
        "low": float(low),
        "high": float(high),
    }


def main(path: Path) -> None:
    """Do the whole input here, one line after the other."""
    with path.open() as stream:
        for line in stream:
            print(json.dumps(worker_entrypoint(json.loads(line))))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
