"""Entrypoints: finding one, checking it before any worker starts, and its hooks.

A description travels to the workers; only they import the user's module.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from workpool.errors import EntrypointError
from workpool.loading import MISSING, EntrypointSpec, check_callable

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound="Callable[..., Any]")


class Entrypoint(Generic[P, R]):
    """A function with hooks, made by the ``@workpool.entrypoint`` decorator."""

    def __init__(self, fn: Callable[P, R]) -> None:
        if not callable(fn):
            raise EntrypointError(f"an entrypoint must be callable, not {type(fn).__name__}")
        functools.update_wrapper(self, fn)
        self.__qualname__: str
        self._fn = fn
        self._workpool_hooks: dict[str, Callable[..., Any]] = {}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._fn(*args, **kwargs)

    def __reduce__(self) -> Any:
        module = sys.modules.get(self.__module__)
        if self.__module__ != "__main__" and getattr(module, self.__qualname__, None) is self:
            return self.__qualname__  # by name, as functions are
        return _rebuild, (self._fn, self._workpool_hooks)

    @property
    def on_worker_start(self) -> _HookSetter:
        """Called as ``fn(client)`` when a worker starts, before its first task."""
        return _HookSetter(self, "on_worker_start")

    @on_worker_start.setter
    def on_worker_start(self, fn: Callable[..., Any]) -> None:
        self._workpool_hooks["on_worker_start"] = fn

    @property
    def on_worker_exit(self) -> _HookSetter:
        """Called as ``fn(client)`` when a worker ends by itself, after its last task."""
        return _HookSetter(self, "on_worker_exit")

    @on_worker_exit.setter
    def on_worker_exit(self, fn: Callable[..., Any]) -> None:
        self._workpool_hooks["on_worker_exit"] = fn

    @property
    def pre_task(self) -> _HookSetter:
        """Called as ``fn(arg, client)`` before each task; its time is not the task's cost."""
        return _HookSetter(self, "pre_task")

    @pre_task.setter
    def pre_task(self, fn: Callable[..., Any]) -> None:
        self._workpool_hooks["pre_task"] = fn


def _rebuild(fn: Callable[..., Any], hooks: dict[str, Callable[..., Any]]) -> Entrypoint[Any, Any]:
    made = Entrypoint(fn)
    made._workpool_hooks.update(hooks)
    return made


class _HookSetter:
    """What ``entrypoint.on_worker_start`` is when read: a decorator."""

    def __init__(self, owner: Entrypoint[Any, Any], name: str) -> None:
        self._owner = owner
        self._name = name

    def __call__(self, fn: F) -> F:
        self._owner._workpool_hooks[self._name] = fn
        return fn


def entrypoint(fn: Callable[P, R]) -> Entrypoint[P, R]:
    """Mark a function as an entrypoint, so that its hooks can be set by decorators.

    ```python
    import workpool

    @workpool.entrypoint
    def worker_entrypoint(arg, client):
        return arg

    @worker_entrypoint.on_worker_start
    def start(client):
        client.state.cache = {}
    ```
    """
    return Entrypoint(fn)


def find(entrypoint: object, symbol: str) -> EntrypointSpec:
    """Describe an entrypoint, and make sure that it exists, without importing it.

    Raises:
        EntrypointError: No such module, file or symbol, or it is not callable.
    """
    if entrypoint is None:
        return EntrypointSpec("none")
    if isinstance(entrypoint, ModuleType):
        check_callable(getattr(entrypoint, symbol, MISSING), symbol, f"module {entrypoint.__name__!r}")
        path = getattr(entrypoint, "__file__", None)
        if importlib.util.find_spec(entrypoint.__name__) is None and path:
            return EntrypointSpec("file", os.path.abspath(path), symbol)
        return EntrypointSpec("module", entrypoint.__name__, symbol)
    if isinstance(entrypoint, (str, os.PathLike)):
        text = os.fspath(entrypoint)
        if not isinstance(text, str):
            raise EntrypointError(f"an entrypoint's path must be str, not {type(text).__name__}")
        if isinstance(entrypoint, os.PathLike) or text.endswith(".py") or os.sep in text:
            return _find_file(text, symbol)
        return _find_module(text, symbol)
    if callable(entrypoint):
        return EntrypointSpec("callable", entrypoint, symbol)
    hint = f": for so many workers say max_workers={entrypoint}" if isinstance(entrypoint, int) else ""
    raise EntrypointError(
        f"entrypoint must be a callable, a module, a dotted name or the path of a .py file, "
        f"not {type(entrypoint).__name__}{hint}"
    )


def _find_file(path: str, symbol: str) -> EntrypointSpec:
    where = os.path.abspath(path)
    if not os.path.isfile(where):
        raise EntrypointError(f"no such entrypoint file: {path}")
    _check_source(where, symbol, f"file {path!r}")
    return EntrypointSpec("file", where, symbol)


def _find_module(name: str, symbol: str) -> EntrypointSpec:
    loaded = sys.modules.get(name)
    if loaded is not None and name != "__main__":
        check_callable(getattr(loaded, symbol, MISSING), symbol, f"module {name!r}")
        return EntrypointSpec("module", name, symbol)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError) as error:
        raise EntrypointError(f"no such entrypoint module: {name!r} ({error})") from error
    if spec is None:
        raise EntrypointError(f"no such entrypoint module: {name!r}")
    if spec.origin and spec.origin.endswith(".py"):
        _check_source(spec.origin, symbol, f"module {name!r}")
    return EntrypointSpec("module", name, symbol)


def _check_source(path: str, symbol: str, where: str) -> None:
    """Look for ``symbol`` among the names a source file binds, without running it."""
    with open(path, "rb") as file:
        try:
            tree = ast.parse(file.read(), path)
        except (SyntaxError, ValueError) as error:
            raise EntrypointError(f"{where} cannot be compiled: {error}") from error
    # Bound by a condition, a star import or exec(): only running it could tell, so the worker will.
    names = {
        node.id: node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name == symbol:
            return
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                if alias.name == "*" or (alias.asname or alias.name.split(".")[0]) == symbol:
                    return
    if symbol not in names and "__getattr__" not in {
        n.name for n in tree.body if isinstance(n, ast.FunctionDef)
    }:
        raise EntrypointError(f"{where} has no {symbol!r}: define it, or name another with entrypoint_name=")
    for statement in tree.body:
        if (
            isinstance(statement, ast.Assign)
            and isinstance(statement.value, ast.Constant)
            and any(isinstance(target, ast.Name) and target.id == symbol for target in statement.targets)
        ):
            raise EntrypointError(f"{symbol!r} in {where} is not callable but {statement.value.value!r}")
