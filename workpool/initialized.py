"""Globals that an initializer of ``__main__`` assigns, for the functions that come after it.

A worker never imports ``__main__``: its functions come by value, each with globals of its own. So
``global lock`` in an initializer would be seen by nobody else.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import sys
from types import FunctionType

from workpool.main_functions import MAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MISSING = object()


def run(initializer: Callable[..., Any], initargs: tuple[Any, ...]) -> Any:
    """Call the initializer; what it assigned is assigned in each function that is loaded later."""
    names = _globals_of(initializer)
    if names is None:
        return initializer(*initargs)
    before = dict(names)
    result = initializer(*initargs)
    assigned = [name for name, value in names.items() if before.get(name, _MISSING) is not value]
    if assigned:
        _assign_later(names, assigned)
    return result


def _globals_of(initializer: Any) -> dict[str, Any] | None:
    """The globals of a function of a module that others come from by value; None for what is imported."""
    function = getattr(initializer, "func", initializer)  # of a functools.partial
    function = getattr(function, "__func__", function)
    if type(function) is not FunctionType:
        return None
    module = sys.modules.get(function.__module__)
    names = function.__globals__
    imported = module is not None and vars(module) is names and function.__module__ not in MAIN
    return None if imported else names


def _assign_later(names: dict[str, Any], assigned: list[str]) -> None:
    from cloudpickle import cloudpickle

    # Pickles name it, so that it is looked up here for each function that is loaded.
    fill = cloudpickle._function_setstate
    home = names.get("__name__")
    homes = MAIN if home in MAIN else (home,)

    def fill_and_assign(function: FunctionType, state: Any) -> None:
        fill(function, state)
        others = function.__globals__
        if others is not names and others.get("__name__") in homes:
            # Also those that the script itself has not: only the initializer assigns them.
            others.update((name, names[name]) for name in assigned)

    # A worker pickles functions too, and names this as the original is named.
    for attribute in ("__module__", "__name__", "__qualname__"):
        setattr(fill_and_assign, attribute, getattr(fill, attribute))
    cloudpickle._function_setstate = fill_and_assign
