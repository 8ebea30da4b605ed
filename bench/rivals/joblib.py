"""joblib.Parallel, in its default backend (loky), kept open over all calls.

It has no tasks, only calls over many items: a round trip is a call of one item, a burst one
call in batches of 1, and `map` one call in its own batches. It never has fewer than 2 workers.

SPDX-License-Identifier: BSD-3-Clause
"""

from collections.abc import Iterable
from typing import Any

import joblib
from joblib import Parallel, delayed

from bench.rivals.serial import Done
from workpool.measure.pools import Function, Pool


class Adapter(Pool):
    def __init__(self, workers: int) -> None:
        # With one it does without a pool, in the parent.
        self.workers = workers = max(workers, 2)
        # No automatic files for large arrays: with them nothing would be sent.
        self.parallel = Parallel(n_jobs=workers, max_nbytes=None)
        self.singly = Parallel(n_jobs=workers, max_nbytes=None, batch_size=1)
        self.singly.__enter__()
        self.submit = lambda function, item: Done(self.singly([delayed(function)(item)])[0])

    def burst(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return self.singly(delayed(function)(item) for item in items)  # type: ignore[no-any-return]

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        return self.parallel(delayed(function)(item) for item in items)  # type: ignore[no-any-return]

    def pids(self) -> list[int]:
        return list(self.singly._backend._workers._processes)

    def close(self) -> None:
        executor = self.singly._backend._workers
        self.singly.__exit__(None, None, None)
        executor.shutdown(wait=True)  # joblib keeps it for later calls


open_pool = Adapter


def version() -> str:
    return str(joblib.__version__)
