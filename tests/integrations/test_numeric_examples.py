"""The numeric programs of examples/ give what plain NumPy gives, and run as programs.

SPDX-License-Identifier: BSD-3-Clause
"""

import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
from helpers import ROOT
from sklearn.datasets import load_digits

from workpool import WorkerPool

EXAMPLES = ROOT / "examples"


@pytest.fixture(autouse=True)
def examples_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def example(name: str) -> ModuleType:
    return __import__(name)


@pytest.mark.parametrize("name", ["blur.py", "monte_carlo.py", "kmeans.py"])
def test_program_runs(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout and not done.stderr


def test_blur_is_a_serial_convolution() -> None:
    blur = example("blur")
    image = blur.load_mosaic()
    with WorkerPool(max_workers=2) as pool:
        result = np.array(blur.blurred(pool, image))
    padded = np.pad(image, ((blur.MARGIN, blur.MARGIN), (0, 0)), mode="edge")
    serial = sum(weight * padded[i : i + len(image)] for i, weight in enumerate(blur.WEIGHTS))
    np.testing.assert_allclose(result, serial, rtol=1e-12)


def test_monte_carlo_does_not_depend_on_the_workers() -> None:
    monte_carlo = example("monte_carlo")
    prices = []
    for workers in (1, 2, 3):
        with WorkerPool(max_workers=workers, tasks_per_worker=0) as pool:
            prices.append(monte_carlo.price(pool))
    assert prices[0] == prices[1] == prices[2]
    blocks = range(0, monte_carlo.PATHS, monte_carlo.BLOCK)
    streams = map(np.random.default_rng, np.random.SeedSequence(monte_carlo.SEED).spawn(len(blocks)))
    serial = sum(
        monte_carlo.payoffs(range(low, low + monte_carlo.BLOCK), rng)
        for low, rng in zip(blocks, streams, strict=True)
    )
    np.testing.assert_allclose(prices[0], monte_carlo.estimate(serial), rtol=1e-12)
    assert 0 < prices[0][1] < 0.01 * prices[0][0]


def test_kmeans_is_serial_kmeans() -> None:
    kmeans = example("kmeans")
    images = load_digits().data
    with WorkerPool(max_workers=2) as pool:
        centres = kmeans.cluster(pool, images)
    serial = kmeans.first_centres(images)
    for _ in range(kmeans.STEPS):
        labels = ((images[:, None] - serial) ** 2).sum(axis=2).argmin(axis=1)
        serial = np.array([images[labels == k].mean(axis=0) for k in range(kmeans.CLUSTERS)])
    np.testing.assert_allclose(centres, serial, rtol=1e-9, atol=1e-9)
