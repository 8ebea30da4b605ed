"""concurrent.futures.ThreadPoolExecutor: one interpreter lock, no copies.

SPDX-License-Identifier: BSD-3-Clause
"""

from bench.rivals.concurrent_futures import version
from workpool.measure.pools import open_threads as open_pool

__all__ = ["open_pool", "version"]
