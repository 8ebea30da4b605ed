"""Hooks: what every task needs is made once, when its worker starts.

    python examples/make_input.py digits.npy
    python -m workpool run examples/hooks.py digits.npy --output guesses.npy

A task is one image of a digit. Its worker looks for the image most like it among
all the others of the data set and answers with the digit that one shows.

SPDX-License-Identifier: BSD-3-Clause
"""

import numpy as np
from numpy.typing import NDArray

import workpool
from workpool import WorkerClient


@workpool.entrypoint
def worker_entrypoint(image: NDArray[np.float64], client: WorkerClient) -> int:
    """Return the digit of the nearest other image.

    Args:
        image: 64 grey values.
        client: Holds what ``load`` has put there.
    """
    distance = client.state.squares - 2 * (client.state.images @ image) + image @ image
    distance[distance == 0] = np.inf  # the image itself
    return int(client.state.digits[distance.argmin()])


@worker_entrypoint.on_worker_start
def load(client: WorkerClient) -> None:
    """Load the data set, before the first task of this worker."""
    from sklearn.datasets import load_digits

    data = load_digits()
    client.state.images = data.data
    client.state.digits = data.target
    client.state.squares = (data.data**2).sum(axis=1)
    client.state.answers = 0


@worker_entrypoint.pre_task
def count(image: NDArray[np.float64], client: WorkerClient) -> None:
    """Count the task; this time is overhead, not the task's cost."""
    client.state.answers += 1


@worker_entrypoint.on_worker_exit
def report(client: WorkerClient) -> None:
    """Say what this worker has done, after its last task."""
    print(f"worker {client.worker_id} answered {client.state.answers} times")
