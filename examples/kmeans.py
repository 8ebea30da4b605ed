"""k-means over a shared matrix: each step is one reduction near the data.

    python examples/kmeans.py

The images of digits that scikit-learn ships lie in shared memory once. A step sends the
centres out and gets sums and counts back; the images themselves stay where they are.

Source: Lloyd, "Least Squares Quantization in PCM", IEEE Trans. Inf. Theory 1982.

SPDX-License-Identifier: BSD-3-Clause
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from workpool import WorkerPool

CLUSTERS, STEPS, BLOCK = 10, 30, 128


def nearest(images: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the number of the centre nearest to each image."""
    distance = (centres**2).sum(axis=1) - 2 * images @ centres.T
    result: NDArray[np.intp] = distance.argmin(axis=1)
    return result


def sums(images: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each centre, the sum of its images and how many there are.

    Args:
        images: Shape ``(n, 64)``.
        centres: Shape ``(k, 64)``.

    Returns:
        Shape ``(k, 65)``.
    """
    member = np.eye(len(centres))[nearest(images, centres)]
    return np.column_stack([member.T @ images, member.sum(axis=0)])


def moved(total: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of the clusters; an empty one stays where it is."""
    counts = total[:, -1:]
    result: NDArray[np.float64] = np.where(counts > 0, total[:, :-1] / np.maximum(counts, 1), centres)
    return result


def first_centres(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return as many different images, the same each time."""
    chosen = np.random.default_rng(0).choice(len(images), CLUSTERS, replace=False)
    return np.array(images[chosen])


def cluster(pool: WorkerPool[Any, Any], images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centres after so many steps."""
    shared, centres = pool.array(images), first_centres(images)
    for _ in range(STEPS):
        total = pool.reduce(partial(sums, centres=centres), shared, grain=BLOCK)
        centres = moved(total, centres)
    return centres


if __name__ == "__main__":
    digits = load_digits()
    pool: WorkerPool[Any, Any]
    with WorkerPool() as pool:
        found = cluster(pool, digits.data)
    labels = nearest(digits.data, found)
    pure = sum(np.bincount(digits.target[labels == k]).max() for k in range(CLUSTERS) if (labels == k).any())
    print(f"{CLUSTERS} clusters of {len(labels)} digits; {pure / len(labels):.0%} lie with their like")
