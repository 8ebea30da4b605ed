"""loky, in its default context.

SPDX-License-Identifier: BSD-3-Clause
"""

import loky

from bench.rivals import Pool
from bench.rivals.concurrent_futures import Adapter


def open_pool(workers: int) -> Pool:
    return Adapter(workers, loky.ProcessPoolExecutor(workers))


def version() -> str:
    return str(loky.__version__)
