"""ray, a cluster of this machine alone, without its dashboard.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
from typing import Any

# Before it is imported; and no reports leave the machine.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_AUTH_MODE": "disabled"}

import ray

from bench.rivals.chunks import ChunkedPool
from workpool.measure.pools import Function


class _Reference:
    __slots__ = ("result",)

    def __init__(self, reference: Any) -> None:
        self.result = lambda timeout=None: ray.get(reference, timeout=timeout)


class Adapter(ChunkedPool):
    def __init__(self, workers: int) -> None:
        self.workers = workers
        ray.init(
            num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
            configure_logging=False, object_store_memory=512 << 20,
        )  # fmt: skip
        self.remote: dict[Function, Any] = {}
        self.submit = lambda function, item: _Reference(self._remote(function)(item))

    def _remote(self, function: Function) -> Any:
        call = self.remote.get(function)
        if call is None:
            # ray reads a function's signature, and a builtin has none; a task is not run again by itself.
            python = function if hasattr(function, "__code__") else lambda item: function(item)
            call = self.remote[function] = ray.remote(max_retries=0)(python).remote
        return call

    def close(self) -> None:
        ray.shutdown()


open_pool = Adapter


def version() -> str:
    return str(ray.__version__)
