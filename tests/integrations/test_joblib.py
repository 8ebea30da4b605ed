"""joblib's ``Parallel`` on workpool: the same as on its own backend, and what is better.

SPDX-License-Identifier: BSD-3-Clause
"""

import functools
import multiprocessing
import threading
import time
import types
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import integration_tasks as tasks
import numpy as np
import pytest
from helpers import wait_until

from workpool import PoolClosed, WorkerPool

joblib = pytest.importorskip("joblib")

from joblib import Parallel, delayed, parallel_config

from workpool.integrations import joblib as ours
from workpool.integrations.sharing import Sharing

X = np.arange(400_000.0).reshape(400, 1000)  # 3.2 MB: what joblib would write to a file


@pytest.fixture(scope="module", autouse=True)
def backends() -> Iterator[None]:
    """Both kinds of workers, which stay from one test to the next."""
    ours.register()
    for name in ("loky", "workpool"):
        Parallel(n_jobs=2, backend=name)(delayed(abs)(x) for x in range(4))
    yield
    ours.close()
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)


@pytest.fixture
def here() -> Iterator[None]:
    with parallel_config(backend="workpool", n_jobs=2):
        yield


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
def test_results_are_those_of_loky(return_as: str) -> None:
    found = []
    for name in ("loky", "workpool"):
        parallel = Parallel(n_jobs=2, backend=name, return_as=return_as)
        results = parallel(delayed(tasks.scaled)(x, by=2.5) for x in range(200))
        assert isinstance(results, list) == (return_as == "list")
        found.append(sorted(results) if return_as == "generator_unordered" else list(results))
    assert found[0] == found[1] == [2.5 * x for x in range(200)]


def test_lambdas_and_closures_travel(here: None) -> None:
    offset = 7
    assert Parallel()(delayed(lambda x: x + offset)(x) for x in range(5)) == [7, 8, 9, 10, 11]


def test_the_same_parallel_serves_again(here: None) -> None:
    with Parallel() as parallel:
        first = parallel(delayed(tasks.square)(x) for x in range(10))
        with pytest.raises(ValueError, match="no 3"):
            parallel(delayed(tasks.fail)(x) for x in range(10))
        assert parallel(delayed(tasks.square)(x) for x in range(10)) == first


def test_tasks_that_end_at_once_are_not_one_inside_the_other() -> None:
    class Quick:
        def submit(self, *_: Any) -> Any:
            done: Future[None] = Future()
            done.set_result(None)
            return done

    backend: Any = ours.WorkpoolBackend()
    backend._sharing = types.SimpleNamespace(pool=Quick(), pack=lambda func: (func,))
    ended = 0

    def callback(_: Any) -> None:
        nonlocal ended
        ended += 1
        if ended < 5000:
            backend.submit(None, callback)

    backend.submit(None, callback)
    assert ended == 5000


def test_batches_that_a_failed_call_has_left_are_not_the_next_ones(here: None) -> None:
    with Parallel() as parallel:
        with pytest.raises(ValueError, match="no 3"):
            parallel(delayed(tasks.fail)(x) for x in range(10))
        parallel._ready_batches.put([delayed(tasks.square)(-1)])  # as its callbacks' thread may, late
        assert parallel(delayed(tasks.square)(x) for x in range(10)) == [x * x for x in range(10)]


def test_an_aborted_call_ends_after_the_callbacks_that_have_begun(here: None) -> None:
    with Parallel(n_jobs=2) as parallel:
        backend = parallel._backend
        begun, go = threading.Event(), threading.Event()

        def callback(_: Any) -> None:
            begun.set()
            assert go.wait(20)

        batch = joblib.parallel.BatchedCalls([delayed(time.sleep)(0.3)], backend.get_nested_backend())
        backend.submit(batch, callback)
        assert begun.wait(20)
        aborting = threading.Thread(target=backend.abort_everything)
        aborting.start()
        aborting.join(0.05)
        assert aborting.is_alive()
        go.set()
        aborting.join(20)
        assert not aborting.is_alive()


def test_workers_stay_for_the_next_parallel(here: None) -> None:
    calls = [set(Parallel(batch_size=1)(delayed(tasks.pid)(x) for x in range(20))) for _ in range(3)]
    assert len(set().union(*calls)) <= 2


@pytest.mark.leaves_processes  # the workers with another environment, for the next Parallel
def test_inner_max_num_threads_is_what_workers_start_with() -> None:
    with parallel_config(backend="workpool", n_jobs=2, inner_max_num_threads=3):
        found = Parallel()(delayed(tasks.variable)(name) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"))
    assert [value for value, _ in found] == ["3", "3"]
    with parallel_config(backend="workpool", n_jobs=2):
        again = Parallel()(delayed(tasks.variable)("OMP_NUM_THREADS") for _ in range(2))
    assert {process for _, process in found}.isdisjoint(process for _, process in again)


def test_pool_of_the_users_is_used_and_left_open(tmp_path: Path) -> None:
    with WorkerPool(max_workers=3) as pool:
        with parallel_config(backend="workpool", pool=pool):
            assert joblib.effective_n_jobs(-1) == 3
            assert joblib.effective_n_jobs(9) == 3
            pids = set(Parallel()(delayed(tasks.pid)(x) for x in range(20)))
            inside = Parallel(n_jobs=2, pre_dispatch="all", batch_size=1)(
                delayed(tasks.how_many_inside)(str(tmp_path), 3) for _ in range(6)
            )
        assert pids <= {worker.pid for worker in pool.workers}
        assert max(inside) == 2
        assert Parallel(n_jobs=2, backend="workpool", pool=pool)(delayed(abs)(x) for x in (-1, 1)) == [1, 1]
        assert pool.submit(tasks.square, 3).result() == 9


def test_pool_with_threads_of_its_own_takes_no_other_number() -> None:
    with (
        WorkerPool(max_workers=2) as pool,
        parallel_config(backend="workpool", pool=pool, inner_max_num_threads=2),
        pytest.raises(ValueError, match="inner_threads"),
    ):
        Parallel()(delayed(abs)(x) for x in range(4))


@pytest.mark.parametrize("return_as", ["list", "generator"])
def test_closed_pool_is_an_error_and_not_a_wait(return_as: str) -> None:
    pool: WorkerPool[Any, Any] = WorkerPool(max_workers=2)
    with parallel_config(backend="workpool", pool=pool):
        parallel = Parallel(return_as="generator", batch_size=1, pre_dispatch=2)
        results = parallel(delayed(tasks.square)(x) for x in range(10_000_000))
        next(results)
        pool.shutdown()
        with pytest.raises(PoolClosed):
            list(results)
        with pytest.raises(PoolClosed):
            Parallel(return_as=return_as)(delayed(tasks.square)(x) for x in range(10))


def test_error_is_itself_and_ends_what_runs_and_what_waits(here: None, tmp_path: Path) -> None:
    work = [delayed(tasks.stay)(str(tmp_path)), delayed(tasks.fail_beside)(str(tmp_path))]
    work += [delayed(tasks.touch)(str(tmp_path / "never"))] * 2
    with pytest.raises(ValueError, match="beside") as caught:
        Parallel(batch_size=1, pre_dispatch=2)(work)
    assert "fail_beside" in str(caught.value.__cause__)
    wait_until((tmp_path / "interrupted").exists)
    assert not (tmp_path / "never").exists()
    assert Parallel()(delayed(tasks.square)(x) for x in range(5)) == [0, 1, 4, 9, 16]


def test_timeout_is_joblibs(here: None) -> None:
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.05)(delayed(time.sleep)(20) for _ in range(2))
    assert Parallel()(delayed(tasks.square)(x) for x in range(5)) == [0, 1, 4, 9, 16]


def test_task_that_cannot_be_pickled_is_an_error_and_not_a_wait(here: None) -> None:
    with pytest.raises(TypeError, match="pickle"):
        Parallel()(delayed(id)(threading.Lock()) for _ in range(3))


def test_generator_that_is_dropped_cancels_the_rest(here: None, tmp_path: Path) -> None:
    results = Parallel(return_as="generator", batch_size=1)(
        delayed(tasks.stay if x else abs)(str(tmp_path) if x else 1) for x in range(3)
    )
    assert next(results) == 1
    wait_until((tmp_path / "entered").exists)
    with pytest.warns(UserWarning, match="cancelled"):
        del results
    wait_until((tmp_path / "interrupted").exists)


def test_numbers_of_jobs() -> None:
    with parallel_config(backend="workpool"):
        assert joblib.effective_n_jobs(-1) == joblib.effective_n_jobs(None) == joblib.cpu_count()
        assert joblib.effective_n_jobs(5) == 5
        with pytest.raises(ValueError, match="n_jobs == 0"):
            Parallel(n_jobs=0)(delayed(abs)(x) for x in range(3))
        assert set(Parallel(n_jobs=1)(delayed(tasks.pid)(x) for x in range(3))) == {tasks.pid()}
        with pytest.raises(TypeError, match="unknown options of the workpool backend: pol"):
            Parallel(n_jobs=2, pol=None)(delayed(abs)(x) for x in range(3))


# ---- arrays ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: X, lambda: X[::2], lambda: np.asfortranarray(X)])
def test_large_array_is_shared_by_all_tasks_and_read_only(here: None, make: Any) -> None:
    array = make()
    found = Parallel(batch_size=1)(delayed(tasks.where)(array) for _ in range(6))
    assert len(set(found)) == 1
    block, writable, total = found[0]
    assert block is not None
    assert (writable, total) == (False, array.sum())


def test_large_array_is_shared_inside_objects_too(here: None) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X)
    for holder in ({"array": X}, {"array": frame}):
        found = Parallel(batch_size=1)(delayed(tasks.where_inside)(holder) for _ in range(6))
        assert len(set(found)) == 1
        assert found[0][0] is not None


@pytest.mark.parametrize(
    ("options", "shared", "writable"),
    [
        ({"mmap_mode": None}, False, True), ({"mmap_mode": "c"}, False, True),
        ({"mmap_mode": "r+"}, True, True), ({"max_nbytes": None}, False, True),
        ({"max_nbytes": "10M"}, False, True),
    ],
)  # fmt: skip
def test_options_of_memory_maps_say_what_is_shared(
    here: None, options: dict[str, Any], shared: bool, writable: bool
) -> None:
    found = Parallel(batch_size=1, **options)(delayed(tasks.where)(X) for _ in range(4))
    assert {(block is not None, writes) for block, writes, _ in found} == {(shared, writable)}


def mapped_views(path: Path, mode: Any) -> list[Any]:
    whole = np.memmap(path, np.float64, mode, offset=80, shape=(300, 1000))
    return [
        whole, np.asarray(whole), whole[10:20], whole.T, whole[::-2, 7:900:3], whole[5, 5:6],
        np.asarray(whole)[7], whole[3:3], np.asfortranarray(whole[:4]), whole[:2].view(np.int64),
    ]  # fmt: skip


def test_memory_map_is_opened_where_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "data"
    X.tofile(path)
    # No room for it: what is copied does not fit.
    with WorkerPool(max_workers=2, memory=1 << 20) as pool, parallel_config(backend="workpool", pool=pool):
        for mode in ("r", "r+"):
            views = mapped_views(path, mode)
            for given, (total, same, writable, file) in zip(
                views, Parallel()(delayed(tasks.mapped)(view) for view in views), strict=True
            ):
                assert (total, same) == (float(given.sum()), (given.shape, given.dtype.str))
                in_file = given.size > 0 and given.shape != (4, 1000)  # that one is a copy already
                assert file == (str(path) if in_file else None)
                assert not in_file or writable == (mode == "r+")
        views[0].flush()
        Parallel()(delayed(tasks.doubled_in_place)(part) for part in (views[0][:100], views[0][100:]))
    np.testing.assert_array_equal(
        np.fromfile(path).reshape(-1)[10 : 10 + 300_000], 2 * X.reshape(-1)[10:300_010]
    )


def test_memory_map_of_this_process_alone_is_an_array_like_others(here: None, tmp_path: Path) -> None:
    path = tmp_path / "data"
    np.ones(1000).tofile(path)
    own = np.memmap(path, np.float64, "c")
    own += 1
    assert (
        Parallel()(delayed(tasks.mapped)(own) for _ in range(2))
        == [(2000.0, ((1000,), "<f8"), True, None)] * 2
    )
    gone = np.memmap(path, np.float64, "r")
    path.unlink()
    assert [found[0] for found in Parallel()(delayed(tasks.mapped)(gone) for _ in range(2))] == [1000.0] * 2


def test_array_of_another_pool_is_copied(here: None) -> None:
    with WorkerPool(max_workers=1) as other:
        array = other.array(np.ones(10))
        assert {total for _, _, total in Parallel()(delayed(tasks.where)(array) for _ in range(4))} == {10.0}


def test_shared_copy_goes_with_its_array() -> None:
    with WorkerPool(max_workers=1) as pool:
        sharing = Sharing(pool, 1000, writable=False)
        array = np.ones(1000)
        for part in (array, array[:], array[:500]):
            sharing.pack([part])
        assert len(sharing._shared) == 2
        del array, part
        assert not sharing._shared


# ---- a Parallel inside a task ------------------------------------------------------------


def processes(parallel: Any, work: Any) -> tuple[set[int], set[int], list[Any]]:
    found = parallel(work)
    outer = {process for process, _, _ in found}
    return outer, set().union(*(inside for _, inside, _ in found)), [values for _, _, values in found]


@pytest.mark.parametrize("options", [
    {"n_jobs": 2}, {"n_jobs": -1, "return_as": "generator"}, {},
    {"n_jobs": 2, "backend": "workpool", "return_as": "generator_unordered"},
])  # fmt: skip
def test_inner_tasks_run_in_the_same_workers(options: dict[str, Any]) -> None:
    with WorkerPool(max_workers=2) as pool, parallel_config(backend="workpool", pool=pool):
        outer, inside, values = processes(
            Parallel(), [delayed(tasks.inner)(n, options) for n in (0, 1, 5, 30)]
        )
        assert outer | inside <= {worker.pid for worker in pool.workers}
    assert values == [[x * x for x in range(n)] for n in (0, 1, 5, 30)]


def test_inner_tasks_can_have_inner_tasks(here: None) -> None:
    assert Parallel()(delayed(tasks.depth)(3) for _ in range(3)) == [8, 8, 8]


def test_inner_tasks_that_prefer_threads_have_them(here: None) -> None:
    for found in Parallel()(delayed(tasks.inner_thread)(x) for x in range(3)):
        assert len({process for process, _ in found}) == 1
        assert {is_main for _, is_main in found} == {False}


def test_inner_error_and_timeout_are_joblibs(here: None) -> None:
    with pytest.raises(ValueError, match="no 3"):
        Parallel()(delayed(tasks.inner_fail)(x) for x in range(2))
    assert set(Parallel()(delayed(tasks.inner_timeout)(x) for x in range(2))) == {
        "multiprocessing.context.TimeoutError"
    }


# ---- scikit-learn ------------------------------------------------------------------------


@functools.cache
def data() -> tuple[Any, Any]:
    from sklearn.datasets import make_classification

    found: tuple[Any, Any] = make_classification(n_samples=2000, n_features=80, random_state=1)
    return found


def grid_search() -> Any:
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(RidgeClassifier(), {"alpha": [0.1, 1.0, 10.0]}, cv=3).fit(*data())
    return search.best_params_, search.cv_results_["mean_test_score"].tolist()


def cross_validation() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    return cross_val_score(LogisticRegression(max_iter=50, tol=0.1), *data(), cv=4).tolist()


def forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    made = RandomForestClassifier(n_estimators=12, max_depth=4, random_state=3).fit(*data())
    made.n_jobs = 1  # its threads sum in any order
    return made.predict_proba(data()[0][:50]).tolist()


def forests_inside() -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_score

    made = RandomForestClassifier(n_estimators=6, max_depth=3, random_state=3, n_jobs=2)
    return cross_val_score(made, *data(), cv=3).tolist()


@pytest.mark.parametrize("work", [grid_search, cross_validation, forest, forests_inside])
def test_estimators_find_what_they_find_on_loky(work: Any) -> None:
    pytest.importorskip("sklearn")
    found = []
    for name in ("loky", "workpool"):
        with parallel_config(backend=name, n_jobs=2):
            found.append(work())
    assert found[0] == found[1]
