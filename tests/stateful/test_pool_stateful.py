"""The Python API against a model, by Hypothesis: any order of calls, with deaths between.

The model knows for each task which outcomes it may have, and for each number in the
trace how often a task may have signed with it. Replay what fails from the printed steps:
they are the whole input, but for the instants at which workers act.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, as_completed, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers import children_of, is_alive, wait_until
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stateful import stateful_tasks as tasks

from workpool import PoolClosed, WorkerDied, WorkerPool

SECONDS = float(os.environ.get("WORKPOOL_STRESS_SECONDS", "12"))

# An example takes some tenths of a second: it launches a pool's workers.
EXAMPLES = max(8, int(SECONDS))

MOST_WORKERS = 2
PATIENCE = 40.0


@dataclass
class Expected:
    """What the model knows of one task."""

    task: Any
    numbers: range  # its own, then those of its children
    result: int | None  # None: it has none
    error: type[BaseException] | None = None
    retries: int = 0
    may_die: bool = False  # a worker was killed while it had no outcome
    asked_to_cancel: bool = False
    cancelled: bool = False  # cancel() said so
    forgotten: bool = False  # nobody waits for its children
    may_lose: set[int] = field(default_factory=set)


class PoolMachine(RuleBasedStateMachine):
    """One pool after another, and what each was asked to do."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="workpool-stateful-")
        self.gates = 0
        self.number = 0
        self.deaths = 0
        self.tasks: list[Expected] = []
        self.mapped: list[Expected] = []
        self.doomed: set[int] = set()
        self.trace = str(Path(self.folder.name, "trace"))
        Path(self.trace).touch()
        self.new_pool()

    def new_pool(self) -> None:
        self.pool: WorkerPool[Any, Any] = WorkerPool(max_workers=MOST_WORKERS)
        self.is_open = True
        self.held: list[Path] = []
        self.slots = self.pool.statistics().slots_free

    # ---- offering work ---------------------------------------------------------------

    def offer(
        self, fn: Callable[..., Any], *args: Any, numbers: int = 1, result: int | None,
        error: type[BaseException] | None = None, retries: int = 0, **options: Any,
    ) -> Expected:  # fmt: skip
        number = self.number
        self.number += numbers
        may_die = self.is_death_near()
        source: Any = self.pool.options(retries=retries, **options) if retries or options else self.pool
        task = source.submit(fn, self.trace, number, *args)
        expected = Expected(task, range(number, number + numbers), result, error, retries, may_die)
        self.tasks.append(expected)
        return expected

    def unfinished(self) -> list[Expected]:
        return [expected for expected in self.tasks if not expected.task.done()]

    def release(self) -> None:
        for gate in self.held:
            gate.touch()
        self.held.clear()

    @precondition(lambda self: self.is_open)
    @rule(count=st.integers(1, 30), retries=st.sampled_from([0, 0, 0, 3]))
    def submit(self, count: int, retries: int) -> None:
        for _ in range(count):
            self.offer(tasks.sign, result=self.number, retries=retries)

    @precondition(lambda self: self.is_open)
    @rule(priority=st.integers(-8, 7))
    def submit_urgent(self, priority: int) -> None:
        self.offer(tasks.sign, result=self.number, priority=priority)

    @precondition(lambda self: self.is_open)
    @rule()
    def submit_failing(self) -> None:
        self.offer(tasks.fail, result=None, error=tasks.OwnError)

    @precondition(lambda self: self.is_open)
    @rule()
    def submit_coroutine(self) -> None:
        self.offer(tasks.later, result=self.number)

    @precondition(lambda self: self.is_open)
    @rule(depth=st.integers(0, 4))
    def submit_nested(self, depth: int) -> None:
        numbers = 2 * depth + 1
        total = sum(range(self.number, self.number + numbers))
        self.offer(tasks.family, depth, numbers=numbers, result=total)

    @precondition(lambda self: self.is_open)
    @rule(children=st.integers(1, 8))
    def submit_forgotten_children(self, children: int) -> None:
        self.offer(tasks.leave, children, numbers=1 + children, result=self.number).forgotten = True

    @precondition(lambda self: self.is_open)
    @rule()
    def submit_held(self) -> None:
        self.gates += 1
        gate = Path(self.folder.name, f"gate{self.gates}")
        self.held.append(gate)
        self.offer(tasks.hold, str(gate), result=self.number)

    @precondition(lambda self: self.is_open)
    @rule(retries=st.sampled_from([0, 0, 1]))
    def submit_deadly(self, retries: int) -> None:
        # Coroutines, and children of others, may be in its worker's hands too.
        self.note_death()
        self.offer(tasks.fall, result=None, error=WorkerDied, retries=retries)
        self.deaths += retries

    def is_death_near(self) -> bool:
        """Whether a worker may die that takes tasks until then."""
        self.doomed &= {worker.pid for worker in self.pool.workers}
        return bool(self.doomed) or any(expected.error is WorkerDied for expected in self.unfinished())

    def note_death(self) -> None:
        """A worker dies, now or later: what is in its hands then may fall with it."""
        self.deaths += 1
        self.release()  # so that the model need not know what was held where
        for expected in self.unfinished():
            expected.may_die = True

    @precondition(lambda self: self.is_open)
    @rule(count=st.integers(0, 40), chunksize=st.sampled_from([None, 1, 7]))
    def gather_a_map(self, count: int, chunksize: int | None) -> None:
        self.release()
        numbers = range(self.number, self.number + count)
        self.number += count
        trace = self.trace
        deadly = self.is_death_near()
        expected = Expected(None, numbers, None)
        try:
            results = list(
                self.pool.map(lambda n: tasks.sign(trace, n), numbers, chunksize=chunksize, timeout=PATIENCE)
            )
        except WorkerDied:
            assert deadly
            expected.may_lose = set(numbers)
        else:
            assert results == list(numbers)
        self.mapped.append(expected)

    # ---- interfering -----------------------------------------------------------------

    @rule(which=st.integers(0, 19))
    def cancel(self, which: int) -> None:
        candidates = self.unfinished()  # no strategy may depend on it: the next time it is another
        if not candidates:
            return
        expected = candidates[-1 - which % len(candidates)]
        expected.asked_to_cancel = True
        if expected.task.cancel():
            expected.cancelled = True
            assert expected.task.cancelled()
            assert expected.task.done()

    @precondition(lambda self: self.is_open)
    @rule(which=st.integers(0, MOST_WORKERS - 1))
    def kill_a_worker(self, which: int) -> None:
        # One that has started: a pool gives up when too many in a row die before.
        ready = [worker for worker in self.pool.workers if worker.state in ("idle", "running")]
        if which >= len(ready):
            return
        self.note_death()
        self.doomed.add(ready[which].pid)
        try:
            os.kill(ready[which].pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    @precondition(lambda self: self.is_open)
    @rule(which=st.integers(0, MOST_WORKERS - 1))
    def stop_and_continue_a_worker(self, which: int) -> None:
        workers = self.pool.workers
        if which < len(workers):
            for number in (signal.SIGSTOP, signal.SIGCONT):
                try:
                    os.kill(workers[which].pid, number)
                except ProcessLookupError:
                    pass

    @precondition(lambda self: self.is_open)
    @rule(n=st.integers(1, MOST_WORKERS))
    def resize_up_to(self, n: int) -> None:
        self.pool.resize_up_to(n)
        assert len(self.pool.workers) >= n or self.deaths

    @precondition(lambda self: self.is_open)
    @rule(n=st.integers(0, MOST_WORKERS))
    def resize_down_to(self, n: int) -> None:
        self.pool.resize_down_to(n)

    # ---- waiting ---------------------------------------------------------------------

    @rule(which=st.integers(0, 19))
    def result_of_one(self, which: int) -> None:
        self.release()
        if self.tasks:
            self.check(self.tasks[-1 - which % len(self.tasks)])

    @rule(way=st.sampled_from(["wait", "as_completed", "in order", "asyncio"]))
    def gather_all(self, way: str) -> None:
        self.release()
        every = [expected.task for expected in self.tasks]
        if way == "wait":
            done, pending = wait(every, PATIENCE)
            assert not pending
            assert done == set(every)
        elif way == "as_completed":
            seen = list(as_completed(every, PATIENCE))
            assert len(seen) == len(every)
            assert set(seen) == set(every)
        elif way == "asyncio":

            async def gather() -> None:
                await asyncio.wait_for(asyncio.gather(*every, return_exceptions=True), PATIENCE)

            asyncio.run(gather())
        for expected in self.tasks:
            self.check(expected)

    @precondition(lambda self: self.is_open)
    @rule()
    def when_idle(self) -> None:
        self.release()
        self.pool.when_idle().result(PATIENCE)
        assert self.pool.is_idle
        assert not self.unfinished()
        self.check_trace()
        wait_until(lambda: self.pool.statistics().slots_free == self.slots)

    def check(self, expected: Expected) -> None:
        """Wait for the outcome; see whether it may be, and is still what it was."""
        outcome: Any
        try:
            outcome = expected.task.result(PATIENCE)
        except CancelledError:
            outcome = CancelledError
            assert expected.asked_to_cancel
        except (tasks.OwnError, WorkerDied) as error:
            outcome = type(error)
        if outcome is WorkerDied:
            assert expected.may_die or expected.error is WorkerDied
        elif outcome is not CancelledError:
            assert outcome == (expected.result if expected.error is None else expected.error)
        assert expected.task.done()
        assert (outcome is CancelledError) >= expected.cancelled
        if outcome in (WorkerDied, CancelledError):
            expected.may_lose = set(expected.numbers)

    def check_trace(self) -> None:
        """All is done: compare the trace with what may be there."""
        for expected in self.tasks:
            self.check(expected)
        entered = Counter(map(int, Path(self.trace).read_text().split()))
        lost: set[int] = set()
        for expected in [*self.tasks, *self.mapped]:
            for number in expected.numbers:
                times = entered[number]
                assert times <= 1 + expected.retries, f"{number} was entered {times} times"
                if expected.cancelled:
                    assert times == 0, f"{number} was cancelled, and entered"
                if times == 0 and number not in expected.may_lose:
                    assert expected.forgotten, f"{number} was lost"
                    assert number != expected.numbers[0], f"{number} was lost"
                    lost.add(number)
        assert len(lost) <= self.deaths, f"{lost} were lost, with {self.deaths} deaths"
        assert set(entered) <= set(range(self.number))

    # ---- ending ----------------------------------------------------------------------

    @precondition(lambda self: self.is_open)
    @rule(cancel=st.booleans(), waits=st.booleans())
    def shut_down(self, cancel: bool, waits: bool) -> None:
        self.release()
        if cancel:
            for expected in self.unfinished():
                expected.asked_to_cancel = True
        if not waits:
            self.pool.shutdown(wait=False, cancel_futures=cancel)
        else:
            self.pool.shutdown(cancel_futures=cancel)
        self.is_open = False
        with pytest.raises(PoolClosed):
            self.pool.submit(tasks.sign, self.trace, 0)

    @precondition(lambda self: not self.is_open)
    @rule()
    def begin_anew(self) -> None:
        self.finish_pool()
        self.tasks.clear()
        self.mapped.clear()
        self.new_pool()

    def finish_pool(self) -> None:
        self.release()
        pids = {worker.pid for worker in self.pool.workers}
        self.pool.shutdown()
        assert all(expected.task.done() for expected in self.tasks)
        self.check_trace()
        assert not any(is_alive(pid) for pid in pids)
        assert not children_of(os.getpid()) & pids

    @invariant()
    def outcomes_stay(self) -> None:
        for expected in getattr(self, "tasks", [])[-5:]:
            if expected.cancelled:
                assert expected.task.cancelled()

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            try:
                self.finish_pool()
            finally:
                self.folder.cleanup()


PoolMachine.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=20, deadline=None, derandomize="CI" in os.environ,
    suppress_health_check=list(HealthCheck), print_blob=True,
)  # fmt: skip

TestPool = pytest.mark.timeout(4 * SECONDS + 300)(PoolMachine.TestCase)
