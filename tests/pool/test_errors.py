"""What a task raises comes back as itself; what cannot travel says why; nothing hangs.

SPDX-License-Identifier: BSD-3-Clause
"""

import copy
import gc
import pickle
import sys
import traceback
import types
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import wait_until

import workpool
from workpool import ArenaFull, PoolClosed, RemoteError, WorkerPool, WorkpoolError, errors

Pool = WorkerPool[Any, Any]


@pytest.fixture(scope="module")
def shared() -> Iterator[Pool]:
    """One pool for all tests here: no exception may harm it or its workers."""
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        pool.wait_ready()
        yield pool


@pytest.fixture(autouse=True)
def workers_unharmed(shared: Pool) -> Iterator[None]:
    before = [worker.pid for worker in shared.workers]
    yield
    assert [shared.submit(tasks.echo, number).result(20) for number in range(4)] == [0, 1, 2, 3]
    assert [worker.pid for worker in shared.workers] == before


def failure(shared: Pool, fn: Callable[..., Any], *args: Any) -> BaseException:
    error = shared.submit(fn, *args).exception(20)
    assert error is not None
    return error


# ---- exceptions that travel --------------------------------------------------------------


def test_own_exception_comes_back_with_the_remote_traceback_as_its_cause(shared: Pool) -> None:
    error = failure(shared, tasks.fail_deep, 3)
    assert type(error) is tasks.OwnError
    assert error.args == ("deep down",)
    remote = str(error.__cause__)
    assert remote.count("return fail_deep(levels - 1)") == 3
    assert "pool_tasks.py" in remote
    assert 'raise OwnError("deep down")' in remote


def test_remote_traceback_is_shown_once(shared: Pool) -> None:
    task = shared.submit(tasks.divide, 1, 0)
    for _ in range(2):  # and asking again adds nothing
        with pytest.raises(ZeroDivisionError) as caught:
            task.result(20)
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count("return a / b") == 1
    assert shown.count("The above exception was the direct cause") == 1
    assert shown.index("return a / b") < shown.index("direct cause")


def test_exception_is_the_same_object_each_time(shared: Pool) -> None:
    task = shared.submit(tasks.divide, 1, 0)
    with pytest.raises(ZeroDivisionError) as caught:
        task.result(20)
    assert task.exception() is caught.value


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        ValueError("a", 1, (2, None)),
        KeyError("k"),
        OSError(2, "gone", "file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        tasks.KeywordError(code=7),
        StopIteration(5),
        StopAsyncIteration(),
        GeneratorExit(),
        TimeoutError("the task's own"),
        MemoryError(),
        RecursionError("deep"),
        errors.EntrypointError("x"),
        PoolClosed("another pool"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exception_keeps_its_type_and_arguments(shared: Pool, error: BaseException) -> None:
    came = failure(shared, tasks.fail, error)
    assert type(came) is type(error)
    assert came.args == error.args
    assert vars(came) == vars(error)
    assert "in fail" in str(came.__cause__)


def test_exception_that_is_raised_by_a_coroutine_is_the_same(shared: Pool) -> None:
    error = failure(shared, tasks.fail_later, "later")
    assert repr(error) == "ValueError('later')"
    assert "in fail_later" in str(error.__cause__)


def test_cancelled_error_that_a_task_raises_is_its_outcome(shared: Pool) -> None:
    task = shared.submit(tasks.fail, CancelledError("mine"))
    with pytest.raises(CancelledError):
        task.result(20)


def test_notes_and_attributes_travel(shared: Pool) -> None:
    def fail() -> None:
        error = ValueError("x")
        error.add_note("row 7")
        error.row = 7  # type: ignore[attr-defined]
        raise error

    error = failure(shared, fail)
    assert (error.__notes__, error.row) == (["row 7"], 7)  # type: ignore[attr-defined]
    assert "row 7" in str(error.__cause__)


def test_exception_group_keeps_its_parts(shared: Pool) -> None:
    error = failure(shared, tasks.fail, ExceptionGroup("both", [ValueError("a"), tasks.OwnError("b")]))
    assert isinstance(error, ExceptionGroup)
    assert (error.message, list(map(repr, error.exceptions))) == (
        "both",
        ["ValueError('a')", "OwnError('b')"],
    )
    assert "ExceptionGroup: both" in str(error.__cause__)


def test_cause_and_context_are_in_the_remote_traceback(shared: Pool) -> None:
    def fail() -> None:
        try:
            tasks.divide(1, 0)
        except ZeroDivisionError as error:
            raise tasks.OwnError("outer") from error

    remote = str(failure(shared, fail).__cause__)
    assert "ZeroDivisionError" in remote
    assert "direct cause" in remote


def test_frozen_exception_has_its_cause_all_the_same(shared: Pool) -> None:
    error = failure(shared, tasks.fail_with, "FrozenError", "stiff")
    assert (type(error), error.args) == (tasks.FrozenError, ("stiff",))
    assert "in fail_with" in str(error.__cause__)


def test_class_of_a_function_is_an_exception_too(shared: Pool) -> None:
    class LocalError(Exception):
        pass

    def fail() -> None:
        raise LocalError("here")

    error = failure(shared, fail)
    assert (type(error), error.args) == (LocalError, ("here",))


# ---- what ends a program does not end a worker -----------------------------------------------


@pytest.mark.parametrize(
    "error", [SystemExit(3), SystemExit("text"), KeyboardInterrupt("mine")], ids=["exit", "text", "interrupt"]
)
@pytest.mark.parametrize("later", [False, True], ids=["plain", "coroutine"])
def test_exit_and_interrupt_are_the_tasks_error_alone(
    shared: Pool, error: BaseException, later: bool
) -> None:
    async def fail_in_the_loop(error: BaseException) -> None:
        raise error

    came = failure(shared, fail_in_the_loop if later else tasks.fail, error)
    assert (type(came), came.args) == (type(error), error.args)


# ---- what does not travel --------------------------------------------------------------------


def test_exception_with_an_init_of_other_arity_comes_back_as_itself(shared: Pool) -> None:
    error = failure(shared, tasks.fail_with, "OddError", 5, "odd")
    assert type(error) is tasks.OddError
    assert (error.args, error.code) == (("5: odd",), 5)
    assert "in fail_with" in str(error.__cause__)


def test_group_with_such_a_part_comes_back_with_it(shared: Pool) -> None:
    def fail() -> None:
        part = tasks.OddError(5, "odd")
        part.add_note("a note")
        raise ExceptionGroup("both", [ValueError("a"), ExceptionGroup("inner", [part])])

    error = failure(shared, fail)
    assert type(error) is ExceptionGroup
    [inner] = error.exceptions[1].exceptions  # type: ignore[attr-defined]
    assert (type(inner), inner.code, inner.__notes__) == (tasks.OddError, 5, ["a note"])


def test_the_remote_traceback_begins_in_the_users_code(shared: Pool) -> None:
    remote = str(failure(shared, tasks.fail_deep, 1).__cause__)
    assert "runner.py" not in remote and "fail_deep" in remote
    remote = str(failure(shared, divmod, 1, 0).__cause__)
    assert "runner.py" not in remote and "ZeroDivisionError" in remote


@pytest.mark.parametrize("kind", ["UnpicklableError", "LyingError"])
def test_exception_that_pickle_refuses_or_garbles_becomes_a_remote_error(shared: Pool, kind: str) -> None:
    error = failure(shared, tasks.fail_with, kind, "inside")
    assert type(error) is RemoteError
    assert (error.type_name, error.text) == (f"pool_tasks.{kind}", "inside")


def test_exception_whose_text_raises_becomes_a_remote_error(shared: Pool) -> None:
    def fail() -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise ValueError("no text")

            def __reduce__(self) -> str:
                raise TypeError

        raise Mute

    error = failure(shared, fail)
    assert type(error) is RemoteError
    assert error.type_name.endswith("Mute")
    assert "ValueError" in error.text


def test_group_with_a_part_that_does_not_travel_becomes_a_remote_error(shared: Pool) -> None:
    def fail() -> None:
        raise ExceptionGroup("both", [ValueError("a"), tasks.UnpicklableError("b")])

    error = failure(shared, fail)
    assert type(error) is RemoteError
    assert error.type_name == "ExceptionGroup"
    assert "UnpicklableError: b" in error.traceback


def test_exception_that_can_be_rebuilt_only_in_the_worker_becomes_a_remote_error(shared: Pool) -> None:
    def fail() -> None:
        import os

        class Homesick(Exception):
            def __reduce__(self) -> Any:
                return rebuild, (os.getpid(),)

        def rebuild(pid: int) -> Any:
            if os.getpid() != pid:
                raise ImportError("not at home")
            return Homesick()

        raise Homesick

    error = failure(shared, fail)
    assert type(error) is RemoteError
    assert "not at home" in error.text
    assert "in fail" in str(error.__cause__)


@pytest.mark.parametrize("kind", ["lock", "generator"])
@pytest.mark.parametrize("later", [False, True], ids=["plain", "coroutine"])
def test_result_that_cannot_be_pickled_becomes_a_remote_error(shared: Pool, kind: str, later: bool) -> None:
    async def give_later(kind: str) -> Any:
        return tasks.give(kind)

    error = failure(shared, give_later if later else tasks.give, kind)
    assert type(error) is RemoteError
    assert kind in error.text
    assert "cannot be pickled" in error.text


def test_result_that_cannot_be_rebuilt_here_raises_what_its_rebuilding_raised(shared: Pool) -> None:
    task = shared.submit(tasks.give, "explosive")
    with pytest.raises(tasks.OwnError, match="while unpickling") as caught:
        task.result(20)
    assert caught.value.__notes__ == ["as the task's result was rebuilt by who waits for it"]
    assert task.done()


def test_argument_that_cannot_be_pickled_is_the_tasks_error(shared: Pool) -> None:
    for task in (
        shared.submit(tasks.echo, tasks.Unpicklable()),
        shared.submit(tasks.Unpicklable().__reduce__),
    ):
        assert task.done()
        with pytest.raises(tasks.OwnError, match="will not be pickled"):
            task.result()


def test_argument_that_cannot_be_rebuilt_there_is_the_tasks_error(shared: Pool) -> None:
    error = failure(shared, tasks.echo, tasks.Explosive())
    assert repr(error) == "OwnError('while unpickling')"
    assert "in explode" in str(error.__cause__)


def test_function_that_cannot_be_pickled_is_the_tasks_error_each_time(shared: Pool) -> None:
    stuck = tasks.Unpicklable()

    def closure() -> Any:
        return stuck

    for _ in range(2):
        with pytest.raises(tasks.OwnError, match="will not be pickled"):
            shared.submit(closure).result(20)


def test_function_that_cannot_be_found_there_is_the_tasks_error(
    shared: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("only_in_the_parent")
    exec("def ghost(): pass", vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    error = failure(shared, module.ghost)
    assert isinstance(error, ModuleNotFoundError)
    assert "only_in_the_parent" in str(error)


def test_map_raises_at_the_item_that_failed_after_those_before_it(shared: Pool) -> None:
    results = shared.map(tasks.fail_on_three, range(10), chunksize=5)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_missing_argument_is_the_tasks_type_error(shared: Pool) -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        shared.submit(tasks.add, 1).result(20)


def test_a_thousand_failures_among_successes_are_each_their_own(shared: Pool) -> None:
    futures = [shared.submit(tasks.divide, number, number % 2) for number in range(1000)]
    for number, task in enumerate(futures):
        if number % 2:
            assert task.result(20) == number
        else:
            assert type(task.exception(20)) is ZeroDivisionError


# ---- the pool's own --------------------------------------------------------------------------


def test_closed_pool_refuses_everything_with_pool_closed() -> None:
    pool: Pool = WorkerPool(tasks.echo, max_workers=1)
    pool.shutdown()
    for offer in (
        lambda: pool.submit(tasks.echo, 1),
        lambda: pool.add_task(1),
        lambda: pool.map(tasks.echo, [1]),
        lambda: pool.options(key=1).submit(tasks.echo, 1),
        lambda: pool.options(worker_affinity="main").add_task(1),
        lambda: pool.starmap(tasks.add, [(1, 2)]),
        lambda: pool.when_idle(),
        lambda: pool.wait_ready(),
        lambda: pool.statistics(),
    ):
        with pytest.raises(PoolClosed, match=r"^cannot schedule new futures after shutdown$") as caught:
            offer()
        assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize(
    ("error", "also"),
    [
        ("PoolClosed", RuntimeError),
        ("ForkedPool", RuntimeError),
        ("EntrypointError", TypeError),
        ("TaskTimeout", TimeoutError),
        ("QueueFull", RuntimeError),
        ("ArenaFull", MemoryError),
        ("RemoteError", WorkpoolError),
    ],
)
def test_errors_are_of_the_base_and_of_the_standard_kind(error: str, also: type[Exception]) -> None:
    kind = getattr(errors, error)
    assert issubclass(kind, also)
    assert issubclass(kind, WorkpoolError)
    assert getattr(workpool, error) is kind


@pytest.mark.parametrize("error", [RemoteError("a.B", "text", "trace"), ArenaFull(5, False, 7, 3)])
def test_errors_of_the_pool_survive_pickle_and_copy(error: Any) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("what", ["pool", "task", "worker", "client", "main client", "view"])
def test_what_belongs_to_one_process_says_so_when_it_is_pickled_or_copied(what: str) -> None:
    with WorkerPool(max_workers=1) as pool:
        pool.wait_ready(20)
        pool.submit(tasks.echo, 1).result(20)
        if what == "client":
            with pytest.raises(RemoteError, match=r"a client can be neither pickled nor copied: "):
                pool.submit(workpool.current_client).result(20)
            return
        here = pool.options(worker_affinity="main")
        value: Any = {
            "pool": lambda: pool,
            "task": lambda: pool.submit(tasks.echo, 1),
            "worker": lambda: pool.workers[0],
            "main client": lambda: here.submit(workpool.current_client).result(20),
            "view": lambda: pool.options(key=1),
        }[what]()
        for way in (
            pickle.dumps,
            copy.copy,
            copy.deepcopy,
            lambda value: pool.submit(tasks.echo, [value]).result(20),
            lambda value: pool.submit(lambda: value).result(20),
        ):
            if what == "view" and way is copy.copy:
                continue
            with pytest.raises(TypeError, match=r"^a \w+ can be neither pickled nor copied: "):
                way(value)
        assert pool.submit(tasks.echo, 2).result(20) == 2


def test_a_result_that_raises_keyboard_interrupt_as_it_is_rebuilt_is_no_end_of_the_pool(shared: Pool) -> None:
    task = shared.submit(tasks.give, "interrupting")
    with pytest.raises(KeyboardInterrupt):  # as if by Ctrl-C, which asks to be told
        task.result(20)
    assert shared.submit(tasks.echo, 1).result(20) == 1
    assert type(task.exception(20)) is KeyboardInterrupt


@pytest.mark.parametrize("name", ["Interrupting", "Exiting"])
def test_an_exception_whose_reduce_raises_what_ends_programs_ends_no_worker(shared: Pool, name: str) -> None:
    before = [worker.pid for worker in shared.workers]
    with pytest.raises(RemoteError, match=rf"{name}.*the text"):
        shared.submit(tasks.fail_with, name, "the text").result(20)
    assert [worker.pid for worker in shared.workers] == before


def test_exceptions_are_freed_with_their_task(shared: Pool) -> None:
    task = shared.submit(tasks.fail_with, "OwnError", "x")
    gone = weakref.ref(task.exception(20))
    del task
    gc.collect()
    wait_until(lambda: gone() is None)
