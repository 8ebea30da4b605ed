"""Dependencies run strictly downwards.

SPDX-License-Identifier: BSD-3-Clause
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT

HEADERS = sorted((ROOT / "csrc").glob("*.h"))
CYTHON = sorted((ROOT / "workpool").glob("*.p[xy][dx]"))


def layer_of(header: Path) -> int:
    found = re.search(r"^// Layer (\d+)\.", header.read_text(), re.MULTILINE)
    assert found, f"{header.name} does not say its layer"
    return int(found[1])


LAYERS = {header.name: layer_of(header) for header in HEADERS}


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.name)
def test_header_includes_only_lower_layers(header: Path) -> None:
    own = LAYERS[header.name]
    for included in re.findall(r'^\s*#\s*include "(\w+\.h)"', header.read_text(), re.MULTILINE):
        if included == "wp_model_atomic.h":
            continue  # the explorer's atomics stand in for those of the machine
        # Layer 0 is the machine: its headers build on the numbers and atomics beside them.
        allowed = LAYERS[included] < own or own == LAYERS[included] == 0
        assert allowed, f"{header.name} (layer {own}) includes {included} (layer {LAYERS[included]})"


def test_the_machine_has_no_cycle_of_includes() -> None:
    order = ["wp_config.h", "wp_atomic.h", "wp_os.h"]
    assert sorted(order) == sorted(name for name, layer in LAYERS.items() if layer == 0)
    for name in order:
        for included in re.findall(r'#\s*include "(\w+\.h)"', (ROOT / "csrc" / name).read_text()):
            assert included == "wp_model_atomic.h" or order.index(included) < order.index(name)


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.name)
def test_only_one_header_includes_stdatomic(header: Path) -> None:
    includes = bool(re.search(r"#\s*include <stdatomic\.h>", header.read_text()))
    assert includes == (header.name == "wp_atomic.h")


@pytest.mark.parametrize("source", CYTHON, ids=lambda source: source.name)
def test_cython_sees_only_the_door(source: Path) -> None:
    externs = re.findall(r'cdef extern from "(wp_\w+\.h)"', source.read_text())
    assert set(externs) <= ({"wp_pool.h"} if source.name == "_c.pxd" else set())
    for name in re.findall(r"^\s*from workpool\.?(\w*) import", source.read_text(), re.MULTILINE):
        assert name == "errors", f"{source.name} imports workpool.{name}: glue decides nothing"


# From the bottom up: a module imports from the rows below its own, and from its own row
# as long as that makes no circle. Inside a function it may also import what would close
# one, within its row: a worker imports late what few tasks need.
PYTHON_LAYERS: dict[str, set[str]] = {
    "ground": {
        "authkey",
        "cpus",
        "death",
        "environment",
        "errors",
        "events",
        "files",
        "identity",
        "logs",
        "once",
        "options",
        "stacks",
        "threads",
    },
    "glue": {"_arrays", "_codec", "_core", "_interrupt", "_look"},
    "both sides": {
        "arrays",
        "client",
        "completed",
        "entrypoints",
        "gather",
        "loading",
        "main_functions",
        "mapping",
        "messages",
        "nested",
        "payload",
        "pressure",
        "progress",
        "ranges",
        "results",
        "segments",
        "statistics",
        "task",
    },
    "worker": {"bound", "initialized", "runner", "worker"},
    "parent": {
        "launcher",
        "admission",
        "blocks",
        "inner",
        "limits",
        "quarantine",
        "settings",
        "sizing",
        "local",
        "local_limits",
        "mapped",
        "placement",
        "pool",
        "priority",
        "program",
        "runtime",
        "supervisor",
        "trimming",
    },
    "package": {"__init__"},
    "users": {"cli", "integrations", "measure", "top", "watching"},
    "program": {"__main__"},
}
RANK = {module: rank for rank, row in enumerate(PYTHON_LAYERS.values()) for module in row}
MODULES = sorted((ROOT / "workpool").rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "workpool").with_suffix("").parts
    return parts[0]


def imports_of(tree: ast.AST, *, late: bool) -> Iterator[str]:
    """Yield the modules of this package that run-time code imports, in functions too if ``late``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not late:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole package"
            if node.module == "workpool":
                yield from (alias.name if alias.name in RANK else "__init__" for alias in node.names)
            elif node.module and node.module.startswith("workpool."):
                yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                package, _, inner = alias.name.partition(".")
                if package == "workpool":
                    yield inner.partition(".")[0] or "__init__"
        yield from imports_of(node, late=late)


def graph(*, late: bool) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in MODULES:
        tree = ast.parse(path.read_text())
        found.setdefault(module_of(path), set()).update(imports_of(tree, late=late))
    return found


@pytest.mark.parametrize(
    ("module", "imported"), graph(late=True).items(), ids=lambda part: part if isinstance(part, str) else ""
)
def test_module_imports_nothing_above_its_layer(module: str, imported: set[str]) -> None:
    assert module in RANK, f"{module} has no place in PYTHON_LAYERS"
    above = {other for other in imported if RANK.get(other, 0) > RANK[module]}
    assert not above, f"{module} imports upwards"


def test_imports_make_no_circle() -> None:
    imports = graph(late=False)
    done: set[str] = {"integrations", "measure"}  # the files of each share a package

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"a circle of imports: {' -> '.join([*path, module])}"
        if module not in done:
            for imported in sorted(imports.get(module, ())):
                visit(imported, (*path, module))
            done.add(module)

    for module in imports:
        visit(module, ())
