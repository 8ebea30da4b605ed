"""map_blocks, reduce, parallel_for: every row once, and the same bits whoever did them.

SPDX-License-Identifier: BSD-3-Clause
"""

import operator
import time
from typing import Any

import array_tasks as tasks
import numpy as np
import pytest

from workpool import WorkerDied, WorkerPool

Pool = WorkerPool[Any, Any]


def double(block: Any) -> Any:
    return 2 * block


def add(a: Any, b: Any) -> Any:
    return a + b


def in_place(block: Any) -> None:
    block += 1


def uneven(block: Any) -> Any:
    """The last rows take a hundred times as long."""
    for value in block:
        end = time.perf_counter() + (2e-4 if value > 900 else 2e-6)
        while time.perf_counter() < end:
            pass
    return block + 1


def draw(block: Any, rng: Any) -> Any:
    return rng.random(len(block))


def inside(block: range, rng: Any) -> int:
    x, y = rng.random((2, 100 * len(block)))
    return int((x * x + y * y < 1).sum())


def draw_one(i: int, out: Any, rng: Any) -> None:
    out[i] = rng.random()


def count(i: int, hits: Any) -> None:
    hits[i] += 1


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 1000, 50_001])
@pytest.mark.parametrize("grain", [None, 1, 64, 10**6])
def test_map_blocks_is_the_function_of_the_whole(lasting_pool: Pool, rows: int, grain: int | None) -> None:
    array = np.arange(rows * 3.0).reshape(rows, 3)
    result = lasting_pool.map_blocks(double, array, grain=grain)
    np.testing.assert_array_equal(result, 2 * array)
    assert result.shape == array.shape and result.dtype == float
    assert array.sum() == np.arange(rows * 3.0).sum()


def test_out_is_written_and_given_back(pool: Pool) -> None:
    a, b = pool.array(np.arange(5000)), np.arange(5000)[::-1]
    shared, plain = pool.empty(5000, int), np.zeros(5000, int)
    assert pool.map_blocks(add, a, b, out=shared) is shared
    assert pool.map_blocks(add, a, b, out=plain) is plain
    assert (shared == 4999).all() and (plain == 4999).all()
    assert pool.map_blocks(double, a, out=a) is a
    np.testing.assert_array_equal(a, 2 * np.arange(5000))


def test_blocks_of_shared_arrays_are_written_in_place(pool: Pool) -> None:
    array = pool.zeros((3000, 2))
    assert pool.map_blocks(in_place, array) is None
    assert (array == 1).all()
    assert pool.map_blocks(in_place, array[::3].T, axis=1, grain=10) is None
    assert array.sum() == 6000 + 2000


def test_other_axes_and_other_types(pool: Pool) -> None:
    array = np.arange(24_000.0).reshape(4, 3000, 2)
    result = pool.map_blocks(double, array, axis=1)
    np.testing.assert_array_equal(result, 2 * array)
    rows = pool.map_blocks(lambda block: block.sum(axis=(1, 2)).astype("f4"), array)
    np.testing.assert_array_equal(rows, array.sum(axis=(1, 2)).astype("f4"))
    assert pool.map_blocks(list, range(100)).tolist() == list(range(100))


def test_what_does_not_fit_is_an_error(pool: Pool) -> None:
    with pytest.raises(ValueError, match="different lengths"):
        pool.map_blocks(add, np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="axis 2"):
        pool.map_blocks(double, np.zeros((3, 3)), axis=2)
    with pytest.raises(ValueError, match="rows along axis"):
        pool.map_blocks(double, np.zeros(3), out=np.zeros(4))
    with pytest.raises(ValueError, match="same number"):
        pool.map_blocks(lambda block: block[:-1], np.zeros(30))
    with pytest.raises(ValueError, match="grain"):
        pool.map_blocks(double, np.zeros(3), grain=0)
    with pytest.raises(ValueError, match="no rows"):
        pool.reduce(np.sum, np.zeros(0))
    with pytest.raises(TypeError, match="function"):
        pool.map_blocks(3, np.zeros(3))  # type: ignore[arg-type]


def test_an_error_in_a_block_comes_out_when_no_other_is_written(pool: Pool) -> None:
    def fail(block: Any) -> Any:
        if 40_000 in block:
            raise LookupError("at 40,000")
        return block

    with pytest.raises(LookupError, match="at 40,000"):
        pool.map_blocks(fail, np.arange(50_000))
    pool.when_idle().result(10)
    with pytest.raises(LookupError):
        pool.reduce(fail, np.arange(50_000))
    assert pool.map_blocks(double, np.arange(10)).tolist() == list(range(0, 20, 2))


def test_a_death_in_a_block_fails_the_call_alone(pool: Pool) -> None:
    with pytest.raises(WorkerDied):
        pool.parallel_for(lambda i: tasks.die() if i == 700 else None, 1000)
    assert pool.reduce(len, range(1000)) == 1000


def test_every_index_once_and_both_workers_help(pool: Pool) -> None:
    pool.wait_ready()
    hits = pool.zeros(200_000, int)
    pool.parallel_for(count, len(hits), hits)
    assert (hits == 1).all()
    pool.parallel_for(count, 0, hits)
    array = np.arange(1000.0)
    before = [worker.tasks_run for worker in pool.statistics().workers]
    for _ in range(3):
        np.testing.assert_array_equal(pool.map_blocks(uneven, array), array + 1)
    after = [worker.tasks_run for worker in pool.statistics().workers]
    assert all(now > then for now, then in zip(after, before, strict=True))


@pytest.mark.parametrize("grain", [None, 1000])
def test_reduce_is_bit_equal_whatever_the_number_of_workers(grain: int | None) -> None:
    array = np.random.default_rng(1).standard_normal((100_000, 3)).astype("f4") * 1e5
    results = []
    for workers in (1, 2, 4):
        with WorkerPool(max_workers=workers, tasks_per_worker=0) as pool:
            pool.wait_ready()
            results += [pool.reduce(lambda block: block.sum(axis=0), array, grain=grain) for _ in range(3)]
    assert len({result.tobytes() for result in results}) == 1
    np.testing.assert_allclose(results[0], array.astype(float).sum(axis=0), rtol=1e-2, atol=1e3)


def test_reduce_combines_in_order(pool: Pool) -> None:
    assert pool.reduce(list, range(3000), combine=operator.add, grain=7) == list(range(3000))
    assert pool.reduce(np.max, np.arange(1000), combine=max) == 999
    assert pool.reduce(np.sum, np.arange(5)) == 10
    assert pool.reduce(len, range(1)) == 1


def test_streams_belong_to_rows_and_not_to_workers() -> None:
    drawn, sums, each = [], [], []
    for workers in (1, 3):
        with WorkerPool(max_workers=workers, tasks_per_worker=0) as pool:
            pool.wait_ready()
            drawn.append(pool.map_blocks(draw, range(20_000), seed=7))
            sums.append(pool.reduce(inside, range(5000), seed=8))
            out = pool.empty(300)
            pool.parallel_for(draw_one, 300, out, seed=9)
            each.append(out)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert sums[0] == sums[1] and abs(4 * sums[0] / 500_000 - np.pi) < 0.02
    expected = [np.random.default_rng(child).random() for child in np.random.SeedSequence(9).spawn(300)]
    assert each[0].tolist() == each[1].tolist() == expected
    assert len(np.unique(drawn[0])) == 20_000
