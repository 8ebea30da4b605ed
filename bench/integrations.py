"""Packages on workpool beside the processes they use by themselves: python -m bench.integrations.

Each repeat runs both sides one after the other, and the ratio is taken within it. All
workers are warm, but where the package starts processes for each call: there that is part of
what the call costs. Needs the extra ``integrations``.

SPDX-License-Identifier: BSD-3-Clause
"""

import argparse
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from bench.report import number, quartiles, table
from workpool import WorkerPool
from workpool.integrations import joblib as joblib_on_workpool
from workpool.measure import machine

WORKERS = 2


class Case(NamedTuple):
    """What is done, and by whom: both callables do the same work once."""

    name: str
    rival: str
    theirs: Callable[[], object]
    ours: Callable[[], object]


# ---- what runs in the workers ------------------------------------------------------------


def busy(seconds: float) -> float:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


def total(array: Any, power: int) -> float:
    return float((array[:50] ** power).sum())


def quick(x: Any) -> float:
    return float(np.sum(np.square(x)))


def slow(x: Any) -> float:
    busy(0.001)
    return float(np.sum(np.square(x)))


def waves(x: float) -> Any:
    return np.sin(np.outer(x, np.arange(1, 5)))[0]


def log_prob(x: Any) -> float:
    return -0.5 * float(np.sum(np.square(x)))


def box(u: Any) -> Any:
    return 10 * u - 5


# ---- the packages ------------------------------------------------------------------------


def of_joblib() -> Iterator[Case]:
    from joblib import Parallel, delayed, parallel_config
    from sklearn.datasets import make_classification
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import cross_val_score

    joblib_on_workpool.register()
    array = np.ones((500, 1000))
    data = make_classification(n_samples=2000, n_features=40, random_state=1)

    def call(
        work: Callable[[], list[Any]], **options: Any
    ) -> tuple[Callable[[], object], Callable[[], object]]:
        loky, ours = ({"n_jobs": WORKERS, "backend": name, **options} for name in ("loky", "workpool"))
        return lambda: Parallel(**loky)(work()), lambda: Parallel(**ours)(work())

    def scores(name: str) -> Callable[[], object]:
        def run() -> object:
            with parallel_config(backend=name, n_jobs=WORKERS):
                return cross_val_score(RidgeClassifier(), *data, cv=20)

        return run

    for name, work, options in (
        ("5,000 empty tasks", lambda: [delayed(abs)(x) for x in range(5000)], {}),
        ("500 tasks of 0.1 ms, one by one", lambda: [delayed(busy)(0.0001)] * 500, {"batch_size": 1}),
        ("300 tasks of 1 ms", lambda: [delayed(busy)(0.001)] * 300, {}),
        ("100 tasks of 5 ms", lambda: [delayed(busy)(0.005)] * 100, {}),
        ("20 tasks of 50 ms", lambda: [delayed(busy)(0.05)] * 20, {}),
        ("50 tasks on one array of 4 MB", lambda: [delayed(total)(array, k) for k in range(50)], {}),
    ):
        yield Case(f"joblib: {name}", "loky", *call(work, **options))
    yield Case("scikit-learn: cross_val_score, 20 folds", "loky", scores("loky"), scores("workpool"))


def of_dask(pool: WorkerPool[Any, Any]) -> Iterator[Case]:
    import dask
    import dask.array
    import dask.bag
    import dask.dataframe
    import pandas

    x = dask.array.random.default_rng(1).random((800, 800), chunks=(100, 800))
    table_ = pandas.DataFrame({"group": np.arange(20_000) % 7, "value": np.arange(20_000.0)})
    for name, collection in (
        ("200 delayed calls", dask.delayed(sum)([dask.delayed(quick)(k) for k in range(200)])),
        ("array, mean of 8 blocks", (x * x).mean(axis=0)),
        ("bag of 8 partitions", dask.bag.from_sequence(range(4000), npartitions=8).map(quick).sum()),
        (
            "frame, groupby of 8",
            dask.dataframe.from_pandas(table_, npartitions=8).groupby("group").value.mean(),
        ),
    ):
        yield Case(
            f"dask: {name}", 'scheduler="processes"',
            lambda it=collection: it.compute(scheduler="processes", num_workers=WORKERS),
            lambda it=collection: it.compute(scheduler=pool),
        )  # fmt: skip


def of_scipy(pool: WorkerPool[Any, Any], processes: Any) -> Iterator[Case]:
    from scipy.integrate import quad_vec
    from scipy.optimize import brute, differential_evolution

    bounds = [(-2.0, 2.0)] * 4

    def evolve(fn: Any, workers: Any) -> object:
        return differential_evolution(
            fn, bounds, workers=workers, updating="deferred", rng=1, maxiter=10, tol=0, polish=False
        )

    for name, call in (
        ("differential_evolution, microseconds", lambda workers: evolve(quick, workers)),
        ("differential_evolution, 1 ms", lambda workers: evolve(slow, workers)),
        ("brute, 400 points", lambda workers: brute(quick, bounds[:2], Ns=20, workers=workers, finish=None)),
        ("quad_vec", lambda workers: quad_vec(waves, 0.0, 30.0, workers=workers)),
    ):
        yield Case(
            f"SciPy: {name}", "multiprocessing.Pool",
            lambda call=call: call(processes.map), lambda call=call: call(pool.map),
        )  # fmt: skip


def of_samplers(pool: WorkerPool[Any, Any], processes: Any) -> Iterator[Case]:
    import dynesty
    import emcee

    start = np.random.default_rng(1).normal(size=(20, 3))

    def walk(fn: Any, steps: int, pool: Any) -> object:
        return emcee.EnsembleSampler(20, 3, fn, pool=pool).run_mcmc(start, steps)

    def nest(pool: Any) -> object:
        sampler = dynesty.NestedSampler(
            log_prob, box, 2, nlive=50, pool=pool, queue_size=WORKERS, rstate=np.random.default_rng(1)
        )
        return sampler.run_nested(print_progress=False, dlogz=1.0)

    for name, call in (
        ("emcee: 20 walkers, 50 steps, microseconds", lambda pool: walk(log_prob, 50, pool)),
        ("emcee: 20 walkers, 10 steps, 1 ms", lambda pool: walk(slow, 10, pool)),
        ("dynesty: 50 live points, microseconds", nest),
    ):
        yield Case(
            name, "multiprocessing.Pool",
            lambda call=call: call(processes), lambda call=call: call(pool),
        )  # fmt: skip


# ---- measuring ---------------------------------------------------------------------------


def seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def measure(case: Case, repeats: int) -> list[str]:
    """One row: medians and quartiles in milliseconds, and how many times workpool is faster."""
    seconds(case.theirs), seconds(case.ours)
    pairs = [(seconds(case.theirs), seconds(case.ours)) for _ in range(repeats)]
    sides = []
    for values in zip(*pairs, strict=True):
        low, high = (number(1000 * value) for value in quartiles(list(values)))
        sides.append(f"{number(1000 * median(values))} ({low} - {high})")
    ratio = median(theirs / ours for theirs, ours in pairs)
    return [case.name, case.rival, *sides, f"{number(ratio)} x"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of packages about themselves
    meter = machine.OthersMeter()
    print(machine.line(machine.describe()), flush=True)
    rows = []
    with (
        WorkerPool(max_workers=WORKERS, tasks_per_worker=0) as pool,
        multiprocessing.get_context("spawn").Pool(WORKERS) as processes,
    ):
        pool.wait_ready()
        for case in (
            *of_joblib(), *of_dask(pool), *of_scipy(pool, processes), *of_samplers(pool, processes)
        ):  # fmt: skip
            if options.only in case.name:
                rows.append(measure(case, options.repeats))
    joblib_on_workpool.close()
    print(f"Other processes kept {meter.cpus():.2f} CPUs busy meanwhile.\n")
    head = ["what", "beside", "its own processes, ms", "workpool, ms", "workpool is faster"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
