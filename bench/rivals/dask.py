"""dask.distributed: a local cluster of processes with one thread each, without its dashboard.

SPDX-License-Identifier: BSD-3-Clause
"""

import logging

import distributed

from bench.rivals.chunks import ChunkedPool


class Adapter(ChunkedPool):
    def __init__(self, workers: int) -> None:
        self.workers = workers
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self.client = distributed.Client(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
        )
        submit = self.client.submit
        # Impure: else a second task with the same argument would be answered from memory.
        self.submit = lambda function, item: submit(function, item, pure=False)

    def close(self) -> None:
        self.client.close()
        self.client.cluster.close()


open_pool = Adapter


def version() -> str:
    return str(distributed.__version__)
