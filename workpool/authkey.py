"""The key by which a worker may speak to the parent's multiprocessing managers.

A process that multiprocessing starts inherits it; one of our own launcher has to be told,
and most never import multiprocessing. So it is set when they do.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_MODULE = "multiprocessing.process"


def give(key: bytes) -> None:
    """Have multiprocessing take ``key`` for this process's, now or once it is imported."""
    module = sys.modules.get(_MODULE)
    if module is None:
        sys.meta_path.insert(0, _Finder(key))
    else:
        _set(module, key)


class _Finder:
    """Finds one module, once, as the others would."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See ``importlib.abc.MetaPathFinder``."""
        if name != _MODULE:
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(name)
        loader: Any = None if spec is None else spec.loader
        if loader is not None:
            execute = loader.exec_module

            def then_set(module: ModuleType) -> None:
                execute(module)
                _set(module, self._key)

            loader.exec_module = then_set
        return spec


def _set(module: Any, key: bytes) -> None:
    module.current_process().authkey = key
