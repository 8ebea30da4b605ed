"""Placement: where a task is first put, by affinity and cost, and what is learned from it.

Affinity says who may take a task; cost says where it is put first and in what order. A
task without either goes on the parent's deque and never comes here. docs/scheduling.md
has the whole of it.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import functools
import threading
import zlib
from typing import TYPE_CHECKING, Any

from workpool._core import (
    CALL_KEYWORDS,
    CALL_OBJECT,
    CALL_TAGGED,
    OUTCOME_CANCELLED,
    OUTCOME_ERROR,
    OUTCOME_OK,
)
from workpool.events import TASK_ADDED, TASK_COMPLETE, Events
from workpool.options import ANYONE, FORCE, LIGHT, NONE, PLAIN, STRONG, Options, seconds
from workpool.priority import Ageing
from workpool.quarantine import Quarantine
from workpool.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workpool._core import Block
    from workpool.gather import Gatherer
    from workpool.supervisor import Supervisor, Worker

# Of a new measurement; the rest is what was known. A third follows a change within some
# six runs, and evens out what one busy moment of the machine does.
_LEARNED_SHARE = 0.3

# Keys that are remembered; beyond, the oldest are forgotten.
_MOST_KEYS = 1 << 17


class Placement:
    """One pool's loads, learned costs and events of tasks.

    Attributes:
        active: Whether tasks without options must come here too.
    """

    def __init__(
        self,
        gatherer: Gatherer,
        supervisor: Supervisor,
        events: Events,
        inherent_cost: Callable[[Task[Any]], float] | None,
        worker_cost: Callable[[Task[Any], Worker], float] | None,
    ) -> None:
        self._gatherer = gatherer
        self._supervisor = supervisor
        self._events = events
        self._inherent_cost = inherent_cost
        self._worker_cost = worker_cost
        self._learned: dict[Any, float] = {}
        self._loads = supervisor.loads
        self._loaded = [0] * len(supervisor.loads)  # tasks in each
        self._lock = threading.RLock()  # guards both; RLock as in task.py
        self.ageing = Ageing(gatherer.seat, supervisor.name)
        self.quarantine = Quarantine(gatherer.seat, gatherer.pending, gatherer.fail)
        supervisor.on_fallen = self.quarantine.count
        self.active = False
        self.listen()

    # ---- what is known of costs ------------------------------------------------------

    def learned_costs(self) -> dict[Any, float]:
        """Seconds by key."""
        with self._lock:
            return dict(self._learned)

    def load_costs(self, costs: Mapping[Any, float]) -> None:
        """Take over what another pool, or run, has learned."""
        checked = {key: seconds(f"the cost of {key!r}", cost) for key, cost in costs.items()}
        with self._lock:
            self._learned.update(checked)

    def known_cost(self, key: Any) -> float | None:
        """What a task with this key is known to take."""
        try:
            return self._learned.get(key)
        except TypeError:  # it cannot be hashed: such keys only name tasks
            return None

    def _learn(self, key: Any, cost: float) -> None:
        with self._lock:
            try:
                before = self._learned.get(key)
            except TypeError:
                return
            self._learned[key] = cost if before is None else before + _LEARNED_SHARE * (cost - before)
            if len(self._learned) > _MOST_KEYS:
                del self._learned[next(iter(self._learned))]

    def estimate(self, task: Task[Any], options: Options) -> float | None:
        """Seconds the task is thought to take anywhere; None if nobody knows."""
        if options.cost is not None:
            return options.cost
        if options.learns:
            known = self.known_cost(options.key)
            if known is not None:
                return known
        if self._inherent_cost is not None:
            return seconds("inherent_cost(task)", self._inherent_cost(task))
        return None

    def knows_items(self, options: Options | None) -> bool:
        """Whether a map's items are known one by one: by a key each, or by ``inherent_cost``."""
        return self._inherent_cost is not None or (options is not None and callable(options.key))

    def estimate_items(
        self, items: list[Any], options: Options, star: bool
    ) -> tuple[list[Any], list[float | None]]:
        """The key and the estimated seconds of each item of a map."""
        keys: list[Any] = [None] * len(items)
        if callable(options.key):
            key_of = options.key
            keys = [key_of(*item) for item in items] if star else [key_of(item) for item in items]
        if options.cost is not None:
            return keys, [options.cost] * len(items)
        costs: list[float | None] = []
        for item, key in zip(items, keys, strict=True):
            known = None if key is None else self.known_cost(key)
            if known is None and self._inherent_cost is not None:
                task: Task[Any] = Task(self._gatherer.seat)
                task.argument, task.key = item, key
                known = seconds("inherent_cost(task)", self._inherent_cost(task))
            costs.append(known)
        return keys, costs

    # ---- tasks -----------------------------------------------------------------------

    def start(
        self, task: Task[Any], block: Block | None, call: int, payload: Any, options: Options | None
    ) -> None:
        """Place a task and offer it to the workers.

        Raises:
            ValueError: It is bound to a worker that was retired.
        """
        if options is None:
            options = PLAIN
        key, meta = options.key, options.meta
        if task.argument is None and (self._inherent_cost is not None or self._worker_cost is not None):
            task.argument = _argument_of(call, payload)
        if key is not None or meta is not None:
            task.key, task.meta = key, meta
            call |= CALL_TAGGED
            payload = (key, meta, payload)
        if options.learns and self.quarantine.has(key):
            self._gatherer.settle(task, OUTCOME_ERROR, self.quarantine.error(task))
        pending = task.outcome_code == 0
        if pending and not self._place(task, options):
            pending = False
        self._tell(task)
        if pending:
            if options.timeout is not None:
                task.limit = options.timeout
            self._gatherer.start(task, block, call, payload, options.retries + 1)
            if options.timeout is not None:
                self._gatherer.on_limit(options.timeout)
            if options.priority and task.outcome_code == 0:
                self.ageing.watch(task, options.priority)
        if self._events.complete:
            self._gatherer.attend_in_thread()

    def _tell(self, task: Task[Any]) -> None:
        events = self._events
        if events.added:
            events.emit(TASK_ADDED, task)
        if events.complete and not task._watch(self._complete):
            self._complete(task)

    def start_here(
        self, task: Task[Any], fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
    ) -> None:
        """Have a task run in the parent; without ``fn`` the entrypoint."""
        task.key, task.meta = options.key, options.meta
        if options.timeout is not None:
            task.limit = options.timeout
        if options.learns:
            self._follow(task, options.key, ANYONE, None, False)
        self._tell(task)
        local = self._gatherer.local
        assert local is not None
        local.add(task, fn, args, kwargs)
        if self._events.complete:
            self._gatherer.attend_in_thread()

    def _place(self, task: Task[Any], options: Options) -> bool:
        """Say where the task may run; False: an estimator raised, and that is its outcome."""
        seat, strength, priority = options.seat, options.strength, options.priority
        cost: float | None = None
        try:
            cost = self.estimate(task, options)
            if seat == ANYONE and not priority and (cost is not None or self._worker_cost is not None):
                seat, cost = self._choose(task, cost, options.key)
                strength = LIGHT
            elif seat != ANYONE and self._worker_cost is not None:
                worker = self._supervisor.worker(seat)
                if worker is not None:
                    cost = (cost or 0.0) + self._extra(task, worker)
        except Exception as error:
            self._gatherer.settle(task, OUTCOME_ERROR, error)
            return False
        if strength == FORCE:
            self._supervisor.bind(seat)
        elif strength == STRONG:
            self._supervisor.need(seat)
        if strength != NONE or priority:
            task.bind(seat, strength, priority, cost or 0.0)
        if (cost and seat != ANYONE) or options.learns or strength == FORCE:
            self._follow(task, options.key if options.learns else None, seat, cost, strength == FORCE)
        return True

    def _choose(self, task: Task[Any], cost: float | None, key: Any) -> tuple[int, float]:
        """The seat with the least load once the task is there, and what it costs there."""
        gatherer, supervisor = self._gatherer, self._supervisor
        if gatherer.seat.has_completions():
            gatherer.collect()  # what is done is no load
        seats = supervisor.seats or (1,)
        base = cost or 0.0
        costs = [base] * len(seats)
        if self._worker_cost is not None:
            for i, seat in enumerate(seats):
                worker = supervisor.worker(seat)
                if worker is not None:
                    costs[i] += self._extra(task, worker)
        loads = self._loads
        after = [loads[seat] + cost for seat, cost in zip(seats, costs, strict=True)]
        least = min(after)
        best = after.index(least)
        if key is not None and after.count(least) > 1:
            equals = [i for i, load in enumerate(after) if load == least]
            best = equals[stable_hash(key) % len(equals)]
        return seats[best], costs[best]

    def _extra(self, task: Task[Any], worker: Worker) -> float:
        assert self._worker_cost is not None
        return seconds("worker_cost(task, worker)", self._worker_cost(task, worker))

    # ---- settling --------------------------------------------------------------------

    def _follow(self, task: Task[Any], key: Any, seat: int, cost: float | None, bound: bool) -> None:
        if cost and seat != ANYONE:
            with self._lock:
                self._loads[seat] += cost
                self._loaded[seat] += 1
        else:
            cost = None
        task.settling = functools.partial(self._settled, key, seat, cost, bound)
        task.watched = True

    def _settled(self, key: Any, seat: int, cost: float | None, bound: bool, task: Task[Any]) -> None:
        if cost is not None:
            with self._lock:
                self._loaded[seat] -= 1
                self._loads[seat] = max(0.0, self._loads[seat] - cost) if self._loaded[seat] else 0.0
        if bound:
            self._supervisor.unbind(seat)
        if key is not None and task.outcome_code == OUTCOME_OK:
            took = task.task_cost
            if took is not None:
                self._learn(key, took)

    # ---- events ----------------------------------------------------------------------

    def listen(self) -> bool:
        """The listeners have changed; returns ``active``."""
        events = self._events
        self.active = bool(events.added or events.complete or self._inherent_cost or self._worker_cost)
        return self.active

    def follow_all(self) -> None:
        """Tell of the end of tasks that were added before anybody listened to that."""
        for task in self._gatherer.pending():
            task._watch(self._complete)
        self._gatherer.attend_in_thread()

    def _complete(self, task: Task[Any]) -> None:
        error: BaseException | None = None
        if task.outcome_code == OUTCOME_CANCELLED:
            from concurrent.futures import CancelledError

            error = CancelledError()
        else:
            error = task.exception(0)
        self._events.emit(TASK_COMPLETE, error, task.result(0) if error is None else None, task)


def _argument_of(call: int, payload: Any) -> Any:
    """What an estimator is shown of a task that is not the entrypoint's: its arguments, or a chunk."""
    if call == CALL_KEYWORDS:
        return payload[0]
    return payload[1] if call == CALL_OBJECT else payload


def stable_hash(key: Any) -> int:
    """A hash that is the same in every process and run; 0 for what has none.

    For keys of text, bytes, numbers, None and tuples of them; equal numbers of different
    types have the same.
    """
    if isinstance(key, tuple):
        return zlib.crc32(b",".join(b"%d" % stable_hash(part) for part in key))
    if isinstance(key, str):
        return zlib.crc32(key.encode("utf-8", "surrogatepass"))
    if isinstance(key, (bytes, bytearray)):
        return zlib.crc32(key)
    if isinstance(key, (int, float, complex)):
        return hash(key) & 0xFFFFFFFF  # of numbers it is not randomised
    return 0
