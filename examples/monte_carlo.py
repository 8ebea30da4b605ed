"""The price of an option by Monte Carlo, the same to the last bit however many workers there are.

    python examples/monte_carlo.py

Each block of paths has a stream of random numbers of its own, that of its place in the
whole; and the sums are added in one order. So the result depends on the seed alone.

SPDX-License-Identifier: BSD-3-Clause
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workpool import WorkerPool

PATHS, STEPS, BLOCK = 200_000, 50, 2000
SPOT, STRIKE, RATE, VOLATILITY, YEARS = 100.0, 105.0, 0.03, 0.2, 1.0
SEED = 20_240_229


def payoffs(paths: range, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return sum and sum of squares of the discounted payoffs of an Asian call on some paths."""
    dt = YEARS / STEPS
    noise = rng.standard_normal((len(paths), STEPS))
    drift = (RATE - VOLATILITY**2 / 2) * dt
    prices = SPOT * np.exp(np.cumsum(drift + VOLATILITY * math.sqrt(dt) * noise, axis=1))
    value = math.exp(-RATE * YEARS) * np.maximum(prices.mean(axis=1) - STRIKE, 0)
    return np.array([value.sum(), (value * value).sum()])


def price(pool: WorkerPool[Any, Any]) -> tuple[float, float]:
    """Return the price and its standard error."""
    return estimate(pool.reduce(payoffs, range(PATHS), grain=BLOCK, seed=SEED))


def estimate(sums: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and standard error, given the sum and sum of squares of all paths."""
    mean = sums[0] / PATHS
    return float(mean), math.sqrt((sums[1] / PATHS - mean**2) / PATHS)


if __name__ == "__main__":
    pool: WorkerPool[Any, Any]
    with WorkerPool() as pool:
        value, error = price(pool)
    print(f"{value:.6f} +- {error:.6f}")
