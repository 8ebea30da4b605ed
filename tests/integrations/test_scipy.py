"""SciPy's ``workers=pool.map``: the serial run's results, in the pool's processes.

SPDX-License-Identifier: BSD-3-Clause
"""

from collections.abc import Iterator
from typing import Any

import integration_tasks as tasks
import numpy as np
import pytest

from workpool import WorkerPool

pytest.importorskip("scipy")

from scipy.integrate import quad_vec
from scipy.optimize import brute, differential_evolution, rosen

Pool = WorkerPool[Any, Any]
BOX = [(-2.0, 2.0)] * 2


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool that has run tasks when the test ends."""
    with WorkerPool(max_workers=2) as pool:
        yield pool
        assert pool.statistics().tasks_submitted > 10


@pytest.mark.parametrize("polish", [False, True])
def test_differential_evolution(pool: Pool, polish: bool) -> None:
    def search(**options: Any) -> Any:
        return differential_evolution(
            rosen, BOX, rng=1, updating="deferred", maxiter=30, polish=polish, **options
        )

    found, expected = search(workers=pool.map), search()
    assert found.x.tolist() == expected.x.tolist()
    assert (found.fun, found.nfev, found.nit) == (expected.fun, expected.nfev, expected.nit)


def test_differential_evolution_of_a_closure(pool: Pool) -> None:
    target = np.array([0.25, -0.5])

    def search(**options: Any) -> Any:
        def distance(x: Any) -> float:
            return float(np.sum((x - target) ** 2))

        return differential_evolution(distance, BOX, rng=2, updating="deferred", maxiter=20, **options).x

    assert search(workers=pool.map).tolist() == search().tolist()


def test_brute(pool: Pool) -> None:
    found = brute(rosen, BOX, Ns=12, full_output=True, workers=pool.map)
    expected = brute(rosen, BOX, Ns=12, full_output=True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_quad_vec(pool: Pool) -> None:
    found, error = quad_vec(tasks.sine, 0.0, 30.0, workers=pool.map)
    expected, expected_error = quad_vec(tasks.sine, 0.0, 30.0)
    assert found.tolist() == expected.tolist()
    assert error == expected_error
