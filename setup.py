"""The extension modules; everything else about the package is in pyproject.toml.

WORKPOOL_BUILD=debug builds without optimisation and with symbols. WORKPOOL_BUILD=reuse takes the modules
that stand in place as they are, where they are newer than all that they are made of.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import sysconfig
from glob import glob
from pathlib import PurePosixPath

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

DEBUG = os.environ.get("WORKPOOL_BUILD") == "debug"
REUSE = os.environ.get("WORKPOOL_BUILD") == "reuse"

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


def in_place(pyx: str) -> str:
    return str(PurePosixPath(pyx).with_suffix(sysconfig.get_config_var("EXT_SUFFIX")))


def is_kept(pyx: str) -> bool:
    # Not by the age of Cython's C: each new environment writes that anew.
    return REUSE and not newer_group([pyx, *DEPENDS, "setup.py"], in_place(pyx), "newer")


SOURCES = sorted(glob("workpool/*.pyx"))
KEPT = [pyx for pyx in SOURCES if is_kept(pyx)]


class BuildExtensions(build_ext):
    """Several modules at once, and none that is kept."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extension(self, ext: Extension) -> None:
        if ext.sources[0] in KEPT:
            path = self.get_ext_fullpath(ext.name)
            self.mkpath(str(PurePosixPath(path).parent))
            self.copy_file(in_place(ext.sources[0]), path)
        else:
            super().build_extension(ext)


setup(
    cmdclass={"build_ext": BuildExtensions},
    ext_modules=cythonize(
        [extension(pyx) for pyx in SOURCES if pyx not in KEPT],
        compiler_directives={"language_level": "3"},
        emit_linenums=DEBUG,
    )
    + [extension(pyx) for pyx in KEPT],
)
