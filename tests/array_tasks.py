"""What the tests of arrays run in workers.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from workpool import current_client

kept: dict[str, Any] = {}


def identity(value: Any) -> Any:
    return value


def total(array: Any) -> float:
    return float(array.sum())


def one(_: Any) -> int:
    return 1


def loan_of(array: Any) -> Any:
    from workpool import _arrays

    return _arrays.loan_of(array)


def is_view(array: Any) -> bool:
    """Whether an argument looks at the arena."""
    return loan_of(array) is not None


def describe(array: Any) -> tuple[Any, ...]:
    flags = array.flags
    return (
        str(array.dtype), array.shape, bool(flags.writeable),
        bool(flags.c_contiguous), bool(flags.f_contiguous),
    )  # fmt: skip


def fill(array: Any, value: Any) -> None:
    array[...] = value


def fill_all(group: Any, value: Any) -> None:
    for array in group.values() if isinstance(group, dict) else group:
        array[...] = value


def keep(name: str, array: Any) -> None:
    kept[name] = array


def kept_total(name: str) -> float:
    return float(kept[name].sum())


def kept_value(name: str) -> Any:
    return kept[name]


def pop_value(name: str) -> Any:
    return kept.pop(name)


def drop(name: str) -> None:
    del kept[name]


def made(shape: Any, value: float) -> Any:
    array = current_client().empty(shape)
    array[...] = value
    return array


def made_group(count: int, items: int) -> dict[str, Any]:
    return {f"n{i}": made(items, i) for i in range(count)} | {"plain": np.arange(items), "text": "x"}


def made_and_kept(name: str, shape: Any, value: float) -> Any:
    kept[name] = made(shape, value)
    return kept[name]


def made_then_child(items: int) -> float:
    client = current_client()
    array = client.empty(items)
    array[...] = 1.0
    client.submit(fill, array[::2], 3.0).result()
    return float(array.sum())


def made_by_child(items: int, value: float) -> Any:
    return current_client().submit(made, items, value).result()


def write_and_die(path: str, array: Any) -> float:
    """Spoil the argument and die, the first time; the second time tell what is in it."""
    if not Path(path).exists():
        array[...] = -1.0
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return float(array.sum())


def spoil_once(path: str, group: Any) -> None:
    """Overwrite all arrays of a group and die, the first time."""
    if not Path(path).exists():
        fill_all(group, -1)
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def add_up(group: Any) -> float:
    return float(sum(array.sum() for array in (group.values() if isinstance(group, dict) else group)))


def add_up_item(item: tuple[str, Any]) -> float:
    spoil_once(*item)
    return add_up(item[1])


class Named(np.ndarray):
    """An array with a name, which goes where it goes."""

    name: str

    def __array_finalize__(self, other: Any) -> None:
        self.name = getattr(other, "name", "")

    def __reduce__(self) -> Any:
        kind, args, state = super().__reduce__()
        return kind, args, (self.name, state)

    def __setstate__(self, state: Any) -> None:
        self.name, rest = state
        super().__setstate__(rest)


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fork_and_sum(array: Any) -> float:
    """The sum as a fork of the worker sees it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, str(float(array.sum())).encode())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    return float(os.read(read, 100))


def has_numpy(_: Any = None) -> bool:
    import sys

    return "numpy" in sys.modules


def churn(array: Any, seed: int) -> Any:
    """Arrays of a size that the seed tells, each item twice the argument's length."""
    assert (array == len(array)).all()
    if seed % 7 == 0:
        kept[str(seed % 5)] = array
    for other in kept.values():
        assert (other == len(other)).all()
    if seed % 3 == 0:
        made = current_client().empty(seed % 9000, np.int64)
        made[...] = 2 * len(array)
        return made
    return np.full(seed % 5000, 2 * len(array), dtype=np.int64)


def nap(seconds: float, _: Any = None) -> None:
    time.sleep(seconds)


def kept_clear() -> None:
    kept.clear()
