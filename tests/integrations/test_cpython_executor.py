"""CPython's own tests of ``ProcessPoolExecutor``, run against ``WorkerPool``.

They are imported from the interpreter that runs this (``test.test_concurrent_futures``), and
skipped where it was installed without its tests. What they know of the standard library by name
has its counterpart here: processes, contexts, errors. For the default start method all cases run
but two long ones, for the others those that start methods matter to; ``WORKPOOL_TEST_ALL=1`` runs
every case for each.

SPDX-License-Identifier: BSD-3-Clause
"""

import concurrent.futures.process
import importlib
import multiprocessing
import os
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from helpers import wait_until

import workpool
from workpool.errors import RemoteError, RemoteTraceback
from workpool.supervisor import Worker

pytest.importorskip("test.test_concurrent_futures", reason="this interpreter came without its tests")

from test import support

MIXINS = {
    "test_process_pool": ["ProcessPoolExecutorTest"],
    "test_wait": ["WaitTests"],
    "test_as_completed": ["AsCompletedTests"],
    "test_shutdown": ["ProcessPoolShutdownTest"],
    "test_init": ["InitializerMixin", "FailingInitializerMixin"],
    "test_deadlock": ["ExecutorDeadlockTest"],
}

# Cases that do not apply, by name or by start method and name, and why.
NOT_APPLICABLE = {
    "test_max_workers_too_large": "a limit of Windows",
    "test_killed_child": "a killed worker costs the task in its hands, not the pool",
    "test_max_tasks_per_child_defaults_to_spawn_context": "the default start method has no context",
    "test_cancel_futures": "wants one to have begun; here nobody has yet, and all are cancelled",
    "fork test_max_tasks_per_child": "works with fork, where the standard library refuses",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "replaces parts that are not here",
}

# Where the standard library's pool breaks, or an exception of another type comes: the task alone
# fails, with what went wrong.
OUTCOMES: dict[str, type[BaseException]] = {
    "test_exit_at_task_unpickle": SystemExit,
    "test_error_at_task_unpickle": pickle.UnpicklingError,
    "test_exit_during_result_pickle_on_worker": RemoteError,
    "test_error_during_result_pickle_on_worker": RemoteError,
    "test_error_during_result_unpickle_in_result_handler": pickle.UnpicklingError,
    "test_exit_during_result_unpickle_in_result_handler": SystemExit,
    "test_python_finalization_error": RuntimeError,
}

# What is worth its time for a start method that is not the default.
ALWAYS = {
    "test_map_chunksize", "test_ressources_gced_in_workers", "test_max_tasks_early_shutdown",
    "test_submit_after_interpreter_shutdown", "test_hang_gh94440", "test_del_shutdown", "test_initializer",
    "test_crash_during_func_exec_on_worker",
}  # fmt: skip

# What CPython too runs only where time does not matter ("walltime").
LONG = {"test_map_timeout", "test_first_exception"}


def find(name: str) -> ModuleType:
    """A module of the cases; before 3.12 they are one."""
    try:
        return importlib.import_module(f"test.test_concurrent_futures.{name}")
    except ModuleNotFoundError:
        return importlib.import_module("test.test_concurrent_futures")


class Process:
    """A worker, as a ``multiprocessing.Process``."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def join(self) -> None:
        wait_until(lambda: self._worker.exitcode is not None)


class Manager:
    """What manages a pool, as a thread."""

    def __init__(self, pool: workpool.WorkerPool[Any, Any]) -> None:
        self._runtime = pool._runtime

    def join(self) -> None:
        wait_until(lambda: self._runtime._finished)

    join_thread = join


class WorkerPool(workpool.WorkerPool[Any, Any]):
    """The pool, made as a ``ProcessPoolExecutor`` is, launching when there is a task and nobody idle."""

    def __init__(self, max_workers: int | None = None, mp_context: Any = None, **options: Any) -> None:
        super().__init__(
            max_workers=max_workers, mp_context=self.context(mp_context), tasks_per_worker=1, **options
        )

    @staticmethod
    def context(mp_context: Any) -> Any:
        return mp_context

    @property
    def _processes(self) -> dict[int, Process]:
        return {worker.pid: Process(worker) for worker in self._supervisor.launch_now()}

    @property
    def _broken(self) -> object:
        return self._supervisor.broken

    @property
    def _executor_manager_thread(self) -> Manager:
        return Manager(self)

    _call_queue = _executor_manager_thread


class ExecPool(WorkerPool):
    @staticmethod
    def context(mp_context: Any) -> Any:
        return None


ExecPool.__name__ = "WorkerPool"  # the scripts of the cases import it by this


class Common:
    """Before each case's own class: what is different here."""

    executor_type: Any = WorkerPool
    method = "exec"

    def setUp(self) -> None:
        case = self._testMethodName
        for name in (case, f"{self.method} {case}"):
            if name in NOT_APPLICABLE:
                self.skipTest(NOT_APPLICABLE[name])
        runs = case not in LONG if self.method == "exec" else case in ALWAYS
        if not runs and not os.environ.get("WORKPOOL_TEST_ALL"):
            self.skipTest("in WORKPOOL_TEST_ALL=1")
        support.environment_altered = False
        super().setUp()
        if hasattr(self, "test_first_completed"):  # they count on a task of theirs taking no second
            self.executor.resize_up_to(3)
            self.executor.run_on_workers(importlib.import_module, find("test_wait").__name__)

    def tearDown(self) -> None:
        super().tearDown()
        assert not support.environment_altered, "a thread or process was left"

    def get_context(self) -> Any:
        """A context whose semaphores can be pickled: a task with any other fails before it is one."""
        context = multiprocessing.get_context("spawn" if self.method == "exec" else self.method)

        class Context(type(context)):
            def Semaphore(_, value: int) -> Any:
                manager = context.Manager()
                self.addCleanup(manager.shutdown)
                return manager.Semaphore(value)

        return Context()

    def _check_crash(self, error: type[BaseException], *args: Any, **options: Any) -> None:
        super()._check_crash(OUTCOMES.get(self._testMethodName, error), *args, **options)

    @contextmanager
    def _assert_logged(self, text: str) -> Iterator[None]:
        with self.assertLogs("workpool", "CRITICAL") as logged:
            yield
        assert text in "\n".join(logged.output)


class Exec(Common):
    executor_type = ExecPool


class Fork(Common):
    ctx = method = "fork"


class Spawn(Common):
    ctx = method = "spawn"


class Forkserver(Common):
    ctx = method = "forkserver"


for _module, _mixins in MIXINS.items():
    for _mixin in _mixins:
        for _own in (Exec, Fork, Spawn, Forkserver):
            _name = f"Test{_own.__name__}{_mixin}"
            _util = find("util")
            _bases = (_own, getattr(find(_module), _mixin), _util.ExecutorMixin, _util.BaseTestCase)
            globals()[_name] = type(_name, _bases, {"__module__": __name__})


@pytest.fixture(autouse=True)
def _names(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cases know by name."""
    case = request.node.name
    for module in MIXINS:
        broken = OUTCOMES.get(case, BrokenExecutor)
        monkeypatch.setattr(find(module), "BrokenProcessPool", broken, raising=False)
    monkeypatch.setattr(concurrent.futures.process, "_RemoteTraceback", RemoteTraceback)
    if case in ("test_context_manager_shutdown", "test_del_shutdown", "test_shutdown_no_wait"):
        monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", request.cls.executor_type)
    shutdown = find("test_shutdown")
    run = shutdown.assert_python_ok

    def run_with_workpool(option: str, script: str) -> tuple[int, bytes, bytes]:
        script = script.replace("from concurrent.futures import", "from workpool import")
        script = script.replace("WorkerPool(5", "WorkerPool(max_workers=5")
        path = [str(entry) for entry in sys.path]
        code, out, err = run(option, f"import multiprocessing, sys\nsys.path[:] = {path!r}\n{script}")
        return code, out, err.replace(b"workpool.errors.PoolClosed:", b"RuntimeError:")

    monkeypatch.setattr(shutdown, "assert_python_ok", run_with_workpool)
