"""map and its relatives: order, laziness, limits, and exceptions in the middle.

SPDX-License-Identifier: BSD-3-Clause
"""

import functools
import itertools
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pool_tasks as tasks
import pytest
from helpers import wait_until
from pool_support import Gate

from workpool import WorkerPool
from workpool.mapping import Chunks, ItemCost, ItemCosts

Pool = WorkerPool[Any, Any]


@pytest.mark.parametrize("chunksize", [None, 1, 2, 7, 1000])
@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_results_come_in_the_order_of_the_items(
    lasting_pool: Pool, chunksize: int | None, count: int
) -> None:
    assert list(lasting_pool.map(tasks.echo, range(count), chunksize=chunksize)) == list(range(count))


def test_large_map_gives_every_result_once(pool: Pool) -> None:
    assert list(pool.map(abs, range(-100_000, 100_000))) == list(map(abs, range(-100_000, 100_000)))


def test_unordered_map_gives_every_result_once(pool: Pool) -> None:
    assert sorted(pool.map(tasks.echo, range(500), ordered=False)) == list(range(500))


def test_unordered_map_does_not_wait_for_the_first(gate: Gate) -> None:
    with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
        slow_first = pool.map(_slow_if_zero, [0, 1, 2, 3], [gate.path] * 4, chunksize=1, ordered=False)
        assert sorted(itertools.islice(slow_first, 3)) == [1, 2, 3]
        gate.open()
        assert list(slow_first) == [0]


def _slow_if_zero(value: int, path: str) -> int:
    return tasks.enter(path, value) if value == 0 else value


def test_several_iterables_are_zipped_to_the_shortest(pool: Pool) -> None:
    assert list(pool.map(tasks.add, [1, 2, 3], [10, 20])) == [11, 22]
    assert list(pool.map(tasks.add, [1, 2], itertools.count(10), [100, 200])) == [111, 213]


def test_no_iterables_give_no_results(pool: Pool) -> None:
    assert list(pool.map(tasks.echo)) == []


def test_lambda_can_be_mapped(pool: Pool) -> None:
    assert list(pool.map(lambda x: x + 1, range(50))) == list(range(1, 51))


def test_callable_object_can_be_mapped(pool: Pool) -> None:
    assert list(pool.map(tasks.Doubler(3), range(50))) == list(range(0, 150, 3))


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_coroutine_function_can_be_mapped(lasting_pool: Pool, chunksize: int | None) -> None:
    assert list(lasting_pool.map(tasks.echo_later, range(20), chunksize=chunksize)) == list(range(20))


def test_mapped_coroutines_overlap_in_one_worker() -> None:
    with WorkerPool(max_workers=1, worker_concurrency=2) as pool:
        assert list(pool.map(tasks.meet, ["a", "b"], ["b", "a"])) == ["a", "b"]


@pytest.mark.parametrize("chunksize", [1, 2, 100])
def test_results_before_the_failing_item_come_first(pool: Pool, chunksize: int) -> None:
    results = pool.map(tasks.fail_on_three, range(10), chunksize=chunksize)
    assert list(itertools.islice(results, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert list(results) == []


class Failing:
    """A function with state, which counts how often it is pickled."""

    pickled = 0

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, value: int) -> int:
        return _fail_at(self.at, value)

    def __reduce__(self) -> Any:
        Failing.pickled += 1
        return functools.partial, (_fail_at, self.at)


def _fail_at(at: int, value: int) -> int:
    if value == at:
        raise ValueError(f"at {at}")
    return value


@pytest.mark.parametrize("chunksize", [1, 2, 100])
def test_results_before_the_failing_item_come_first_from_a_callable_object(
    pool: Pool, chunksize: int
) -> None:
    results = pool.map(functools.partial(_fail_at, 3), range(10), chunksize=chunksize)
    assert list(itertools.islice(results, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="at 3"):
        next(results)


def test_callable_object_is_pickled_once_for_a_map(pool: Pool) -> None:
    failing = Failing(-1)
    for at in (-1, 7):
        failing.at = at
        Failing.pickled = 0
        results = pool.map(failing, range(20), chunksize=1)
        assert list(itertools.islice(results, 7)) == list(range(7))
        if at == 7:  # as it is now, not as it was in the map before
            with pytest.raises(ValueError, match="at 7"):
                list(results)
        else:
            assert list(results) == list(range(7, 20))
        assert Failing.pickled == 1


def test_callable_object_keeps_its_state_in_a_worker_for_one_map() -> None:
    with WorkerPool(max_workers=1) as pool:
        counter = tasks.Counter()
        for _ in range(2):
            assert list(pool.map(counter, range(5), chunksize=2)) == [1, 2, 3, 4, 5]
        assert counter(0) == 1


def test_shared_array_of_a_partial_is_written_in_place(pool: Pool) -> None:
    out = pool.zeros(100, int)
    assert list(pool.map(functools.partial(_put, out), range(100))) == [None] * 100
    assert out.tolist() == list(range(100))


def _put(out: Any, item: int) -> None:
    out[item] = item


def test_second_map_of_a_function_begins_with_what_the_first_learned() -> None:
    costs = ItemCosts()

    def work() -> None: ...

    first = Chunks(list(range(1000)), None, 2, costs.of(work))
    assert first.size() == 1
    first.learn(0.01, [None] * 100)
    assert Chunks(list(range(1000)), None, 2, costs.of(work)).size() == 16
    assert Chunks(list(range(30)), None, 2, costs.of(work)).size() == 8  # a worker's share of half
    assert Chunks(list(range(1000)), None, 2, costs.of(abs)).size() == 1
    del work
    assert not [cost for cost in costs._known.values() if cost[0]() is not abs]


def test_failing_coroutine_in_a_chunk_gives_the_earlier_results_first(pool: Pool) -> None:
    results = pool.map(_later_fail_on_three, range(10), chunksize=10)
    assert list(itertools.islice(results, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


async def _later_fail_on_three(value: int) -> int:
    return tasks.fail_on_three(value)


def test_all_items_run_though_no_result_is_taken(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    pool.map(tasks.mark, [str(path)] * 20, range(20), chunksize=1)
    pool.when_idle().result(20)
    assert sorted(map(int, path.read_text().split())) == list(range(20))


def test_map_uses_every_worker_it_may() -> None:
    with WorkerPool(max_workers=4) as pool:
        for _ in pool.map(time.sleep, [0.01] * 200, chunksize=1):
            pass
        assert len(pool.workers) == 4


def test_chunks_follow_the_cost_of_the_items() -> None:
    with WorkerPool(max_workers=1) as pool:
        before = pool.statistics().tasks_submitted
        assert len(list(pool.map(abs, range(100_000)))) == 100_000
        assert pool.statistics().tasks_submitted - before < 10_000


class Counted(Iterator[int]):
    """Endless, and it knows how far it was read."""

    def __init__(self) -> None:
        self.read = 0

    def __next__(self) -> int:
        self.read += 1
        return self.read - 1


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_endless_iterator_is_read_no_further_than_buffersize(
    pool: Pool, ordered: bool, chunksize: int | None
) -> None:
    source = Counted()
    results = pool.map(tasks.echo, source, buffersize=10, chunksize=chunksize, ordered=ordered)
    assert source.read <= 10
    for taken in range(1, 101):
        next(results)
        assert source.read <= 10 + taken
    results.close()  # type: ignore[attr-defined]


def test_buffersize_and_chunksize_must_be_positive(pool: Pool) -> None:
    for wrong in ({"chunksize": 0}, {"chunksize": -1}, {"buffersize": 0}, {"buffersize": -1}):
        with pytest.raises(ValueError):
            pool.map(tasks.echo, [1], **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("ordered", [True, False])
def test_timeout_ends_the_iteration(gate: Gate, ordered: bool) -> None:
    with WorkerPool(max_workers=1) as pool:
        gate.hold(pool)
        results = pool.map(tasks.echo, range(5), timeout=0.05, chunksize=1, ordered=ordered)
        with pytest.raises(TimeoutError):
            next(results)
        gate.open()


def test_timeout_that_is_long_enough_changes_nothing(pool: Pool) -> None:
    assert list(pool.map(tasks.echo, range(20), timeout=30)) == list(range(20))


def test_close_cancels_what_no_worker_has_begun(gate: Gate, tmp_path: Path) -> None:
    path = tmp_path / "trace"

    def run(value: int) -> int:
        if value == 1:
            tasks.enter(gate.path)
        if value > 1:
            tasks.mark(str(path))
        return value

    with WorkerPool(max_workers=1) as pool:
        results = pool.map(run, range(50), chunksize=1)
        assert next(results) == 0
        wait_until(lambda: gate.entered)
        results.close()  # type: ignore[attr-defined]
        gate.open()
        assert list(results) == []
        pool.when_idle().result(20)
    assert not path.exists()


def test_map_over_a_pool_that_is_disposed_does_not_go_on(gate: Gate, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    pool = WorkerPool(max_workers=1)
    gate.hold(pool)
    results = pool.map(tasks.mark, [str(path)] * 200, range(200), chunksize=1)
    opener = threading.Timer(0.2, gate.open)
    opener.start()
    pool.dispose()
    opener.join()
    assert not path.exists()
    with pytest.raises(CancelledError):
        next(results)


def test_iterator_that_raises_is_the_callers_error(pool: Pool) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    with pytest.raises(KeyError):
        list(pool.map(tasks.echo, broken()))
    with pytest.raises(KeyError):
        list(pool.map(tasks.echo, broken(), buffersize=2))
    assert pool.submit(tasks.echo, 1).result() == 1


def test_unpicklable_item_fails_its_chunk_alone(pool: Pool) -> None:
    results = pool.map(tasks.echo, [1, threading.Lock(), 2], chunksize=1)
    assert next(results) == 1
    with pytest.raises(TypeError):
        next(results)
    assert pool.submit(tasks.echo, 1).result() == 1


def test_unpicklable_function_fails_the_map(pool: Pool) -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError):
        list(pool.map(lambda x: (lock, x), [1, 2]))


def test_starmap_and_imap_are_those_of_multiprocessing(pool: Pool) -> None:
    assert pool.starmap(tasks.add, [(1, 2), (3, 4)]) == [3, 7]
    assert pool.starmap(pow, zip(range(5), [2] * 5, strict=True), chunksize=2) == [0, 1, 4, 9, 16]
    assert list(pool.imap(tasks.echo, range(10))) == list(range(10))
    assert sorted(pool.imap_unordered(tasks.echo, range(10), chunksize=3)) == list(range(10))


def test_maps_in_several_threads_do_not_mix(pool: Pool) -> None:
    results: dict[int, list[int]] = {}

    def run(start: int) -> None:
        results[start] = list(pool.map(tasks.echo, range(start, start + 300), chunksize=3))

    threads = [threading.Thread(target=run, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {1000 * n: list(range(1000 * n, 1000 * n + 300)) for n in range(4)}


def test_map_within_the_iteration_of_another(pool: Pool) -> None:
    total = [
        inner for outer in pool.map(tasks.echo, range(10)) for inner in pool.map(tasks.echo, range(outer))
    ]
    assert total == [inner for outer in range(10) for inner in range(outer)]


def test_map_with_no_reference_but_its_iterator_keeps_the_pool_going() -> None:
    assert list(WorkerPool(max_workers=1).map(tasks.echo, range(100), chunksize=1)) == list(range(100))


def test_chunk_of_a_worker_that_dies_fails_and_the_pool_goes_on(pool: Pool) -> None:
    from workpool import WorkerDied

    results = pool.map(_die_on_two, range(4), chunksize=1)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(WorkerDied):
        next(results)
    assert list(pool.map(tasks.echo, range(4))) == [0, 1, 2, 3]


def _die_on_two(value: int) -> int:
    if value == 2:
        tasks.exit_at_once(4)
    return value


@pytest.mark.parametrize(
    "options",
    [{}, {"ordered": False}, {"buffersize": 8}, {"chunksize": 5}, {"chunksize": 5, "buffersize": 8}],
)
def test_a_result_that_was_taken_is_held_by_nobody_else(pool: Pool, options: dict[str, Any]) -> None:
    held = 0
    for result in pool.map(_thing, range(20), **options):
        reference = weakref.ref(result)
        del result
        held += reference() is not None
    assert held == 0


class Thing:
    pass


def _thing(_: int) -> Thing:
    return Thing()


def test_pool_is_idle_again_after_a_failure(pool: Pool) -> None:
    with pytest.raises(ValueError, match="three"):
        list(pool.map(tasks.fail_on_three, range(50), chunksize=1))
    pool.when_idle().result(10)
    assert pool.is_idle


def test_what_the_last_map_cost_is_trusted_for_a_few_items() -> None:
    cost = ItemCost()
    cost.seconds = 1e-6
    chunks = Chunks(list(range(1000)), None, 2, cost)
    assert len(chunks.take()) == len(chunks.take()) == 16
    chunks.learn(16.0, [None] * 16)  # this time they take a second each
    assert len(chunks.take()) == 1


def test_chunks_are_shorter_where_items_or_results_are_large() -> None:
    large: Any = np.ones(50_000)  # 400 KB
    for results in ([large] * 20, [(1, b"1" * 400_000)] * 20, ["1", "1", "1" * 400_000]):
        chunks = Chunks(list(range(1000)), None, 2, ItemCost())
        chunks.learn(1e-5, results)
        assert len(chunks.take()) == 2
        chunks.learn(1e-5, [None] * 20)  # there may be more large ones
        assert len(chunks.take()) < 5
        for _ in range(40):
            chunks.learn(1e-5, [None] * 20)
        assert len(chunks.take()) > 100
    for item in (large, (large, 1), b"1" * 400_000):
        chunks = Chunks([item] * 1000, None, 2, ItemCost())
        chunks.learn(1e-5, [None] * 20)
        assert len(chunks.take()) == 2
