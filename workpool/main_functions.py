"""Functions of the main module, inside what is sent: pickled once, and loaded once by each worker.

No worker has the caller's main module, so its functions travel by value, which costs a
thousand times what a name costs. Objects that hold such a function, as samplers and
optimizers make for every call, would pay that each time. A function that was sent is known
again by its identity, and in a worker by the digest of its bytes, which travel along: nobody
has to keep anything for anybody.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
from types import CodeType, FunctionType

from workpool.identity import ByIdentity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# As a worker keeps functions of its own.
_MOST_KEPT = 1024

_sent = ByIdentity()  # (digest, data)
_kept: dict[bytes, Callable[..., Any]] = {}


MAIN = ("__main__", "__mp_main__")  # the second as multiprocessing imports it

CACHED = type(functools.cache(len))

_by_value: Any = None


def by_value() -> Any:
    """The pickler of cloudpickle, which takes a main module by its other name as one."""
    global _by_value
    import cloudpickle  # 15 ms to import: only where plain pickle does not do

    main = sys.modules.get("__mp_main__")
    if main is not None:
        cloudpickle.register_pickle_by_value(main)
    if _by_value is None:

        class ByValue(cloudpickle.Pickler):  # type: ignore[misc]
            def reducer_override(self, value: Any) -> Any:
                if type(value) is CodeType:
                    return _with_filename(value, self.dispatch_table[CodeType](value))
                if type(value) is CACHED and (value.__module__ in MAIN or "<locals>" in value.__qualname__):
                    parameters = (value.cache_parameters(),)
                    return _make_cached, parameters, value.__wrapped__, None, None, _fill_cached
                return super().reducer_override(value)

        _by_value = ByValue
    return _by_value


def written(value: object, kind: Any) -> bytes:
    """What a pickler of this kind makes of ``value``."""
    out = io.BytesIO()
    kind(out, protocol=5).dump(value)
    return out.getvalue()


def _with_filename(code: CodeType, reduced: tuple[Any, tuple[Any, ...]]) -> Any:
    """With the file it is from, which cloudpickle 3.1.3 leaves out: tracebacks show its lines."""
    make, args = reduced
    return make, tuple(code.co_filename if part == "<dynamic-code>" else part for part in args)


class _Late:
    """What a cache calls: the function comes after it, for it may refer to its own cache."""

    function: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def _make_cached(parameters: dict[str, Any]) -> Any:
    """A function of ``functools.lru_cache``, with a cache of its own."""
    return functools.lru_cache(**parameters)(_Late())


def _fill_cached(cached: Any, function: Callable[..., Any]) -> None:
    cached.__wrapped__.function = function
    functools.update_wrapper(cached, function)


def is_of_main(value: object) -> bool:
    """Whether ``value`` is a function that the main module has under its name."""
    if type(value) is not FunctionType or value.__module__ not in MAIN:
        return False
    main = sys.modules.get(value.__module__)
    return main is not None and vars(main).get(value.__name__) is value


def reduce(function: Callable[..., Any]) -> tuple[Any, tuple[bytes, bytes]]:
    """What pickle rebuilds it from. What it refers to is seen as it was the first time."""
    sent: tuple[bytes, bytes] | None = _sent.get(function)
    if sent is None:
        import hashlib
        import zlib

        # Compressed, the name of the main module, which a pickle is searched for, is not in it.
        data = zlib.compress(written(function, by_value()), 1)
        sent = hashlib.blake2b(data, digest_size=16).digest(), data
        _sent.put(function, sent)
    return load, sent


class Pickler(pickle.Pickler):
    """The C pickler, but for these functions."""

    def reducer_override(self, value: Any) -> Any:
        """Part of a pickler."""
        return reduce(value) if is_of_main(value) else NotImplemented


def load(digest: bytes, data: bytes) -> Any:
    """The function with these bytes, always the same."""
    function = _kept.get(digest)
    if function is None:
        import zlib

        function = pickle.loads(zlib.decompress(data))
        while len(_kept) >= _MOST_KEPT:
            _kept.pop(next(iter(_kept)), None)
        _kept[digest] = function
    return function
