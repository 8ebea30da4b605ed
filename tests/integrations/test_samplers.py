"""emcee and dynesty with ``pool=pool``: the serial run's chain, to the last bit.

SPDX-License-Identifier: BSD-3-Clause
"""

from collections.abc import Iterator
from typing import Any

import integration_tasks as tasks
import numpy as np
import pytest

from workpool import WorkerPool

Pool = WorkerPool[Any, Any]


@pytest.fixture(scope="module", autouse=True)
def pool() -> Iterator[Pool]:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready()
        yield pool


def test_emcee(pool: Pool) -> None:
    emcee = pytest.importorskip("emcee")
    walkers, start = 12, np.random.RandomState(1).normal(size=(12, 2))

    def chain(pool: Any) -> Any:
        # Its log probability travels as an object that holds these arguments.
        sampler = emcee.EnsembleSampler(
            walkers, 2, tasks.log_normal_of, args=(0.5,), kwargs={"width": 2.0}, pool=pool
        )  # fmt: skip
        sampler.random_state = np.random.RandomState(3).get_state()
        sampler.run_mcmc(start, 30)
        return sampler.get_chain(), sampler.get_log_prob()

    before = pool.statistics().tasks_submitted
    for ours, theirs in zip(chain(pool), chain(None), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert pool.statistics().tasks_submitted > before + 60


class Serial:
    """What dynesty calls a pool: two at a time, in this process."""

    size = 2
    map = map


@pytest.mark.parametrize("sample", ["unif", "rwalk"])
def test_dynesty(pool: Pool, sample: str) -> None:
    dynesty = pytest.importorskip("dynesty")

    def run(pool: Any) -> Any:
        sampler = dynesty.NestedSampler(
            tasks.log_normal, tasks.wide, 2, nlive=40, sample=sample, rstate=np.random.default_rng(1),
            pool=pool, queue_size=2,
        )  # fmt: skip
        sampler.run_nested(print_progress=False, dlogz=1.0)
        return sampler.results

    before = pool.statistics().tasks_submitted
    found, expected = run(pool), run(Serial())
    assert pool.statistics().tasks_submitted > before + 40
    np.testing.assert_array_equal(found.logz, expected.logz)
    np.testing.assert_array_equal(found.samples, expected.samples)
