"""What the tests of integrations run in workers, of workpool's and of others' pools.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np


def square(x: Any) -> Any:
    return x * x


def scaled(x: float, *, by: float = 1.0) -> float:
    return x * by


def fail(x: int) -> int:
    if x == 3:
        raise ValueError(f"no {x}")
    return x


def pid(_: Any = None) -> int:
    return os.getpid()


def variable(name: str) -> tuple[str | None, int]:
    return os.environ.get(name), os.getpid()


def how_many_inside(folder: str, most: int) -> int:
    """How many of these tasks run at once; each stays until ``most`` do, or for a tenth of a second."""
    mine = Path(folder, f"{os.getpid()}.{time.monotonic_ns()}")
    mine.touch()
    end = time.monotonic() + 0.1
    seen = 0
    while seen < most and time.monotonic() < end:
        seen = max(seen, len(os.listdir(folder)))
        time.sleep(0.001)
    mine.unlink()
    return seen


def meet(number: int, folder: str, others: int) -> bool:
    """Stay until so many of these tasks run at once; False if they do not."""
    Path(folder, str(number)).touch()
    end = time.monotonic() + 10.0
    while len(os.listdir(folder)) < others:
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


def stay(folder: str) -> None:
    """Run until interrupted, for half a minute at most; both leave a file."""
    Path(folder, "entered").touch()
    try:
        for _ in range(3000):
            time.sleep(0.01)
    except BaseException:
        Path(folder, "interrupted").touch()
        raise


def fail_beside(folder: str) -> None:
    """Fail once ``stay`` runs."""
    while not Path(folder, "entered").exists():
        time.sleep(0.001)
    raise ValueError("beside")


def touch(path: str) -> None:
    Path(path).touch()


def where(array: Any) -> tuple[int | None, bool, float]:
    """Which shared block an array looks at, whether it may be written, and its sum."""
    from workpool import arrays

    loan = arrays.loan_of(np.asarray(array))
    shared = loan.offset if loan is not None and loan.shared else None
    return shared, bool(np.asarray(array).flags.writeable), float(np.sum(array))


def where_inside(holder: dict[str, Any]) -> tuple[int | None, bool, float]:
    return where(holder["array"])


def mapped(array: Any) -> tuple[float, Any, bool, str | None]:
    """Sum, shape and type of an array, whether it may be written, and its file."""
    owner = array
    while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
        owner = owner.base
    file = getattr(owner, "filename", None)
    about = array.shape, array.dtype.str
    return float(array.sum()), about, bool(array.flags.writeable), None if file is None else str(file)


def doubled_in_place(array: Any) -> None:
    array *= 2


def inner(n: int, options: dict[str, Any]) -> tuple[int, list[int], list[int]]:
    """A ``Parallel`` inside a task: this process, those of the inner tasks, and results."""
    import joblib

    found = joblib.Parallel(**options)(joblib.delayed(_inner_square)(x) for x in range(n))
    pairs = list(found)
    return os.getpid(), [process for process, _ in pairs], [value for _, value in pairs]


def _inner_square(x: int) -> tuple[int, int]:
    return os.getpid(), x * x


def inner_thread(_: Any) -> set[tuple[int, bool]]:
    """Where the tasks of an inner ``Parallel`` run that would rather have threads."""
    import joblib

    return set(joblib.Parallel(n_jobs=2, prefer="threads")(joblib.delayed(_thread)() for _ in range(4)))


def _thread() -> tuple[int, bool]:
    return os.getpid(), threading.current_thread() is threading.main_thread()


def depth(levels: int) -> int:
    """One ``Parallel`` inside another."""
    import joblib

    if levels == 0:
        return 1
    return sum(joblib.Parallel(n_jobs=2)(joblib.delayed(depth)(levels - 1) for _ in range(2)))


def inner_fail(_: Any) -> None:
    import joblib

    joblib.Parallel(n_jobs=2)(joblib.delayed(fail)(x) for x in range(10))


def inner_timeout(_: Any) -> str:
    import joblib

    try:
        joblib.Parallel(n_jobs=2, timeout=0.05)(joblib.delayed(time.sleep)(20) for _ in range(2))
    except Exception as error:
        return f"{type(error).__module__}.{type(error).__name__}"
    return "none"


def thirds(x: int) -> float:
    return x / 3


def sine(x: float) -> Any:
    return np.sin(np.outer(x, np.arange(1, 5)))[0]


def log_normal(x: Any) -> float:
    return float(-0.5 * np.sum(np.square(x)))


def log_normal_of(x: Any, mean: float, *, width: float) -> float:
    return float(-0.5 * np.sum(np.square((x - mean) / width)))


def wide(u: Any) -> Any:
    return 10 * u - 5
