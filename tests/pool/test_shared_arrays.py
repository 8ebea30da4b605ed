"""Arrays in shared memory: made by the pool, written in place by any worker.

SPDX-License-Identifier: BSD-3-Clause
"""

import dataclasses
import functools
import gc
import multiprocessing
import pickle
from typing import Any

import array_tasks as tasks
import numpy as np
import pytest
from helpers import wait_until

from workpool import ArenaFull, PoolClosed, WorkerDied, WorkerPool, WorkpoolError

Pool = WorkerPool[Any, Any]

# A block of 1 KiB for each function that was sent.
FUNCTIONS = 16 * 1024


def used(pool: Pool) -> int:
    pool._seat.trim_arena(0)
    return int(pool._seat.usage()[0][2])


def test_they_are_plain_arrays(pool: Pool) -> None:
    empty = pool.empty((3, 4), np.float32)
    assert type(empty) is np.ndarray and empty.shape == (3, 4) and empty.dtype == np.float32
    assert empty.flags.c_contiguous and empty.flags.writeable and not empty.flags.owndata
    assert pool.empty(5).shape == (5,) and pool.empty(5).dtype == float
    assert pool.empty((), int).shape == () and pool.empty((0, 3)).size == 0
    np.testing.assert_array_equal(pool.zeros((50, 60), complex), np.zeros((50, 60), complex))
    assert pool.zeros((0, 2)).shape == (0, 2) and pool.zeros((), int) == 0
    np.testing.assert_array_equal(pool.full((2, 3), 7), np.full((2, 3), 7))
    assert pool.full(2, 7).dtype == np.full(2, 7).dtype and pool.full(2, 7, "f4").dtype == np.float32
    source = np.asfortranarray(np.arange(12).reshape(3, 4))
    copy = pool.array(source)
    np.testing.assert_array_equal(copy, source)
    assert copy.flags.f_contiguous and not np.shares_memory(copy, source)
    assert pool.array([1.5, 2]).tolist() == [1.5, 2.0]
    assert pool.array(["a", "bcd"]).tolist() == ["a", "bcd"]
    assert (pool.zeros(3, "M8[s]") == np.zeros(3, "M8[s]")).all()
    assert pool.empty(4).ctypes.data % 64 == 0


def test_what_cannot_be_shared_says_so(pool: Pool) -> None:
    with pytest.raises(TypeError, match="cannot be shared"):
        pool.empty(3, object)
    with pytest.raises(TypeError, match="cannot be shared"):
        pool.array([None, "x"])
    with pytest.raises(ValueError, match="negative"):
        pool.empty((2, -1))


def test_workers_write_in_place(pool: Pool) -> None:
    array = pool.zeros((100, 50))
    pool.submit(tasks.fill, array, 2.0).result()
    assert array.sum() == 10_000.0
    for task in [pool.submit(tasks.fill, array[i], float(i)) for i in range(100)]:
        task.result()
    np.testing.assert_array_equal(array, np.repeat(np.arange(100.0), 50).reshape(100, 50))


VIEWS = {
    "slice": lambda a: a[10:20],
    "one": lambda a: a[3],
    "strided": lambda a: a[::3, 5:40:7],
    "reversed": lambda a: a[::-1, ::-2],
    "transposed": lambda a: a.T,
    "reshaped": lambda a: a.reshape(50, 100)[7],
    "view of a view": lambda a: a[2:90].T[4:8][::-1],
    "other items": lambda a: a.view(np.int64)[5],
    "raw": lambda a: a.reshape(-1).view(np.uint8)[800:1600],
    "small": lambda a: a[1, 1:2],
    "item": lambda a: a[1, 1, ...],
    "through a buffer": lambda a: np.frombuffer(memoryview(a), float)[100:200],
    "new axis": lambda a: a[:, None, 4],
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_pass_by_reference(lasting_pool: Pool, name: str) -> None:
    array, serial = lasting_pool.zeros((100, 50)), np.zeros((100, 50))
    VIEWS[name](serial)[...] = 3
    view = VIEWS[name](array)
    before = used(lasting_pool)
    lasting_pool.submit(tasks.fill, view, 3).result()
    np.testing.assert_array_equal(array, serial)
    assert used(lasting_pool) <= before + FUNCTIONS
    array[...] = 1
    back = lasting_pool.submit(tasks.identity, view).result()
    np.testing.assert_array_equal(back, view)
    assert back.strides == view.strides and np.shares_memory(back, array)


@dataclasses.dataclass
class Problem:
    field: Any
    options: dict[str, Any]


def test_nested_in_containers_and_objects(pool: Pool) -> None:
    arrays = [pool.zeros(300) for _ in range(3)]
    pool.submit(tasks.fill_all, [arrays[0], arrays[1][::2]], 1.0).result()
    pool.submit(tasks.fill_all, {"a": arrays[2]}, 2.0).result()
    assert [array.sum() for array in arrays] == [300.0, 150.0, 600.0]

    def solve(problem: Any) -> None:
        problem.field[...] += 1
        problem.options["out"][...] = problem.field.sum()

    pool.submit(solve, Problem(arrays[0][:100], {"out": arrays[1][3::7]})).result()
    assert arrays[0].sum() == 400.0 and arrays[1][3] == 200.0
    pool.submit(functools.partial(tasks.fill, arrays[2]), 5.0).result()

    class Local:  # that no worker can import: cloudpickle's
        def __init__(self, field: Any) -> None:
            self.field = field

    pool.submit(solve, Local(arrays[0])).exception()
    assert arrays[0].sum() == 700.0
    assert arrays[2].sum() == 1500.0


def test_usable_as_out(pool: Pool) -> None:
    a, b, out = pool.full(2000, 3.0), pool.full(2000, 4.0), pool.empty(2000)
    pool.submit(lambda a, b, out: np.hypot(a, b, out=out) is out, a, b, out).result()
    assert (out == 5.0).all()
    assert np.add(a, b, out=out) is out and (out == 7.0).all()


def test_read_only_views_stay_so(pool: Pool) -> None:
    view = pool.zeros(100)[:]
    view.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        pool.submit(tasks.fill, view, 1.0).result()


def test_thousands_of_views_of_one_array(pool: Pool) -> None:
    array = pool.zeros(5000)
    pool.submit(tasks.fill_all, [array[i : i + 1] for i in range(5000)], 1.0).result()
    assert array.sum() == 5000.0


def test_memory_is_kept_while_anybody_looks_and_no_longer(pool: Pool) -> None:
    start = used(pool)
    array = pool.full(100_000, 3.0)
    assert used(pool) >= start + 800_000
    pool.run_on_workers(tasks.keep, "shared", array[::2])
    del array
    gc.collect()
    for _ in range(10):
        other = pool.zeros(100_000)
    assert pool.run_on_workers(tasks.kept_total, "shared") == [150_000.0] * 2
    del other
    pool.run_on_workers(tasks.drop, "shared")
    wait_until(lambda: used(pool) <= start + FUNCTIONS)


def test_dropped_while_its_task_waits(pool: Pool) -> None:
    start = used(pool)
    waiting = [pool.submit(tasks.nap, 0.05) for _ in range(4)]
    last = pool.submit(tasks.total, pool.full(50_000, 2.0))
    cancelled = pool.submit(tasks.total, pool.full(50_000, 2.0))
    assert cancelled.cancel()
    del cancelled
    gc.collect()
    others = [pool.zeros(50_000) for _ in range(4)]
    assert last.result() == 100_000.0
    del others, last, waiting
    gc.collect()
    wait_until(lambda: used(pool) <= start + FUNCTIONS)


def test_a_kept_one_comes_back_as_itself() -> None:
    with WorkerPool(max_workers=1) as pool:
        start = used(pool)
        array = pool.full(50_000, 2.0)
        pool.submit(tasks.keep, "s", array).result()
        back = pool.submit(tasks.pop_value, "s").result()
        assert np.shares_memory(back, array)
        del back
        pool.submit(tasks.keep, "s", array).result()
        del array
        gc.collect()
        assert pool.submit(tasks.kept_value, "s").result().sum() == 100_000.0
        assert pool.submit(tasks.pop_value, "s").result().sum() == 100_000.0
        pool.submit(tasks.identity, np.ones(5000)).result()
        wait_until(lambda: used(pool) <= start + FUNCTIONS)


def test_a_killed_borrower_does_not_take_it_along(pool: Pool) -> None:
    start = used(pool)
    array = pool.full(50_000, 1.0)
    for _ in range(3):
        with pytest.raises(WorkerDied):
            pool.submit(tasks.die, array).result()
    assert pool.submit(tasks.total, array).result() == 50_000.0
    del array
    gc.collect()
    wait_until(lambda: used(pool) <= start + FUNCTIONS)


def test_an_error_names_another_pool() -> None:
    with WorkerPool(max_workers=1) as pool, WorkerPool(max_workers=1) as other:
        array = pool.zeros(10)
        with pytest.raises(WorkpoolError, match="another pool"):
            other.submit(tasks.total, array).result()
        with pytest.raises(WorkpoolError, match="another pool"):
            other.submit(tasks.fill_all, [array[:2]], 1.0).result()
        assert other.submit(tasks.total, array.copy()).result() == 0.0
        # What came as a result is an array like any other.
        result = pool.submit(tasks.made, 5000, 1.0).result()
        assert other.submit(tasks.total, result).result() == 5000.0


def test_an_error_names_a_pool_that_is_gone() -> None:
    with WorkerPool(max_workers=1) as pool:
        array = pool.zeros(10)
    with pytest.raises(PoolClosed):
        pool.zeros(3)
    array += 1
    assert array.sum() == 10.0
    with WorkerPool(max_workers=1) as other, pytest.raises(WorkpoolError, match="shut down"):
        other.submit(tasks.total, array).result()


def test_every_way_to_a_pool_that_does_not_see_it_says_so() -> None:
    with WorkerPool(tasks.total, max_workers=1) as pool:
        array = pool.full(500, 2.0)
        kept = pool.submit(tasks.identity, array[::2]).result()  # it came back by reference
    with WorkerPool(tasks.total, max_workers=1) as other:
        offers: list[Any] = [
            lambda value: other.add_task(value).result(),
            lambda value: other.submit(tasks.total, value).result(),
            lambda value: other.submit(tasks.total, array=value).result(),
            lambda value: list(other.map(tasks.total, [value, value])),
            lambda value: other.submit(functools.partial(tasks.total, value)).result(),
            lambda value: list(other.map(functools.partial(np.add, value), [1.0])),
            lambda value: other.submit(tasks.fill_all, {"a": (value,)}, 1.0).result(),
            lambda value: other.map_blocks(np.sqrt, value),
            lambda value: other.map_blocks(np.sqrt, np.ones(250), out=value),
        ]
        for value in (array[1::2], kept):
            for offer in offers[:-2]:
                with pytest.raises(WorkpoolError, match="shut down: pass a copy"):
                    offer(value)
            assert other.submit(tasks.total, value.copy()).result() == 500.0
        assert array.sum() == 1000.0 and kept.sum() == 500.0


def test_pickled_by_others_it_is_a_copy(pool: Pool) -> None:
    array = pool.full(100, 2.0)
    copy = pickle.loads(pickle.dumps(array[::2]))
    copy[...] = 0
    assert array.sum() == 200.0
    with multiprocessing.get_context("spawn").Pool(1) as others:
        # A process that does not map it gets what is in it, of whatever shape.
        for view in (array, array[::-2], array.reshape(4, 25).T):
            assert others.apply(tasks.add_up, ([view],)) == 2.0 * view.size
        others.apply(tasks.fill, (array, 5.0))
        assert array.sum() == 200.0
    pool.run_on_workers(tasks.keep, "n", 1)
    pool.post_message_to_workers("an array", array)


def test_tasks_inside_tasks_share_them_too(pool: Pool) -> None:
    def halves(array: Any) -> Any:
        from workpool import current_client

        client = current_client()
        middle = len(array) // 2
        for task in [
            client.submit(tasks.fill, array[:middle], 1.0),
            client.submit(tasks.fill, array[middle:], 2.0),
        ]:
            task.result()
        return array[middle - 1 : middle + 1]

    array = pool.zeros(10_000)
    assert np.shares_memory(pool.submit(halves, array).result(), array)
    assert array.sum() == 15_000.0


def test_more_than_there_is_room_for_is_an_error_at_once() -> None:
    with WorkerPool(max_workers=1, memory=4 << 20) as pool:
        with pytest.raises(ArenaFull) as caught:
            pool.zeros(10_000_000)
        assert caught.value.asked >= 80_000_000 and caught.value.budget == 4 << 20
        assert "memory=" in str(caught.value)
        assert pool.zeros(100_000).sum() == 0.0


def test_more_than_a_worker_can_look_at_is_an_error_that_says_how_many(pool: Pool) -> None:
    arrays = [pool.full(10, float(i)) for i in range(300)]
    assert pool.submit(len, arrays[:200]).result() == 200
    with pytest.raises(WorkpoolError, match=r"256 shared arrays .* fewer, larger ones"):
        pool.submit(len, arrays).result()
    whole = pool.zeros((300, 10))
    assert pool.submit(len, list(whole)).result() == 300
    assert pool.submit(tasks.total, arrays[7]).result() == 70.0
