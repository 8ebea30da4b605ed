"""Pickling: values and functions into bytes, exceptions there and back.

Values that are small and plain never come here (``_codec``). The C pickler goes first;
cloudpickle takes what it refuses, and whatever refers to ``__main__``, because a worker
never imports that.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import itertools
import pickle
import sys
from types import BuiltinFunctionType, FunctionType

from workpool import _codec, _core, main_functions
from workpool._core import OUTCOME_DIED, OUTCOME_ERROR, OUTCOME_TIMEOUT, Block, Seat, TaskCore
from workpool.errors import RemoteError, RemoteTraceback, TaskInterrupt, TaskTimeout
from workpool.identity import ByIdentity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# No worker has the parent's main module: under its own name, or as a spawned child knows it.
_MAIN, _MP_MAIN = b"__main__", b"__mp_main__"


def dumps(value: object) -> bytes:
    """Pickle ``value`` so that a process without our ``__main__`` can load it."""
    try:
        data = pickle.dumps(value, protocol=5)
    except Exception:  # whatever a __reduce__ raises: cloudpickle says what is really wrong
        return _by_value(value)
    return _with_main(lambda kind: main_functions.written(value, kind)) if _refers_to_main(data) else data


def _by_value(value: object) -> bytes:
    return main_functions.written(value, _value_pickler())


def _refers_to_main(data: bytes) -> bool:
    return _MAIN in data or _MP_MAIN in data


def _with_main(write: Callable[[Any], bytes]) -> bytes:
    """What ``write`` makes of something that refers to the main module: often to a function alone."""
    try:
        data = write(main_functions.Pickler)
    except Exception:  # as in dumps(): cloudpickle says what is wrong
        return write(_value_pickler())
    return write(_value_pickler()) if _refers_to_main(data) else data


_pickler: Any = None


def _value_pickler() -> Any:
    """The same, but for functions that the main module has under their names."""
    global _pickler
    by_value = main_functions.by_value()
    if _pickler is None:

        class Pickler(by_value):  # type: ignore[misc,valid-type]
            def reducer_override(self, value: Any) -> Any:
                if main_functions.is_of_main(value):
                    return main_functions.reduce(value)
                return super().reducer_override(value)

        _pickler = Pickler
    return _pickler


def pickled_by(write: Callable[[Any], bytes]) -> bytes:
    """``dumps`` for who has ways of his own: ``write(kind)`` pickles with that kind of pickler."""
    try:
        data = write(pickle.Pickler)
    except Exception:  # as above
        return write(_value_pickler())
    return _with_main(write) if _refers_to_main(data) else data


# In the id of a function: above seat, incarnation and number. It is that of one map.
PASSING = 1 << 60

loads = pickle.loads
_codec.install(dumps, loads)


def _find_arrays() -> Any:
    from workpool import arrays  # with NumPy, which takes far longer than all else to import

    return arrays


_core.on_arrays(_find_arrays)


class Functions:
    """The functions a home has sent: each is pickled once, and lives while it is in use.

    Only plain functions, cached ones, builtins and classes are kept, by identity. Whatever carries
    state that may change between two calls (bound methods, partials, callable objects)
    travels with each task, or once for a whole map.
    """

    def __init__(self, seat: Seat, incarnation: int) -> None:
        self._seat = seat
        self._known = ByIdentity()
        self._numbers = itertools.count(1)
        self._prefix = (seat.index << 52) | ((incarnation & 0xFFFFF) << 32)

    def find(self, fn: Callable[..., object]) -> Block | None:
        """The block that holds ``fn``; None if it must travel with the task."""
        block: Block | None = self._known.get(fn)
        if block is None and _is_stateless(fn):
            block = self._seat.store(self._prefix | next(self._numbers), dumps(fn))
            self._known.put(fn, block)
        return block

    def store_passing(self, fn: Callable[..., object]) -> Block | None:
        """A block that holds ``fn`` as it is now, whatever state it carries; workers keep it shortly.

        None if it refers to a shared array: that is one only in a task's own payload.
        """
        data = None
        if "numpy" in sys.modules:
            arrays = _find_arrays()
            found: list[Any] = []
            data = arrays.dumps(fn, found.append)
            if any(arrays.is_shared(part) for part in found):
                return None
            if found:
                data = None  # it is without them
        data = data or dumps(fn)
        return self._seat.store(PASSING | self._prefix | next(self._numbers), data)


def _is_stateless(fn: object) -> bool:
    if isinstance(fn, BuiltinFunctionType):
        owner = fn.__self__
        return owner is None or type(owner) is type(itertools)  # a module's function, not an object's method
    return isinstance(fn, (FunctionType, type, main_functions.CACHED))


def pack_exception(error: BaseException, partial: list[Any] | None = None) -> bytes:
    """An exception for its journey: as itself if it survives pickling, with its traceback's text.

    Args:
        error: What a task raised.
        partial: Results of a chunk's items before the one that raised.
    """
    import traceback  # with linecache and tokenize: only for those that need it

    text = "".join(traceback.format_exception(type(error), error, _users_part(error.__traceback__)))
    data = _travelling(dumps, error) or _travelling(_dumps_by_parts, error)
    if data is None:
        data = pickle.dumps(RemoteError(_qualified(type(error)), _text_of(error), text))
    before: bytes | None = None
    if partial:
        try:
            before = dumps(partial)
        except BaseException:  # one of the results cannot be pickled: the exception goes alone
            before = None
    return pickle.dumps((data, text, before))


def _travelling(pickled: Callable[[BaseException], bytes], error: BaseException) -> bytes | None:
    """What ``pickled`` makes of an exception, if that can be loaded again."""
    try:
        data = pickled(error)
        return data if isinstance(pickle.loads(data), BaseException) else None
    except BaseException:  # whatever its __reduce__ raises: that ends no worker
        return None


def _dumps_by_parts(error: BaseException) -> bytes:
    """Pickle an exception, and those inside it, so that no ``__init__`` is called with their ``args``."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            kind = type(value)
            plain = isinstance(value, BaseException) and _reduces_as(kind, BaseException)
            if plain and kind.__new__ in (BaseException.__new__, Exception.__new__):
                return rebuild_exception, (kind, value.args, vars(value))
            return super().reducer_override(value)

    return main_functions.written(error, Pickler)


def _reduces_as(kind: type, base: type) -> bool:
    return getattr(kind, "__reduce__", None) is getattr(base, "__reduce__", None)


def rebuild_exception(
    kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]
) -> BaseException:
    """An exception as it was, made without its ``__init__``."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def _users_part(trace: Any) -> Any:
    """A traceback without the frames of this package at its two ends."""
    from types import TracebackType

    entries = []
    while trace is not None:
        entries.append(trace)
        trace = trace.tb_next
    while entries and _is_ours(entries[-1]):
        entries.pop()
    while entries and _is_ours(entries[0]):
        del entries[0]
    for entry in reversed(entries):
        trace = TracebackType(trace, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return trace


def _is_ours(entry: Any) -> bool:
    name: str = entry.tb_frame.f_globals.get("__name__", "")
    return name.startswith("workpool.") and not name.startswith("workpool.integrations")


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:
        return f"(its __str__ raised {type(failure).__name__})"


def _qualified(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def unpack_outcome(outcome: int, payload: Any, task: TaskCore) -> BaseException:
    """The exception of a task that ended with an error, or with its worker's death."""
    if outcome == OUTCOME_DIED:
        from workpool.death import WorkerDied

        seat, pid, status, entered = payload
        return WorkerDied(
            seat, pid, status, task.id, task.key, "ran" if entered else "unpickled the arguments of"
        )
    if outcome == OUTCOME_TIMEOUT:
        return timed_out(None if payload is None else unpack_outcome(OUTCOME_ERROR, payload, task), task)
    data, text, before = pickle.loads(payload)
    if before is not None:
        task.partial = pickle.loads(before)
    try:
        error = pickle.loads(data)
    except Exception as failure:
        error = RemoteError("an exception that cannot be unpickled here", str(failure), text)
    # Past a __setattr__ of its own, as frozen exceptions have.
    BaseException.__dict__["__cause__"].__set__(error, RemoteTraceback(text))
    return error  # type: ignore[no-any-return]


def timed_out(ended_with: BaseException | None, task: TaskCore) -> TaskTimeout:
    """The error of a task whose time was up, with what it ended with as the cause."""
    key = "" if task.key is None else f" (key {task.key!r})"
    error = TaskTimeout(f"task {task.id}{key} ran longer than its {task.limit:g} s")
    if isinstance(ended_with, TaskTimeout):  # made by the worker, where it was interrupted
        ended_with = ended_with.__cause__
    error.__cause__ = ended_with
    return error


def is_cancellation(error: BaseException, asked: int) -> bool:
    """Whether a task ended as one that was to end does."""
    if isinstance(error, TaskInterrupt):
        return True
    kind = type(error)
    if kind.__name__ != "CancelledError":
        return False
    # A coroutine's own, and the other's if it follows from what was asked; neither is imported for this.
    return kind.__module__ == "asyncio.exceptions" or (
        asked != 0 and kind.__module__ == "concurrent.futures._base"
    )
