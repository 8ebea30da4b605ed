"""mpi4py.futures.MPIPoolExecutor, whose workers mpiexec starts with the sample (taking.py).

Not every MPI lets a process spawn others, so that way is not measured; and when one of its
processes is killed MPI ends all of them.

Its wheel looks for MPICH under the name of its own releases, and Debian's has another: there
`pip install --no-binary mpi4py mpi4py` builds it on what is installed.

SPDX-License-Identifier: BSD-3-Clause
"""

import mpi4py
from mpi4py import MPI
from mpi4py.futures import MPIPoolExecutor

from bench.rivals.chunks import ChunkedPool


class Adapter(ChunkedPool):
    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.executor = MPIPoolExecutor(workers)
        self.submit = self.executor.submit

    def close(self) -> None:
        self.executor.shutdown()


open_pool = Adapter


def version() -> str:
    return f"{mpi4py.__version__}, {MPI.Get_library_version().splitlines()[0].strip()}"
