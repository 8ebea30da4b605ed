"""loky, in its default context.

SPDX-License-Identifier: BSD-3-Clause
"""

import loky

from workpool.measure.pools import Futures, Pool


def open_pool(workers: int) -> Pool:
    return Futures(workers, loky.ProcessPoolExecutor(workers))


def version() -> str:
    return str(loky.__version__)
