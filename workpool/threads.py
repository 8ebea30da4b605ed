"""Threads inside tasks: BLAS and OpenMP, in workers as many as there are CPUs.

n workers with n threads each would fight for the CPUs. The libraries read the environment
when they are loaded; threadpoolctl, where it is installed, reaches those that are there
already, as in a forked worker.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import os
import sys

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

_limits: object = None  # what threadpoolctl gives undoes itself when it is dropped


def environment(threads: int | None, present: dict[str, str]) -> dict[str, str]:
    """The environment of a worker.

    What the user has set stays, where the pool was not asked for another number than one.
    """
    if threads is None:
        return present
    wanted = dict.fromkeys(VARIABLES, str(threads))
    return wanted | present if threads == 1 else present | wanted


def set_variables(variables: dict[str, str]) -> None:
    """In a worker, before it loads anything of the user's: these variables of the environment too."""
    os.environ.update(variables)


def limit(threads: int | None) -> None:
    """In a worker, before it loads anything of the user's: have no more threads than these."""
    global _limits
    if threads is None:
        return
    for name, value in environment(threads, dict(os.environ)).items():
        if name in VARIABLES and os.environ.get(name) != value:
            os.environ[name] = value
    if "numpy" in sys.modules:  # its libraries are loaded: this process is a fork
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:
            return
        _limits = threadpool_limits(threads)
