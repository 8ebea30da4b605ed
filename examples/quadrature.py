"""Recursion: an integral whose work is where the function is difficult, found on the way.

    python examples/quadrature.py

Adaptive Simpson quadrature. A task that finds its interval too difficult gives one half
away as a task of its own and takes the other itself. Nobody knows beforehand where the
work is; idle workers take the halves that lie in the deques of the others.

Source: Lyness, "Notes on the Adaptive Simpson Quadrature Routine", JACM 16, 1969.

SPDX-License-Identifier: BSD-3-Clause
"""

import math

from workpool import WorkerPool, current_client

PEAK, WIDTH = 0.3, 1e-4


def peak(x: float) -> float:
    """Return a narrow peak's height at ``x``: a Lorentz curve."""
    return WIDTH / ((x - PEAK) ** 2 + WIDTH**2)


def simpson(a: float, b: float) -> float:
    """Return Simpson's rule on one interval."""
    return (b - a) / 6 * (peak(a) + 4 * peak((a + b) / 2) + peak(b))


def integrate(a: float, b: float, tolerance: float) -> tuple[float, int]:
    """Return the integral from ``a`` to ``b``, and how many intervals it took."""
    middle = (a + b) / 2
    whole, halves = simpson(a, b), simpson(a, middle) + simpson(middle, b)
    difference = halves - whole
    if abs(difference) <= 15 * tolerance:
        return halves + difference / 15, 1
    right = current_client().submit(integrate, middle, b, tolerance / 2)
    left_value, left_count = integrate(a, middle, tolerance / 2)
    right_value, right_count = right.result()
    return left_value + right_value, left_count + right_count


def main() -> None:
    """Integrate the peak over [0, 1]."""
    with WorkerPool() as pool:
        value, intervals = pool.submit(integrate, 0.0, 1.0, 1e-9).result()
    exact = math.atan((1 - PEAK) / WIDTH) + math.atan(PEAK / WIDTH)
    assert abs(value - exact) < 1e-9
    print(f"{value:.9f} from {intervals} intervals")


if __name__ == "__main__":
    main()
