"""Functions of the main module, inside what is sent: pickled once, and loaded once by each worker.

No worker has the caller's main module, so its functions travel by value, which costs a
thousand times what a name costs. Objects that hold such a function, as samplers and
optimizers make for every call, would pay that each time. A function that was sent is known
again by its identity, and in a worker by the digest of its bytes, which travel along: nobody
has to keep anything for anybody.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import pickle
import sys
from types import FunctionType

from workpool.identity import ByIdentity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# As a worker keeps functions of its own.
_MOST_KEPT = 1024

_sent = ByIdentity()  # (digest, data)
_kept: dict[bytes, Callable[..., Any]] = {}


def by_value() -> Any:
    """cloudpickle, told that a main module by its other name is one."""
    import cloudpickle  # 15 ms to import: only where plain pickle does not do

    main = sys.modules.get("__mp_main__")
    if main is not None:
        cloudpickle.register_pickle_by_value(main)
    return cloudpickle


def is_of_main(value: object) -> bool:
    """Whether ``value`` is a function that the main module has under its name."""
    if type(value) is not FunctionType or value.__module__ not in ("__main__", "__mp_main__"):
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
        data = zlib.compress(by_value().dumps(function, protocol=5), 1)
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
