"""What is made once, although a signal's handler or a finalizer may come in meanwhile and need it too.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import gc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Thread
    from typing import TypeVar

    T = TypeVar("T")


def keep_first(owner: object, name: str, made: T) -> T:
    """Give the attribute ``name``, which was None when it was looked at, a value; its value now."""
    attributes = vars(owner)
    attributes[name] = attributes[name] or made  # in one step: no call is in it
    kept: T = attributes[name]
    return kept


def start_first(owner: object, thread: Thread) -> None:
    """Have ``thread`` be the owner's ``_thread`` and start it, unless it has one.

    Raises:
        RuntimeError: No thread is to be had; the owner has none.
    """
    if keep_first(owner, "_thread", thread) is thread:
        # Until it says that it has started we wait, with the owner's lock. A finalizer that is run there
        # before may want that lock: garbage is collected afterwards.
        collects = gc.isenabled()
        gc.disable()
        try:
            thread.start()
        except RuntimeError:
            vars(owner)["_thread"] = None
            raise
        finally:
            if collects:
                gc.enable()
