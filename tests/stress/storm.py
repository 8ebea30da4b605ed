"""A storm: SIGKILL and SIGSTOP at random instants on a real pool under mixed load.

    python tests/stress/storm.py --seconds 30 --seed 1 --kills 2000 --tasks 1000000

It goes on until there were so many kills and so many tasks, or the time is up. Then the
law is checked: each future has one outcome, each result is right, no task was entered
twice without retries, none was lost, nothing hangs, nothing is left. The seed decides
what is offered and who is hit; the instants are the machine's.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import argparse
import array
import asyncio
import collections
import concurrent.futures
import contextlib
import faulthandler
import gc
import itertools
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as a script of its own
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import numpy as np
from helpers import children_of, is_alive, shared_memory_names, wait_until
from stress import storm_tasks as tasks

from workpool import ArenaFull, RemoteError, WorkerDied, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workpool import Task, Worker

# Numbers of tasks there is room for; the ledger is a sparse file.
MOST_TASKS = 1 << 25

# Nothing was settled for so long: a hang. Every task here is short.
PATIENCE_SECONDS = float(os.environ.get("STORM_PATIENCE_SECONDS", "60"))

MEMORY = 64 << 20
PARCEL = 1 << 20

# A pool breaks when so many workers in a row die before they have started: that is its
# promise for start hooks that kill, so the killer leaves every third one alone.
STARTING_KILLS_IN_A_ROW = 2


class Order(NamedTuple):
    """A task to offer, and what must come of it."""

    kind: str
    numbers: int  # its own and those of its children
    fn: Callable[..., Any]
    args: tuple[Any, ...]  # after its number
    right: Callable[[int, Any], bool]  # of its number and its result
    retries: int = 0
    options: dict[str, Any] | None = None


def masked(number: int, result: Any) -> bool:
    return bool(result == number ^ tasks.MASK)


def never(number: int, result: Any) -> bool:
    return False


def tree_right(depth: int) -> Callable[[int, Any], bool]:
    size = tasks.tree_size(depth)
    return lambda number, total: total == size * number + size * (size - 1) // 2


def order_of(rng: random.Random, kind: str, workers: int) -> Order:
    """A random task of a kind."""
    if kind == "small":
        return Order(kind, 1, tasks.small, (), masked)
    if kind == "pair":
        other = rng.getrandbits(60)
        return Order(kind, 1, tasks.pair, (other,), lambda number, result: result == number ^ other)
    if kind == "bytes":
        size = rng.choice((0, 1, 100, 144, 145, 200, 4096, 65536, rng.randrange(65536)))
        data = rng.randbytes(size)
        back = data[::-1]
        answer = zlib.crc32(back), back
        return Order(kind, 1, tasks.payload, (data, zlib.crc32(data)), lambda _, result: result == answer)
    if kind == "array":
        values = np.arange(rng.choice((0, 1, 10, 1000, 8000)), dtype=np.int64)
        return Order(
            kind, 1, tasks.array, (values,),
            lambda number, result: bool(np.array_equal(result, values * 3 + number)),
        )  # fmt: skip
    if kind == "busy":
        return Order(kind, 1, tasks.busy, (rng.random() * 0.002,), masked)
    if kind == "sleepy":
        return Order(kind, 1, tasks.sleepy, (rng.random() * 0.005,), masked)
    if kind == "later":
        return Order(kind, 1, tasks.later, (rng.random() * 0.005,), masked)
    if kind in ("tree", "tree later"):
        depth = rng.randrange(5)
        fn: Any = tasks.tree if kind == "tree" else tasks.tree_later
        return Order(kind, tasks.tree_size(depth), fn, (depth,), tree_right(depth))
    if kind == "mapped":
        children = rng.randrange(60)
        return Order(
            kind, 1 + children, tasks.mapped, (children,),
            lambda number, result: result == tasks.mapped_sum(number, children),
        )  # fmt: skip
    if kind == "scatter":
        children = rng.choice((1, 3, 10, 40, 1100))
        return Order(kind, 1 + children, tasks.scatter, (children,), lambda _, result: result == children)
    if kind == "retried":
        retries = rng.randrange(1, 4)
        return Order(kind, 1, tasks.busy, (rng.random() * 0.001,), masked, retries)
    if kind == "retried tree":
        retries, depth = rng.randrange(1, 4), rng.randrange(3)
        size = tasks.tree_size(depth)
        of_child = tree_right(depth)
        return Order(
            kind, 1 + (retries + 3) * size, tasks.retried_tree, (depth,),
            lambda number, total: of_child(number + 1, total), retries,
        )  # fmt: skip
    if kind == "placed":
        strength = rng.choice(("light", "strong", "force"))
        there = {"worker_affinity": rng.randrange(1, workers + 1), "affinity_strength": strength}
        return Order(kind, 1, tasks.small, (), masked, 0, there)
    if kind == "urgent":
        return Order(kind, 1, tasks.small, (), masked, 0, {"priority": rng.randrange(-8, 8)})
    if kind == "own error":
        return Order(kind, 1, tasks.own_error, (), never)
    if kind == "no result":
        return Order(kind, 1, tasks.no_result, (), never)
    if kind == "out of memory":
        return Order(kind, 1, tasks.out_of_memory, (), never)
    if kind == "exit":
        return Order(kind, 1, tasks.exit_at_once, (rng.choice((0, 1, 137)),), never)
    if kind == "poison":
        return Order(kind, 1, tasks.taste, (tasks.Poison(),), never)
    if kind == "die below":
        return Order(kind, 2, tasks.die_below, (), never)
    deaths = {"segfault": tasks.segfault, "kill": tasks.kill_self, "die of memory": tasks.die_of_memory}
    return Order(kind, 1, deaths[kind], (), never)


DEATHS = ("exit", "segfault", "kill", "die of memory", "poison", "die below")

# What a round is made of: kinds and their weights, and the most tasks of a round.
MIXES: tuple[tuple[float, int, dict[str, float]], ...] = (
    (10, 4000, {"small": 1}),
    (6, 2000, {"small": 60, "pair": 30, "urgent": 2, "placed": 2, "own error": 1, "retried": 1}),
    (3, 400, {"bytes": 1}),
    (3, 300, {"small": 20, "bytes": 5, "busy": 2, "sleepy": 1, "retried": 2}),
    (3, 60, {"tree": 4, "mapped": 2, "small": 10, "scatter": 1, "retried tree": 1}),
    (2, 60, {"later": 6, "tree later": 2, "small": 6}),
    (1, 30, {"array": 4, "small": 1}),
    (1, 40, {"scatter": 1, "small": 4}),
    (1, 20, {"out of memory": 1, "small": 10, "own error": 2, "no result": 2}),
)  # fmt: skip

OK, OWN_ERROR, REMOTE_ERROR, DIED, CANCELLED = "ok", "own error", "RemoteError", "WorkerDied", "cancelled"
OUTCOMES = (OK, OWN_ERROR, REMOTE_ERROR, DIED, CANCELLED)


class Offered(NamedTuple):
    """A task under way."""

    task: Task[Any]
    number: int
    order: Order


class Storm:
    """One pool, those who offer work to it, and the one who kills its workers."""

    def __init__(
        self, *, seed: int, seconds: float, kills: int, most_tasks: int, tasks_per_kill: float, workers: int,
        threads: int, name: str,
    ) -> None:  # fmt: skip
        self.seed, self.name = seed, name
        self.most_kills, self.most_tasks, self._tasks_per_kill = kills, most_tasks, tasks_per_kill
        self.end = time.monotonic() + seconds
        self.workers = workers
        self.faults: list[str] = []
        self.kills = self.stops = self.own_deaths = self.items = 0
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.settled = 0  # by all threads: what the watchdog looks at
        self._threads = threads
        self._kinds: list[str] = []
        # By task offered: number, numbers, kind, outcome, retries.
        self._records = [array.array(code) for code in "qlBBB"]
        self._cancelled = array.array("q")  # numbers of tasks whose cancel() said True
        self._numbers = itertools.count()
        self._next_number = 0
        self._lock = threading.Lock()
        self._lost: dict[int, int] = {}  # exit codes by pid
        self._direct: collections.Counter[int] = collections.Counter()  # plain tasks that fell, by pid
        self._exempt: set[int] = set()  # pids that may have had more than one task in hand
        self._folder = tempfile.TemporaryDirectory(prefix="workpool-storm-")
        self.ledger_path = Path(self._folder.name, "ledger")
        with self.ledger_path.open("wb") as file:
            file.truncate(MOST_TASKS * tasks.RECORD)
        self.pool: WorkerPool[Any, Any] = WorkerPool(
            max_workers=workers, tasks_per_worker=0, memory=MEMORY, name=name,
            initializer=tasks.begin, initargs=(str(self.ledger_path),),
        )  # fmt: skip
        self.pool.on("worker-lost", self._note_lost)

    def _note_lost(self, worker: Worker, exitcode: int) -> None:
        self._lost[worker.pid] = exitcode

    def fault(self, text: str) -> None:
        """The law is broken."""
        if len(self.faults) < 50:
            self.faults.append(f"{self.name}: {text}")

    @property
    def is_over(self) -> bool:
        if self.faults or time.monotonic() > self.end:
            return True
        return self.kills >= self.most_kills and self.offered >= self.most_tasks

    @property
    def offered(self) -> int:
        return len(self._records[0])

    # ---- who offers work -------------------------------------------------------------

    def _take_numbers(self, count: int) -> int:
        with self._lock:
            number = self._next_number
            self._next_number += count
        if number + count > MOST_TASKS:
            raise RuntimeError("the ledger is full")
        return number

    def _offer(self, order: Order) -> Offered:
        number = self._take_numbers(order.numbers)
        if order.retries or order.options:
            options = {**(order.options or {}), "retries": order.retries}
            task = self.pool.options(**options).submit(order.fn, number, *order.args)
        else:
            task = self.pool.submit(order.fn, number, *order.args)
        return Offered(task, number, order)

    def _record(self, number: int, numbers: int, kind: str, outcome: str, retries: int) -> None:
        with self._lock:
            if kind not in self._kinds:
                self._kinds.append(kind)
            values = number, numbers, self._kinds.index(kind), OUTCOMES.index(outcome), retries
            for column, value in zip(self._records, values, strict=True):
                column.append(value)
            self.outcomes[outcome] += 1
        self.settled += 1

    def _judge(self, offered: Offered, asked_to_cancel: bool) -> None:
        """Take the outcome, and see whether it may be."""
        task, number, order = offered
        kind = order.kind
        outcome = OK
        try:
            result = task.result(4 * PATIENCE_SECONDS)
            if not order.right(number, result):
                self.fault(f"task {number} ({kind}) gave {str(result)[:200]}")
        except WorkerDied as error:
            outcome = DIED
            self._judge_death(offered, error)
        except concurrent.futures.CancelledError:
            outcome = CANCELLED
            if not asked_to_cancel:
                self.fault(f"task {number} ({kind}) is cancelled, and nobody asked")
        except tasks.OwnError as error:
            outcome = OWN_ERROR
            if kind != "own error" or error.args != (number,):
                self.fault(f"task {number} ({kind}) raised {error!r}")
        except RemoteError as error:
            outcome = REMOTE_ERROR
            if kind != "no result":
                self.fault(f"task {number} ({kind}) raised {error!r}")
        except MemoryError as error:
            outcome = OWN_ERROR
            if kind != "out of memory":
                self.fault(f"task {number} ({kind}) raised {error!r}")
        except BaseException as error:
            self.fault(f"task {number} ({kind}) raised {''.join(traceback.format_exception(error))}")
        if not task.done():
            self.fault(f"task {number} ({kind}) has an outcome, and is not done")
        self._record(number, order.numbers, kind, outcome, order.retries)

    def _judge_death(self, offered: Offered, error: WorkerDied) -> None:
        kind, pid = offered.order.kind, error.pid
        if error.__cause__ is not None:  # of a child, in another process: raised there
            return
        # Those who wait for the outcome may be quicker than the listener.
        if pid in self._lost and self._lost[pid] != error.exitcode:
            self.fault(f"task {offered.number} ({kind}): {error}, but its exit code was {self._lost[pid]}")
        with self._lock:
            if kind in ("later", "tree later", "placed", "poison"):
                self._exempt.add(pid)
            elif error.doing == "ran":
                self._direct[pid] += 1

    def _offer_all(self, seed: str) -> None:
        """One thread's work: round after round."""
        rng = random.Random(seed)
        weights = [mix[0] for mix in MIXES]
        try:
            while not self.is_over:
                _, most, kinds = rng.choices(MIXES, weights)[0]
                count = int(most ** rng.random())
                way = rng.choices(("burst", "map", "one by one", "loop"), (10, 2, 2, 1))[0]
                if way == "map":
                    self._round_of_map(rng)
                    continue
                names = rng.choices(list(kinds), list(kinds.values()), k=count)
                if rng.random() < 0.15:
                    names.insert(rng.randrange(count + 1), rng.choice(DEATHS))
                    self.own_deaths += 1
                orders = (order_of(rng, kind, self.workers) for kind in names)
                if way == "burst":
                    self._round_of_burst(rng, orders)
                elif way == "loop":
                    asyncio.run(self._round_in_loop(list(itertools.islice(orders, 200))))
                else:
                    for order in itertools.islice(orders, 50):
                        self._judge(self._offer(order), False)
        except BaseException as error:
            self.fault("".join(traceback.format_exception(error)))

    def _round_of_burst(self, rng: random.Random, orders: Iterator[Order]) -> None:
        every = [self._offer(order) for order in orders]
        asked: set[int] = set()
        if rng.random() < 0.2:
            for offered in rng.sample(every, max(1, len(every) // 10)):
                asked.add(offered.number)
                if offered.task.cancel():
                    self._cancelled.append(offered.number)
        called: list[int] = []
        way = rng.choice(("in order", "reversed", "as completed", "wait", "callbacks"))
        if way == "callbacks":
            for offered in every:
                offered.task.add_done_callback(lambda _, number=offered.number: called.append(number))
        elif way == "reversed":
            every.reverse()
        elif way == "as completed" and len(every) < 500:
            by_task = {offered.task: offered for offered in every}
            completed = concurrent.futures.as_completed(by_task, 4 * PATIENCE_SECONDS)
            every = [by_task[task] for task in completed]
        elif way == "wait" and len(every) < 500:
            done, pending = concurrent.futures.wait([offered.task for offered in every], 4 * PATIENCE_SECONDS)
            if pending or len(done) != len(every):
                self.fault(f"wait: {len(pending)} of {len(every)} are not done")
        for offered in every:
            self._judge(offered, offered.number in asked)
        if way == "callbacks":
            wait_until(lambda: len(called) >= len(every), PATIENCE_SECONDS)
            if sorted(called) != sorted(offered.number for offered in every):
                self.fault(f"{len(called)} callbacks for {len(every)} tasks")

    async def _round_in_loop(self, orders: list[Order]) -> None:
        every = [self._offer(order) for order in orders]

        async def outcome(task: Task[Any]) -> None:
            with contextlib.suppress(Exception, concurrent.futures.CancelledError):
                await task

        gathered = asyncio.gather(*[outcome(offered.task) for offered in every])
        await asyncio.wait_for(gathered, 4 * PATIENCE_SECONDS)
        for offered in every:
            self._judge(offered, False)

    def _round_of_map(self, rng: random.Random) -> None:
        count = rng.choice((1, 10, 100, 1000, 5000))
        retries = rng.choice((0, 0, 3))
        number = self._take_numbers(count)
        source: Any = self.pool.options(retries=retries) if retries else self.pool
        ordered = rng.random() < 0.7
        mapping = source.map(
            tasks.small, range(number, number + count), ordered=ordered,
            chunksize=rng.choice((None, None, 1, 7)), buffersize=rng.choice((None, None, None, 20)),
            timeout=4 * PATIENCE_SECONDS,
        )  # fmt: skip
        results: list[int] = []
        outcome = OK
        try:
            for result in mapping:
                results.append(result)
                self.settled += 1
        except WorkerDied:
            outcome = DIED
        except BaseException as error:
            self.fault(f"map of {count}: {''.join(traceback.format_exception(error))}")
        if outcome == OK and len(results) != count:
            self.fault(f"map of {count} gave {len(results)} results")
        found = [result ^ tasks.MASK for result in results]
        wanted = list(range(number, number + len(found)))
        if ordered and found != wanted:
            self.fault(f"map of {count}: wrong results")
        mine = range(number, number + count)
        if not ordered and (len(set(found)) != len(found) or any(one not in mine for one in found)):
            self.fault(f"map of {count}, unordered: wrong results")
        self.items += count
        self._record(number, count, "map", outcome, retries)

    # ---- who kills -------------------------------------------------------------------

    def _kill_all(self, seed: str) -> None:
        rng = random.Random(seed)
        starting = 0
        try:
            while not self.is_over:
                # As fast as the load allows: so that both come to their end together.
                if self.kills >= self.most_kills or self.offered < (self.kills - 20) * self._tasks_per_kill:
                    time.sleep(0.002)
                    continue
                time.sleep(rng.expovariate(1 / 0.02))
                workers = self.pool.workers
                if not workers:
                    continue
                victim = rng.choice(workers)
                if victim.state == "starting":
                    if starting >= STARTING_KILLS_IN_A_ROW or rng.random() < 0.8:
                        continue
                    starting += 1
                else:
                    starting = 0
                self._hit(rng, victim)
        except BaseException as error:
            self.fault("".join(traceback.format_exception(error)))

    def _hit(self, rng: random.Random, victim: Worker) -> None:
        try:
            pidfd = os.pidfd_open(victim.pid)
        except OSError:
            return  # gone
        try:
            if victim.exitcode is not None:
                return  # and its number may be another's
            begun = time.perf_counter()
            delay = rng.random() ** 3 * 0.0005
            while time.perf_counter() - begun < delay:
                pass
            way = rng.random()
            if way < 0.25:
                signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
                self.stops += 1
                time.sleep(rng.random() ** 3 * 0.02)
            if 0.05 < way < 0.25:
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)
            else:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                self.kills += 1
            # Several at once, now and then.
            if way > 0.97:
                for other in self.pool.workers:
                    if other.pid != victim.pid and other.state in ("idle", "running"):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(other.pid, signal.SIGKILL)
                            self.kills += 1
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)

    # ---- the whole -------------------------------------------------------------------

    def measure(self) -> dict[str, int]:
        """What a pool at rest has free: slots, and room in the arena."""
        pool = self.pool
        pool.wait_ready(PATIENCE_SECONDS)
        parcels: list[Any] = []
        try:
            while True:
                parcels.append(pool.empty(PARCEL, np.uint8))
                parcels[-1][:] = len(parcels) % 256
        except ArenaFull:
            pass
        if any((parcel != number % 256).any() for number, parcel in enumerate(parcels, 1)):
            self.fault("a parcel came damaged")
        return {"slots": self._free_slots(), "parcels": len(parcels)}

    def _free_slots(self) -> int:
        # A finisher marks its slot DONE, then the home sets it free: a moment.
        most = 0
        for _ in range(200):
            most = max(most, self.pool.statistics().slots_free)
            time.sleep(0.001)
        return most

    def run(self) -> None:
        """Storm, then look at what is left."""
        pool = self.pool
        begun = time.monotonic()
        before = self.measure()
        threads = [
            threading.Thread(target=self._offer_all, args=(f"{self.seed}/{self.name}/{number}",), daemon=True)
            for number in range(self._threads)
        ]
        threads.append(
            threading.Thread(target=self._kill_all, args=(f"{self.seed}/{self.name}",), daemon=True)
        )
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.seconds = time.monotonic() - begun
        try:
            pool.when_idle().result(PATIENCE_SECONDS)
            after = self.measure()
            self._compare(before, after)
        except BaseException as error:
            self.fault("".join(traceback.format_exception(error)))
        pids = [worker.pid for worker in pool.workers]
        pool.shutdown()
        for pid in pids:
            if is_alive(pid):
                self.fault(f"worker {pid} outlives the pool")
        self._audit()
        self._folder.cleanup()

    def _compare(self, before: dict[str, int], after: dict[str, int]) -> None:
        if after["slots"] < before["slots"]:
            self.fault(f"slots in use have grown: {before['slots']} were free, now {after['slots']} are")
        if after["parcels"] < before["parcels"] - 2 * self.workers:  # a span or two of each seat
            self.fault(f"the arena has shrunk: from {before['parcels']} parcels to {after['parcels']}")

    def _audit(self) -> None:
        """Compare the ledger with the outcomes."""
        ledger = np.fromfile(self.ledger_path, dtype=np.uint8, count=self._next_number * tasks.RECORD)
        entered, left = ledger[0::2].astype(np.int64), ledger[1::2].astype(np.int64)
        number, numbers, kind, outcome, retries = (
            np.array(column, dtype=np.int64) for column in self._records
        )
        names = np.array(self._kinds)[kind]
        outcomes = np.array(OUTCOMES)[outcome]
        if len(number) != len(set(number.tolist())):
            self.fault("a task has two outcomes")
        if int(numbers.sum()) != self._next_number:
            self.fault(f"{self._next_number} numbers were given, {int(numbers.sum())} have an outcome")

        def check(mask: Any, what: str) -> None:
            for index in np.flatnonzero(mask)[:5]:
                n = int(number[index])
                self.fault(
                    f"{what}: task {n} ({names[index]}), outcome {outcomes[index]}, "
                    f"entered {entered[n]}, left {left[n]}"
                )

        own, plain = entered[number], (retries == 0) & (names != "map")
        ok = outcomes == OK
        check(plain & (own > 1), "entered twice")
        check((names != "map") & (own > retries + 1), "entered more often than its retries allow")
        check(plain & ok & (own != 1), "ok, and not entered once")
        check((names != "map") & ok & (left[number] < 1), "ok, and never left")
        check(np.isin(outcomes, (OWN_ERROR, REMOTE_ERROR)) & (own != 1), "raised, and not entered once")
        check(
            np.isin(number, np.array(self._cancelled, dtype=np.int64)) & (own != 0), "cancelled, and entered"
        )
        check((outcomes == CANCELLED) & (own > 1), "cancelled, and entered twice")
        check((names == "poison") & (own != 0), "unpickled, though that kills")
        lost = 0
        for index in np.flatnonzero((numbers > 1) | (names == "map")):
            begin, name = int(number[index]), names[index]
            own_number = 0 if name == "map" else 1
            children = entered[begin + own_number : begin + int(numbers[index])]
            most = int(retries[index]) + 1 if name == "map" else 1
            if children.size and children.max() > most:
                self.fault(f"a child or item of task {begin} ({name}) was entered {children.max()} times")
            if not ok[index]:
                continue
            if name == "scatter":  # each may have fallen with whoever ran it
                lost += int((children == 0).sum())
            elif name not in ("retried tree", "die below") and (children == 0).any():
                self.fault(f"a child or item of task {begin} ({name}) was not entered")
        deaths = len(self._lost)
        if lost > deaths:
            self.fault(f"{lost} children that nobody waited for are lost, with {deaths} deaths")
        for pid, count in self._direct.items():
            if count > 1 and pid not in self._exempt:
                self.fault(f"the death of {pid} cost {count} tasks")
        self.entered, self.lost_children = int((entered > 0).sum()), lost

    def report(self) -> str:
        outcomes = ", ".join(f"{self.outcomes[name]} {name}" for name in OUTCOMES)
        rate = self.offered / self.seconds
        return (
            f"{self.name}: seed {self.seed}, {self.workers} workers: {self.kills} kills, {self.stops} stops, "
            f"{len(self._lost)} deaths; {self.offered:,} tasks ({outcomes}), {self.items:,} map items, "
            f"{self.entered:,} entries with children, {self.lost_children} children fallen; "
            f"{rate:,.0f} tasks/s, {self.seconds:.1f} s"
        )


def open_descriptors() -> list[str]:
    """What each descriptor of this process is."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found.append(str(Path("/proc/self/fd", name).readlink()))
    return sorted(found)


def watch(storms: list[Storm], over: threading.Event) -> None:
    """End it all, with every stack, when nothing happens any more."""
    seen, since = -1, time.monotonic()
    while not over.wait(0.5):
        settled = sum(storm.settled for storm in storms)
        if settled != seen:
            seen, since = settled, time.monotonic()
        elif time.monotonic() - since > PATIENCE_SECONDS:
            hang(storms)


def hang(storms: list[Storm]) -> None:
    """Say who waits for what, and end."""
    sys.stderr.write(f"\nHANG: nothing was settled for {PATIENCE_SECONDS} s\n")
    for storm in storms:
        seat = storm.pool._gatherer.seat
        sys.stderr.write(
            f"{storm.name}: seed {storm.seed}, {storm.kills} kills, {storm.offered} tasks; "
            f"phases {seat.phases()}, outstanding {seat.outstanding}, workers {storm.pool.workers}\n"
            f"{storm.faults}\n{storm.pool.statistics()}\n"
        )
        for worker in storm.pool.workers:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{worker.pid}/status").read_text().splitlines()[2]
                sys.stderr.write(f"worker {worker.id}, pid {worker.pid}: {status}\n")
                os.kill(worker.pid, signal.SIGUSR1)
                time.sleep(0.2)
    faulthandler.dump_traceback(all_threads=True)
    sys.stderr.flush()
    if os.environ.get("STORM_KEEP"):  # for a debugger
        time.sleep(3600)
    for storm in storms:
        for worker in storm.pool.workers:
            with contextlib.suppress(OSError):
                os.kill(worker.pid, signal.SIGKILL)
    os._exit(3)


def main() -> int:
    usual = float(os.environ.get("WORKPOOL_STRESS_SECONDS", "30"))
    parser = argparse.ArgumentParser(description="SIGKILL and SIGSTOP on a pool under load.")
    parser.add_argument(
        "--seconds", type=float, default=usual, help="at most so long (WORKPOOL_STRESS_SECONDS)"
    )
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--tasks-per-kill", type=float, default=None, help="at least; else as the two above")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--threads", type=int, default=3, help="that offer work, for each pool")
    parser.add_argument("--pools", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # each death is one
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    with WorkerPool(max_workers=1) as pool:  # what a first pool leaves for good: the resource tracker
        pool.submit(abs, -1).result()
    names, processes = shared_memory_names(), children_of(os.getpid())
    descriptors = open_descriptors()
    storms = [
        Storm(
            seed=seed, seconds=options.seconds, kills=options.kills, most_tasks=options.tasks,
            tasks_per_kill=options.tasks_per_kill or options.tasks / max(1, options.kills),
            workers=options.workers, threads=options.threads, name=f"storm-{number}",
        )
        for number in range(options.pools)
    ]  # fmt: skip
    over = threading.Event()
    threading.Thread(target=watch, args=(storms, over), daemon=True).start()
    runs = [threading.Thread(target=storm.run) for storm in storms]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    over.set()
    faults = [fault for storm in storms for fault in storm.faults]
    gc.collect()  # a result that nobody has any more, but for a circle, keeps its memory mapped
    try:
        wait_until(lambda: children_of(os.getpid()) <= processes, 5.0)
        wait_until(lambda: shared_memory_names() <= names, 5.0)
        wait_until(lambda: len(open_descriptors()) <= len(descriptors), 5.0)
    except AssertionError as error:
        faults.append(
            f"left behind: {error}: processes {children_of(os.getpid()) - processes}, "
            f"/dev/shm {shared_memory_names() - names}, "
            f"descriptors {open_descriptors()}, before {descriptors}"
        )
    for storm in storms:
        print(storm.report())
    for fault in faults:
        print("FAULT:", fault)
    print("the law holds" if not faults else f"{len(faults)} FAULTS, seed {seed}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
