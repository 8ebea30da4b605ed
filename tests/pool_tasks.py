"""What the pool's tests run in workers: imported there by name, since ``tests`` is on the path.

Nearly every worker of the tests imports this module, so it imports little by itself: asyncio
alone would take as long again as all else that a worker does to start.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from helpers import wait_until

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

# ---- plain ---------------------------------------------------------------------------


def echo(value: Any) -> Any:
    return value


def put(known: Any, key: int) -> None:
    known[key] = key


def greet(queue: Any) -> None:
    queue.put("hello")


def add(a: int, b: int, c: int = 0) -> int:
    return a + b + c


def keywords(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def pid_of(_: object = None) -> int:
    return os.getpid()


def divide(a: int, b: int) -> float:
    return a / b


def fail_on_three(value: int) -> int:
    if value == 3:
        raise ValueError("three")
    return value


class Counter:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: object) -> int:
        self.calls += 1
        return self.calls


class Doubler:
    """A callable object."""

    def __init__(self, factor: int = 2) -> None:
        self.factor = factor

    def __call__(self, value: int) -> int:
        return self.factor * value

    def method(self, value: int) -> int:
        return self.factor + value


def read_environment(name: str) -> str | None:
    return os.environ.get(name)


def current_task() -> tuple[Any, Any, int, int]:
    from workpool import current_client

    client = current_client()
    assert client.task is not None
    return client.task.key, client.task.meta, client.task.attempt, client.worker_id


# ---- gates: a task that stays until the test lets it go ---------------------------------


def enter(gate: str, value: Any = None) -> Any:
    """Say that the task runs, then stay until the gate is opened."""
    Path(f"{gate}.{os.getpid()}.{threading.get_ident()}.{time.monotonic_ns()}.entered").touch()
    wait_until(Path(f"{gate}.open").exists, timeout=30.0)
    return value


def mark(path: str, value: Any = None) -> Any:
    """Leave a trace that the task has run."""
    with Path(path).open("a") as file:
        file.write(f"{value}\n")
    return value


# ---- coroutines ------------------------------------------------------------------------


async def echo_later(value: Any) -> Any:
    import asyncio

    await asyncio.sleep(0)
    return value


async def echo_after(seconds: float, value: Any) -> Any:
    import asyncio

    await asyncio.sleep(seconds)
    return value


_meeting: dict[str, asyncio.Event] = {}


async def meet(mine: str, other: str) -> str:
    """Return only if the task that says the names the other way round runs at the same time."""
    import asyncio

    _meeting.setdefault(mine, asyncio.Event()).set()
    await asyncio.wait_for(_meeting.setdefault(other, asyncio.Event()).wait(), 20)
    return mine


async def fail_later(text: str) -> NoReturn:
    import asyncio

    await asyncio.sleep(0)
    raise ValueError(text)


# ---- errors ----------------------------------------------------------------------------


class OwnError(Exception):
    """An exception of the user's."""


class Interrupting(Exception):
    """An exception whose pickling raises what ends programs."""

    def __reduce__(self) -> NoReturn:
        raise KeyboardInterrupt


class Exiting(Exception):
    """The same with another."""

    def __reduce__(self) -> NoReturn:
        raise SystemExit(3)


class OddError(Exception):
    """An exception that cannot be rebuilt from its ``args``."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class KeywordError(Exception):
    """An exception that pickles by its own reduction."""

    def __init__(self, *, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __reduce__(self) -> Any:
        return _keyword_error, (self.code,)


def _keyword_error(code: int) -> KeywordError:
    return KeywordError(code=code)


class FrozenError(Exception):
    """An exception whose attributes cannot be set."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{name} is frozen")


class LyingError(Exception):
    """An exception that unpickles as something else."""

    def __reduce__(self) -> Any:
        return str, ("not an exception",)


class UnpicklableError(Exception):
    """An exception with a lock inside."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def fail(error: BaseException) -> NoReturn:
    raise error


def fail_with(kind: str, *args: Any) -> NoReturn:
    raise globals()[kind](*args)


def fail_deep(levels: int) -> int:
    if levels == 0:
        raise OwnError("deep down")
    return fail_deep(levels - 1)


def give(kind: str) -> Any:
    """A result that does not travel."""
    return {
        "lock": threading.Lock, "generator": lambda: (x for x in ()), "explosive": Explosive,
        "interrupting": InterruptingWhenLoaded,
    }[kind]()  # fmt: skip


class InterruptingWhenLoaded:
    """A value whose rebuilding raises what Ctrl-C raises."""

    def __reduce__(self) -> Any:
        return interrupt, ()


def interrupt() -> NoReturn:
    raise KeyboardInterrupt


class Explosive:
    """A value that pickles, but cannot be rebuilt."""

    def __reduce__(self) -> Any:
        return explode, ()


def explode() -> NoReturn:
    raise OwnError("while unpickling")


class Unpicklable:
    """A value that refuses to be pickled."""

    def __reduce__(self) -> NoReturn:
        raise OwnError("will not be pickled")


# ---- deaths ----------------------------------------------------------------------------


def kill_self(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(30)


def exit_at_once(code: int) -> None:
    os._exit(code)


def segfault() -> None:
    import ctypes

    ctypes.string_at(0)


class Poison:
    """A value whose unpickling kills the process, and leaves a trace of each attempt."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return _swallow, (self.trace, os.getpid())


def _swallow(trace: str, maker: int) -> None:
    if os.getpid() != maker:
        mark(trace)
        os._exit(9)


def die_first(trace: str, times: int, value: Any) -> Any:
    """Kill the worker for the first ``times`` runs."""
    mark(trace)
    if len(Path(trace).read_text().splitlines()) <= times:
        os._exit(3)
    return value


# ---- hooks -----------------------------------------------------------------------------


def initialize(text: str) -> None:
    os.environ["WORKPOOL_TEST_INITIALIZED"] = text


def fail_to_start(*_: object) -> NoReturn:
    raise OwnError("cannot start")


def with_hooks(trace: str | None) -> Callable[[Any], Any]:
    """An entrypoint whose hooks tell the trace file what happens."""

    def run(arg: Any, client: Any) -> Any:
        return client.worker_id, client.state.started, client.state.seen, arg

    def start(client: Any) -> None:
        client.state.started = True
        client.state.seen = []

    run.on_worker_start = start  # type: ignore[attr-defined]
    run.pre_task = lambda arg, client: client.state.seen.append(arg)  # type: ignore[attr-defined]
    if trace is not None:
        run.on_worker_exit = lambda client: mark(trace, client.worker_id)  # type: ignore[attr-defined]
    return run
