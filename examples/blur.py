"""A filter over an image by blocks of rows, in place in shared memory.

    python examples/blur.py

The image is a mosaic of the digits that scikit-learn ships. Each row is blurred along the
columns with a margin of the rows around it, and written where it belongs: the image is
sent to no worker, and no result comes back.

SPDX-License-Identifier: BSD-3-Clause
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from workpool import WorkerPool

WEIGHTS = np.array([1, 6, 15, 20, 15, 6, 1]) / 64
MARGIN = len(WEIGHTS) // 2


def blur_rows(rows: range, source: NDArray[np.float64], target: NDArray[np.float64]) -> None:
    """Write some rows of the blurred image.

    Args:
        rows: Which.
        source: Shape ``(height, width)``.
        target: The same shape; written in ``rows``.
    """
    height = len(source)
    for row in rows:
        near = np.clip(np.arange(row - MARGIN, row + MARGIN + 1), 0, height - 1)
        target[row] = np.tensordot(WEIGHTS, source[near], axes=1)


def blur_row(row: int, source: NDArray[np.float64], target: NDArray[np.float64]) -> None:
    """``blur_rows`` of one."""
    blur_rows(range(row, row + 1), source, target)


def load_mosaic(across: int = 39, down: int = 46) -> NDArray[np.float64]:
    """Return the digits beside and below one another, shape ``(8 * down, 8 * across)``."""
    images = load_digits().images[: across * down].reshape(down, across, 8, 8)
    mosaic: NDArray[np.float64] = np.ascontiguousarray(images.swapaxes(1, 2).reshape(8 * down, 8 * across))
    return mosaic


def blurred(pool: WorkerPool[Any, Any], image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the blurred image, a shared array."""
    source, target = pool.array(image), pool.empty(image.shape)
    pool.parallel_for(blur_row, len(source), source, target)
    return target


if __name__ == "__main__":
    image = load_mosaic()
    pool: WorkerPool[Any, Any]
    with WorkerPool() as pool:
        result = blurred(pool, image)
    alone = np.empty_like(image)
    blur_rows(range(len(image)), image, alone)
    assert np.array_equal(result, alone)
    print(f"{len(result)} rows blurred; standard deviation {image.std():.2f} -> {result.std():.2f}")
