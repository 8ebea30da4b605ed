"""Messages: who handles which, in a worker and in the parent.

A worker handles messages between tasks, while it is idle, at ``await`` and in
``client.poll_messages()``. In the parent whoever gathers (gather.py) runs the listeners,
one at a time and in order; another thread that gathers meanwhile only empties the lanes.
A listener that was added in an event loop is run by that loop while it runs.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import collections
import sys
from _thread import allocate_lock, get_ident
from types import CoroutineType

from workpool import logs
from workpool.errors import TaskInterrupt
from workpool.identity import stays_here

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn

    from workpool._core import Seat
    from workpool._interrupt import Interruptible
    from workpool.client import WorkerClient
    from workpool.gather import Gatherer
    from workpool.runner import Runner
    from workpool.supervisor import Worker

    Handler = Callable[[Any, Any], Any]

# Messages that came before there was a listener for their type are kept for it, so many
# at most: for a pool whose workers already post while listeners are added one by one.
_KEPT = 100

# Whom a message in the parent's inbox is for, where it is not from a worker's seat.
_TO_MAIN, _FROM_MAIN = -1, 0


def log() -> logging.Logger:
    """The logger of messages; a worker that never needs it does not import logging."""
    import logging

    return logging.getLogger("workpool.messages")


class _Table:
    """Handlers by message type, in the order in which they were added."""

    def __init__(self) -> None:
        self._handlers: dict[str, tuple[Handler, ...]] = {}
        self._unknown: set[str] = set()
        self.find = self._handlers.get

    def __bool__(self) -> bool:
        return bool(self._handlers)

    def add(self, type: str, handler: Handler) -> None:  # noqa: A002
        if not isinstance(type, str):
            raise TypeError(f"a message's type must be a string, not {type.__class__.__name__}")
        if not callable(handler):
            raise TypeError(f"a message's handler must be callable, not {handler!r}")
        present = self._handlers.get(type, ())
        if handler not in present:
            self._handlers[type] = (*present, handler)

    def remove(self, type: str, handler: Handler) -> None:  # noqa: A002
        left = tuple(known for known in self._handlers.get(type, ()) if known != handler)
        if left:
            self._handlers[type] = left
        else:
            self._handlers.pop(type, None)

    def warn_unknown(self, type: str, where: str) -> None:  # noqa: A002
        """Say once for each type that nobody handles it."""
        if type not in self._unknown:
            self._unknown.add(type)
            log().warning("%s: nobody handles messages of type %r", where, type)


class WorkerMessages:
    """The handlers of one worker."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._seat = runner.seat
        self._table = _Table()
        self.add = self._table.add
        self._deaf = False

    def poll(self, client: WorkerClient) -> int:
        """Handle the messages that are there now.

        Returns:
            How many there were.
        """
        seat, find = self._seat, self._table.find
        horizon, take = seat.horizon(), seat.take_message
        count = 0
        while True:
            try:
                message = take(horizon)
            except Exception:
                log().exception("worker %d: a message cannot be rebuilt", seat.index)
                continue
            if message is None:
                break
            count += 1
            _, kind, contents = message
            handlers = find(kind)
            if handlers is None:
                self._table.warn_unknown(kind, f"worker {seat.index}")
                continue
            for handler in handlers:
                try:
                    value = handler(contents, client)
                    if type(value) is CoroutineType:
                        self._runner.run_handler(self._guarded(value, kind))
                except BaseException:  # as of a task: the worker goes on
                    self._failed(kind)
        return count

    async def _guarded(self, coroutine: Any, kind: str) -> None:
        try:
            await coroutine
        except BaseException as error:
            self._failed(kind)
            if not isinstance(error, Exception):
                raise

    def _failed(self, kind: str) -> None:
        log().exception("worker %d: a handler of message %r raised", self._seat.index, kind)

    def dropped(self, kind: str) -> None:
        """Nobody in the parent listens, and the lane is full."""
        if not self._deaf:
            self._deaf = True
            log().warning(
                "worker %d: the pool has no message listener, so message %r and others are dropped",
                self._seat.index, kind,
            )  # fmt: skip


class MainClient:
    """The client of tasks that run in the parent.

    Attributes:
        worker_id: ``"main"``.
    """

    worker_id = "main"

    def __init__(self, messages: PoolMessages) -> None:
        from types import SimpleNamespace

        self.state = SimpleNamespace()
        self._messages = messages

    @property
    def cancelled(self) -> bool:
        """Whether the task that runs here is to end: it was cancelled, or its time is up."""
        call = self._call()
        return call is not None and call.asked != 0

    def check_cancelled(self) -> None:
        """Raise ``TaskInterrupt`` if the task that runs here is to end."""
        if self.cancelled:
            raise TaskInterrupt

    @property
    def cancel_flag_address(self) -> int:
        """As that of a worker's client; 0 outside of tasks."""
        call = self._call()
        return 0 if call is None else call.address

    def _call(self) -> Interruptible | None:
        from workpool.client import in_parent

        call: Any = in_parent.get()
        return call if call is not None and call.client is self else None

    def on_message(self, type: str, handler: Handler) -> None:  # noqa: A002
        """Have ``handler(contents, client)`` called for each message of ``type`` to the workers."""
        self._messages.add_to_main(type, handler)

    def post_message_to_pool(self, type: str, contents: Any = None) -> None:  # noqa: A002
        """Send a message to the pool's listeners, which get None for the worker."""
        self._messages.post_local(_FROM_MAIN, type, contents)

    def poll_messages(self) -> int:
        """Run the listeners for what has arrived; unless one is running, which goes on with it."""
        from workpool._interrupt import SHIELD

        with SHIELD:  # the listeners are none of the task's code
            return self._messages.dispatch()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        stays_here("a client", "ask for workpool.current_client() where it is needed")

    def __repr__(self) -> str:
        return "<MainClient>"


class PoolMessages:
    """The listeners of one pool, and its sending side."""

    def __init__(self, seat: Seat, gatherer: Gatherer, name: str) -> None:
        self._seat = seat
        self._gatherer = gatherer
        self._name = name
        self._table = _Table()
        self._main_table = _Table()
        self._kept: list[tuple[int, str, Any]] = []
        self._undelivered: dict[tuple[int, str], int] = {}  # by pid and type
        self._running = allocate_lock()  # held while listeners run
        self._runner: int | None = None  # the thread that holds it
        self._loops: list[_LoopCalls] = []
        self.main = MainClient(self)
        self._logging = False  # a worker has logged something

    # ---- listeners -------------------------------------------------------------------

    def add(self, type: str, listener: Handler) -> None:  # noqa: A002
        """Have ``listener(contents, worker)`` called for messages of ``type``."""
        self._table.add(type, self._in_loop(listener))
        early = [message for message in self._kept if message[1] == type]
        if early:
            self._kept = [message for message in self._kept if message[1] != type]
            self._seat.keep(early, first=True)
            self._gatherer.stir()
        self._listen()

    def add_to_main(self, type: str, handler: Handler) -> None:  # noqa: A002
        """The same for messages to the main client."""
        self._main_table.add(type, self._in_loop(handler))
        self._listen()

    def _in_loop(self, listener: Handler) -> Handler:
        """The listener itself, or what has it called by the event loop that runs here."""
        loop = running_loop()
        if loop is None or not callable(listener):
            return listener
        self._loops = [calls for calls in self._loops if calls or not calls.loop.is_closed()]
        for calls in self._loops:
            if calls.loop is loop:
                return _InLoop(listener, calls)
        self._loops.append(_LoopCalls(loop))
        return _InLoop(listener, self._loops[-1])

    def remove(self, type: str, listener: Handler) -> None:  # noqa: A002
        """Take add() back; nothing happens if there is no such listener."""
        self._table.remove(type, listener)
        self._listen()

    def _listen(self) -> None:
        listening = bool(self._table or self._main_table or self._logging)
        self._seat.listen(listening)
        self._gatherer.listen(listening)

    # ---- sending ---------------------------------------------------------------------

    def post(self, workers: Iterable[Worker], type: str, contents: Any) -> None:  # noqa: A002
        """Send a message to each of the workers."""
        body = self._seat.pack(type, contents)  # once, and before anything is sent
        for worker in workers:
            if not self._seat.post_packed(worker.id, worker._incarnation, body):
                self.undelivered(worker, [type])

    def post_local(self, whom: int, type: str, contents: Any) -> None:  # noqa: A002
        """Put a message that stays in this process into the inbox."""
        if not isinstance(type, str):
            raise TypeError(f"a message's type must be a string, not {type.__class__.__name__}")
        self._seat.keep([(whom, type, contents)])
        self._gatherer.stir()

    def post_to_main(self, type: str, contents: Any) -> None:  # noqa: A002
        """Send a message to the main client, if it has handlers."""
        if self._main_table:
            self.post_local(_TO_MAIN, type, contents)

    def undelivered(self, worker: Worker, types: list[str]) -> None:
        """Say that a worker is gone, and messages with it: of each type, and when they have doubled."""
        for kind in dict.fromkeys(types):
            before = self._undelivered.get((worker.pid, kind), 0)
            now = self._undelivered[worker.pid, kind] = before + types.count(kind)
            if now.bit_length() > before.bit_length():
                log().warning(
                    "%s: undelivered: %d of type %r to worker %d (pid %d), which is gone",
                    self._name, now, kind, worker.id, worker.pid,
                )  # fmt: skip

    # ---- running listeners -----------------------------------------------------------

    def dispatch(self) -> int:
        """Run the listeners for what has arrived; if another thread does, only empty the lanes.

        Returns:
            How many messages were handled here.
        """
        seat, running = self._seat, self._running
        count = 0
        while True:
            if running.acquire(False):
                try:
                    self._runner = get_ident()
                    count += self._drain()
                finally:
                    self._runner = None
                    running.release()
            else:
                seat.pull()  # nobody shall wait for room
                if running.locked():
                    return count  # who holds it looks again afterwards
            if not seat.waiting():
                return count

    def finish(self) -> None:
        """Return when everything that was read is handled."""
        while self._seat.waiting() and self._runner != get_ident():
            if self._running.acquire(True, 0.5):  # in slices, so that Ctrl-C is seen
                self._running.release()
                self.dispatch()
        for calls in self._loops:
            calls.finish()

    def _drain(self) -> int:
        seat = self._seat
        seat.pull()
        count = 0
        try:
            while seat.waiting():
                count += 1
                self._handle_next()
        except BaseException:  # Ctrl-C in a listener: the rest is for the next that gathers
            if seat.waiting():
                self._gatherer.stir()
            raise
        return count

    def _handle_next(self) -> None:
        try:
            message = self._seat.take_message()
        except Exception:
            log().exception("%s: a message cannot be rebuilt", self._name)
            return
        if message is None:
            return
        whom, kind, contents = message
        handlers = (self._main_table if whom == _TO_MAIN else self._table).find(kind)
        other: MainClient | Worker | None = self.main if whom == _TO_MAIN else None
        if whom > 0:
            other = self._gatherer.worker(whom)
        if kind == logs.RECORD:
            logs.handle(contents)
            if not self._logging:  # from now on as they come
                self._logging = True
                self._listen()
            return
        if handlers is None:
            if whom != _TO_MAIN:
                self._table.warn_unknown(kind, self._name)
                self._kept = [*self._kept[1 - _KEPT :], message]
            return
        for handler in handlers:
            if type(handler) is _InLoop:
                handler.calls.add((handler.listener, contents, other, kind, self._name))
            else:
                _call(handler, contents, other, kind, self._name)


def _call(listener: Handler, contents: Any, other: MainClient | Worker | None, kind: str, name: str) -> None:
    try:
        listener(contents, other)
    except KeyboardInterrupt:
        raise
    except BaseException:  # SystemExit too: it would end the pool's own thread, and nobody would gather
        log().exception("%s: a listener for message %r raised", name, kind)


class _InLoop:
    """A listener and the calls of the loop in which it was added; equal to the listener alone."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, listener: Handler, calls: _LoopCalls) -> None:
        self.listener = listener
        self.calls = calls

    def __call__(self, contents: Any, other: Any) -> None:
        self.listener(contents, other)

    def __eq__(self, other: object) -> bool:
        return bool(self.listener == (other.listener if isinstance(other, _InLoop) else other))


class _LoopCalls:
    """The calls that one event loop still has to make, in order."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self._calls: collections.deque[tuple[Any, Any, Any, str, str]] = collections.deque()
        self._calling = allocate_lock()

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, call: tuple[Any, Any, Any, str, str]) -> None:
        """Have the loop make a call; make it here if this is the loop's thread, or the loop stands."""
        self._calls.append(call)
        if running_loop() is not self.loop and self.loop.is_running():
            try:
                self.loop.call_soon_threadsafe(self._make)
                return
            except RuntimeError:
                pass  # it was closed this instant
        self._make()

    def finish(self) -> None:
        """Make the calls that are left, unless another thread's loop will."""
        if running_loop() is self.loop or not self.loop.is_running():
            self._make()

    def _make(self) -> None:
        while self._calls:
            if not self._calling.acquire(False):
                return  # under one of them, which waits, or another thread: it looks again
            try:
                while self._calls:
                    _call(*self._calls.popleft())
            finally:
                self._calling.release()


def running_loop() -> Any:
    """The event loop that runs in this thread; None, and no import, when there is none."""
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()
