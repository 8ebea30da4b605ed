"""Every way to say what the workers shall run, and every way to get it wrong.

SPDX-License-Identifier: BSD-3-Clause
"""

import functools
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pool_tasks as tasks
import pytest

import workpool
from workpool import EntrypointError, WorkerPool

SOURCE = """
import functools, os

NUMBER = 3

class Thing:
    def __init__(self, text): self.text = text

def worker_entrypoint(arg):
    return "file", arg, os.getpid()

def other(arg, client):
    return client.worker_id, arg

def makes(arg):
    return Thing(arg)

partial = functools.partial(other)

async def later(arg):
    return "later", arg
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that can be imported."""
    (tmp_path / "entry_module.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "entry_module"
    sys.modules.pop("entry_module", None)


def run(entrypoint: Any, arg: Any = 1, **options: Any) -> Any:
    with WorkerPool(entrypoint, max_workers=1, **options) as pool:
        return pool.add_task(arg).result()


async def _later(arg: int) -> int:
    return arg + 1


class Entry:
    def __call__(self, arg: int, client: workpool.WorkerClient) -> tuple[int, int]:
        return client.worker_id, arg


class Pair:
    @classmethod
    def run(cls, arg: int) -> str:
        return f"{cls.__name__} {arg}"


def test_callable_is_run() -> None:
    assert run(tasks.echo, "x") == "x"


def test_lambda_is_run() -> None:
    assert run(lambda arg: arg * 2, 4) == 8


def test_closure_is_run() -> None:
    base = 10
    assert run(lambda arg: arg + base, 4) == 14


def test_partial_is_run() -> None:
    assert run(functools.partial(tasks.add, 1), 4) == 5


def test_callable_object_is_given_the_client() -> None:
    assert run(Entry(), 4) == (1, 4)


def test_bound_method_is_run() -> None:
    assert run(tasks.Doubler(3).method, 4) == 7
    assert run(Pair.run, 4) == "Pair 4"


def test_builtin_is_run() -> None:
    assert run(abs, -4) == 4


def test_second_parameter_is_the_client() -> None:
    assert run(lambda arg, client: (client.worker_id, arg), 4) == (1, 4)


def test_second_parameter_with_a_default_is_left_alone() -> None:
    assert run(lambda arg, factor=3: arg * factor, 4) == 12


def test_parameter_named_client_with_a_default_is_the_client() -> None:
    assert run(lambda arg, client=None: client.worker_id, 4) == 1


def test_current_client_is_the_client_that_is_passed() -> None:
    assert run(lambda arg, client: client is workpool.current_client()) is True


def test_current_client_outside_a_worker_is_refused() -> None:
    with pytest.raises(RuntimeError, match="worker"):
        workpool.current_client()


def test_coroutine_function_is_awaited() -> None:
    assert run(_later, 4) == 5


def test_plain_function_that_returns_a_coroutine_is_awaited() -> None:
    assert run(lambda arg: tasks.echo_later(arg), 4) == 4


def test_module_object_is_run(module: str) -> None:
    assert run(importlib.import_module(module))[:2] == ("file", 1)


def test_dotted_name_is_run_and_not_imported_here(module: str) -> None:
    assert run(module)[:2] == ("file", 1)
    assert module not in sys.modules


def test_name_of_a_module_in_a_package_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "entry_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run("entry_package.inner")[:2] == ("file", 1)


def test_other_symbol_is_run(module: str) -> None:
    assert run(module, entrypoint_name="other") == (1, 1)
    assert run(module, entrypoint_name="partial") == (1, 1)
    assert run(module, entrypoint_name="later") == ("later", 1)


def test_file_path_is_run(tmp_path: Path) -> None:
    path = tmp_path / "some_file.py"
    path.write_text(SOURCE)
    assert run(str(path))[:2] == ("file", 1)
    assert run(path)[:2] == ("file", 1)


def test_relative_path_is_that_of_the_moment_the_pool_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "relative_file.py").write_text(SOURCE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    with WorkerPool("relative_file.py", max_workers=1) as pool:
        monkeypatch.chdir(elsewhere)
        assert pool.add_task(1).result()[:2] == ("file", 1)


def test_path_without_the_suffix_py_can_be_given_as_a_path(tmp_path: Path) -> None:
    path = tmp_path / "tool"
    path.write_text(SOURCE)
    assert run(path)[:2] == ("file", 1)


def test_file_named_like_a_module_of_the_worker_is_the_file(tmp_path: Path) -> None:
    path = tmp_path / "pickle.py"
    path.write_text(SOURCE)
    assert run(path)[:2] == ("file", 1)


def test_instance_of_a_class_of_the_file_comes_back_where_the_file_can_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file_with_class.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    result = run(tmp_path / "file_with_class.py", "text", entrypoint_name="makes")
    assert (type(result).__name__, result.text) == ("Thing", "text")
    del sys.modules["file_with_class"]


@pytest.mark.parametrize(
    ("entrypoint", "match"),
    [
        ("no_such_module_anywhere", "no_such_module_anywhere"),
        ("no_such_package.module", "no_such_package"),
        ("no/such/file.py", "no/such/file.py"),
        ("no_such_file.py", "no_such_file.py"),
        (Path("no_such_file"), "no_such_file"),
        ("", "entrypoint"),
        (".relative", "relative"),
        (3, "int: for so many workers say max_workers=3"),
        (b"module", "bytes"),
        ("json", "worker_entrypoint"),
        (importlib, "worker_entrypoint"),
    ],
)
def test_entrypoint_that_is_not_there_is_refused_by_the_constructor(entrypoint: Any, match: str) -> None:
    with pytest.raises(EntrypointError, match=match) as caught:
        WorkerPool(entrypoint, max_workers=1)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("source", "symbol", "match"),
    [
        ("def f(x): return x", "worker_entrypoint", "worker_entrypoint"),
        ("worker_entrypoint = 3", "worker_entrypoint", "not callable"),
        ("def worker_entrypoint(x: return x", "worker_entrypoint", "compiled"),
    ],
)
def test_file_that_is_wrong_is_refused_by_the_constructor(
    tmp_path: Path, source: str, symbol: str, match: str
) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(source)
    with pytest.raises(EntrypointError, match=match):
        WorkerPool(path, max_workers=1, entrypoint_name=symbol)


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EntrypointError):
        WorkerPool(tmp_path, max_workers=1)


def test_module_that_raises_when_imported_breaks_the_pool_with_its_error_as_cause(tmp_path: Path) -> None:
    path = tmp_path / "raises.py"
    path.write_text("def worker_entrypoint(x): return x\nraise ValueError('at import')")
    with WorkerPool(path, max_workers=1) as pool, pytest.raises(workpool.WorkerDied) as caught:
        pool.add_task(1).result()
    assert isinstance(caught.value.__cause__, ValueError)


def test_refused_entrypoint_starts_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    for _ in range(3):
        with pytest.raises(EntrypointError):
            WorkerPool(tmp_path / "nothing.py", max_workers=1)
