"""workpool itself.

SPDX-License-Identifier: BSD-3-Clause
"""

import inspect
from pathlib import Path

from workpool import WorkerPool, __version__
from workpool.measure.pools import Ours as open_pool  # noqa: N813

__all__ = ["open_pool", "version"]


def version() -> str:
    # Where it is from: a checkout and an installed package are easily taken for one another.
    here = Path(inspect.getfile(WorkerPool)).parents[1] == Path(__file__).parents[2]
    return f"{__version__}, {'the checkout' if here else 'installed'}"
