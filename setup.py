"""The extension modules; everything else about the package is in pyproject.toml.

WORKPOOL_BUILD=debug builds without optimisation and with symbols.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
from glob import glob
from pathlib import PurePosixPath

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("WORKPOOL_BUILD") == "debug"

# The one module that needs NumPy's headers. Built with NumPy 2 it runs with 1.26 too.
NUMPY = "_arrays"

# An edited header or declaration rebuilds every module that may include it.
DEPENDS = sorted(glob("csrc/*.h") + glob("workpool/*.pxd"))


def extension(pyx: str) -> Extension:
    return Extension(
        f"workpool.{PurePosixPath(pyx).stem}",
        [pyx],
        include_dirs=["csrc", *([numpy.get_include()] if NUMPY in pyx else [])],
        depends=DEPENDS,
        define_macros=[("_GNU_SOURCE", None), ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        undef_macros=["NDEBUG"] if DEBUG else [],
        extra_compile_args=["-std=c11", "-pthread", *(["-O0", "-g3"] if DEBUG else ["-O3"])],
        extra_link_args=["-pthread"],
    )


setup(
    ext_modules=cythonize(
        [extension(pyx) for pyx in sorted(glob("workpool/*.pyx"))],
        compiler_directives={"language_level": "3"},
        emit_linenums=DEBUG,
    )
)
