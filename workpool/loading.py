"""The worker's side of an entrypoint: import it, and find its hooks.

Imported by every worker before its first task, so it imports next to nothing itself:
no typing, no dataclasses, no inspect unless an entrypoint is something unusual.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import sys

from workpool.errors import EntrypointError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

HOOKS = ("on_worker_start", "on_worker_exit", "pre_task")

MISSING = object()

_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE


class EntrypointSpec:
    """Where a worker finds its entrypoint.

    Attributes:
        kind: ``"none"``, ``"callable"``, ``"module"`` or ``"file"``.
        target: The callable, or the module's name or file.
        symbol: What to look up there.
    """

    def __init__(self, kind: str, target: Any = None, symbol: str = "") -> None:
        self.kind = kind
        self.target = target
        self.symbol = symbol

    @property
    def where(self) -> str:
        """Its place, for messages."""
        return f"{self.kind} {self.target!r}"


class Loaded:
    """An entrypoint in its worker.

    Attributes:
        function: What ``add_task`` runs; None without an entrypoint.
        takes_client: Whether it wants the client as its second argument.
        hooks: Those it has, by name.
    """

    def __init__(
        self, function: Callable[..., Any] | None, takes_client: bool, hooks: dict[str, Callable[..., Any]]
    ) -> None:
        self.function = function
        self.takes_client = takes_client
        self.hooks = hooks


def check_callable(value: object, symbol: str, where: str) -> None:
    """Raise ``EntrypointError`` unless ``value``, found as ``symbol``, can be called."""
    if value is MISSING:
        raise EntrypointError(f"{where} has no {symbol!r}: define it, or name another with entrypoint_name=")
    if not callable(value):
        raise EntrypointError(f"{symbol!r} in {where} is not callable but {type(value).__name__}")


def load(spec: EntrypointSpec) -> Loaded:
    """Import or take the entrypoint and its hooks."""
    module: ModuleType | None = None
    if spec.kind == "none":
        return Loaded(None, False, {})
    if spec.kind == "callable":
        function = spec.target
    else:
        module = _import_file(spec.target) if spec.kind == "file" else _import_module(spec.target)
        function = getattr(module, spec.symbol, MISSING)
        check_callable(function, spec.symbol, spec.where)
    hooks: dict[str, Callable[..., Any]] = {}
    decorated = getattr(function, "_workpool_hooks", None)
    for name in HOOKS:
        hook = getattr(function, name, None) if decorated is None else decorated.get(name)
        if hook is None and module is not None:
            hook = getattr(module, name, None)
        if hook is not None:
            check_callable(hook, name, spec.where)
            hooks[name] = hook
    return Loaded(function, takes_client(function, 1), hooks)


def _import_module(name: str) -> ModuleType:
    import importlib

    return importlib.import_module(name)


def _import_file(path: str) -> ModuleType:
    """Import a file under its own stem, so that what it defines can be pickled by name."""
    import importlib.machinery
    import importlib.util
    import os.path

    folder, base = os.path.split(path)
    name = os.path.splitext(base)[0]
    if folder not in sys.path:
        sys.path.insert(0, folder)
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == path:
        return loaded
    # With its loader: the suffix need not be .py.
    loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None or spec.loader is None:
        raise EntrypointError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def takes_client(function: Callable[..., Any], before: int) -> bool:
    """Whether ``function`` wants the client after ``before`` positional arguments.

    It does if that parameter has no default, or is called ``client``.
    """
    code = getattr(function, "__code__", None)
    if code is not None and not hasattr(function, "__wrapped__") and not hasattr(function, "__signature__"):
        before += getattr(function, "__self__", None) is not None  # a bound method's code counts self
        if code.co_argcount <= before:
            return False
        without_default = code.co_argcount - len(function.__defaults__ or ())
        return bool(before < without_default or code.co_varnames[before] == "client")
    import inspect

    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) <= before:
        return False
    return positional[before].default is inspect.Parameter.empty or positional[before].name == "client"


def is_coroutine_function(function: Any) -> bool:
    """As ``inspect.iscoroutinefunction``, also through a decorated entrypoint."""
    code = getattr(function, "__code__", None)
    if code is not None:
        return bool(code.co_flags & _CO_COROUTINE)
    inner = getattr(function, "__wrapped__", None) or getattr(function, "func", None)
    inner = inner or getattr(function, "__func__", None)
    return inner is not None and inner is not function and is_coroutine_function(inner)
