"""Logging: records of workers reach the parent's handlers, through the messages.

A worker imports ``logging`` only when a task does: then, and not before, its root logger
gets a handler that posts records to the pool. In the parent they are handled by the logger
of the same name, whenever somebody gathers; after the first, as they come.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# The type of the messages that carry records.
RECORD = "workpool.log"


def levels() -> dict[str, int]:
    """The levels that are set in this process, by the logger's name; "" is the root's."""
    import logging

    found = {"": logging.root.level}
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and logger.level:
            found[name] = logger.level
    return found


def install(post: Callable[[Any], object], levels: dict[str, int]) -> None:
    """Have records of this process posted, as soon as it has logging."""
    if "logging" in sys.modules:
        _attach(post, levels)
    else:
        sys.meta_path.insert(0, _Finder(post, levels))


class _Finder:
    """Sees ``import logging``, once, and attaches the handler after it."""

    def __init__(self, post: Callable[[Any], object], levels: dict[str, int]) -> None:
        self._post = post
        self._levels = levels

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_attach(module: Any) -> None:
            execute(module)
            _attach(self._post, self._levels, module)

        spec.loader.exec_module = execute_and_attach  # type: ignore[method-assign]
        return spec


def _attach(post: Callable[[Any], object], levels: dict[str, int], logging: Any = None) -> None:
    if logging is None:
        import logging

    class LaneHandler(logging.Handler):  # type: ignore[misc]
        """Posts records. It has no lock: a task that is interrupted here holds up nobody."""

        def createLock(self) -> None:  # noqa: N802
            self.lock = None

        def handle(self, record: Any) -> Any:
            wanted = self.filter(record)
            if wanted:
                self.emit(record)
            return wanted

        def emit(self, record: Any) -> None:
            try:
                try:
                    post(_portable(record))
                except (TypeError, AttributeError, ValueError, ImportError):  # an extra that does not pickle
                    post({name: _plain(value) for name, value in _portable(record).items()})
            except Exception:
                self.handleError(record)

    # What a forked worker has inherited are the parent's: each record would come twice.
    for handler in logging.root.handlers[:]:
        logging.root.removeHandler(handler)
    logging.root.addHandler(LaneHandler())
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)


def _portable(record: Any) -> dict[str, Any]:
    """A record as a dict that needs nothing of this process."""
    told = dict(vars(record))
    told["msg"], told["args"] = record.getMessage(), None
    if record.exc_info and not record.exc_text:
        import traceback

        told["exc_text"] = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
    told["exc_info"] = None
    told.pop("message", None)
    return told


def _plain(value: Any) -> Any:
    return value if value is None or type(value) in (str, int, float, bool) else repr(value)


def handle(contents: dict[str, Any]) -> None:
    """In the parent: give a record to the logger of its name."""
    import logging

    record = logging.makeLogRecord(contents)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
