"""Learned costs: a parameter sweep that is balanced better when it is run again.

    python examples/sweep.py costs.json

How many sweeps does successive over-relaxation need for a given parameter omega? From 30
to 1000, so one task takes as long as many others together, and who begins the longest last
waits for it. What each omega took is kept in the file; another run begins with the longest.

Source: Young, "Iterative Methods for Solving Partial Difference Equations", 1950.

SPDX-License-Identifier: BSD-3-Clause
"""

import json
import math
import sys
import time
from pathlib import Path

import numpy as np

from workpool import WorkerPool

GRID = 24  # inner points a side
OMEGAS = [round(1 + step / 50, 2) for step in range(50)]


def sweeps_needed(omega: float) -> int:
    """Return how many sweeps bring the error of Laplace's equation below a millionth."""
    u = np.zeros((GRID + 2, GRID + 2))
    u[1:-1, 1:-1] = 1.0  # the solution is 0
    row, column = np.indices((GRID, GRID))
    colours = [(row + column) % 2 == parity for parity in (0, 1)]
    inner = u[1:-1, 1:-1]
    sweeps = 0
    while np.abs(inner).max() > 1e-6:
        for colour in colours:
            around = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:]
            inner[colour] += omega * (around / 4 - inner)[colour]
        sweeps += 1
    return sweeps


def main(kept: Path) -> None:
    """Find the best omega."""
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready()
        if kept.exists():
            pool.load_costs(json.loads(kept.read_text()))
        known = len(pool.learned_costs())
        start = time.perf_counter()
        # A key for each item: its cost is learned, and the longest known go first.
        sweeps = list(pool.options(key=str).map(sweeps_needed, OMEGAS))
        took = time.perf_counter() - start
        kept.write_text(json.dumps(pool.learned_costs()))
    best = OMEGAS[sweeps.index(min(sweeps))]
    theory = 2 / (1 + math.sin(math.pi / (GRID + 1)))
    assert abs(best - theory) < 0.05
    print(f"best omega {best}, in theory {theory:.2f}: {min(sweeps)} sweeps, not {max(sweeps)}")
    print(f"{took:.2f} s, {known} of {len(OMEGAS)} costs were known", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
