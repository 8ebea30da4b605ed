"""concurrent.futures.ProcessPoolExecutor.

SPDX-License-Identifier: BSD-3-Clause
"""

import platform

from workpool.measure.pools import open_processes as open_pool

__all__ = ["open_pool", "version"]


def version() -> str:
    return f"CPython {platform.python_version()}"
