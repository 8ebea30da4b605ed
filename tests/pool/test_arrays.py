"""Arrays as arguments and results: what arrives, what it looks at, and how long.

SPDX-License-Identifier: BSD-3-Clause
"""

import dataclasses
import gc
import pickle
import threading
from pathlib import Path
from typing import Any

import array_tasks as tasks
import numpy as np
import pytest
from helpers import wait_until

from workpool import RemoteError, WorkerDied, WorkerPool

Pool = WorkerPool[Any, Any]


# A block of 1 KiB for each function that was sent, and what a dead worker knew of.
FUNCTIONS = 16 * 1024


def used(pool: Pool) -> int:
    """Bytes of the arena in blocks, after what is doomed and unleased has gone."""
    pool._seat.trim_arena(0)
    return int(pool._seat.usage()[0][2])


def round_trip(pool: Pool, value: Any) -> Any:
    return pool.submit(tasks.identity, value).result()


KINDS = ["?", "i1", "u2", "<i4", ">i4", "i8", "f2", "f4", "f8", ">f8", "g", "c8", "c16", "S5", "U3", ">U3",
         "M8[D]", "m8[ns]", [("a", "i4"), ("b", "f8", (2,))],
         {"names": ["x"], "formats": ["i2"], "itemsize": 16}]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("items", [0, 1, 7, 40, 5000])
def test_every_kind_of_item_comes_back_as_it_was(lasting_pool: Pool, kind: Any, items: int) -> None:
    random = np.random.default_rng(items)
    dtype = np.dtype(kind)
    if dtype.kind in "US":
        array = random.integers(0, 99, items).astype(dtype)
    else:
        array = random.integers(0, 2, items * dtype.itemsize, np.uint8).view(dtype)
    for value in (array, array.reshape(-1, 1), array[::-1], array[::2]):
        back = round_trip(lasting_pool, value)
        assert type(back) is np.ndarray
        assert back.dtype == dtype and back.shape == value.shape and back.flags.writeable
        if dtype.names == ("x",):  # beside its field there is padding, which is nobody's
            back, value = back["x"], value["x"]
        assert back.tobytes() == value.tobytes()


@pytest.mark.parametrize("items", [3, 60])
def test_layouts_stay(lasting_pool: Pool, items: int) -> None:
    base = np.arange(items**3, dtype=float).reshape(items, items, items)
    for value in (base, np.asfortranarray(base), base.transpose(1, 0, 2), base[:, ::2], base[..., 1],
                  base[::-1, ::-3], np.broadcast_to(base[0, 0], (5, items)), base[:0],
                  np.array(3.0)):  # fmt: skip
        back = round_trip(lasting_pool, value)
        np.testing.assert_array_equal(back, value)
        assert back.shape == value.shape
        if value.flags.f_contiguous:
            assert back.flags.f_contiguous
    flags = lasting_pool.submit(tasks.describe, np.asfortranarray(base)).result()
    assert flags == ("float64", base.shape, True, False, True)


def test_large_arguments_are_views_and_writable(pool: Pool) -> None:
    array = np.ones(5000)
    assert pool.submit(tasks.is_view, array).result()
    assert not pool.submit(tasks.is_view, array[:20]).result()
    pool.submit(tasks.fill, array, 2.0).result()
    assert array.sum() == 5000.0  # private to the task


def test_read_only_arrays_arrive_writable(pool: Pool) -> None:
    array = np.ones(3000)
    array.flags.writeable = False
    assert pool.submit(tasks.describe, array).result()[2]


def test_scalars_of_numpy_stay_what_they_are(pool: Pool) -> None:
    for value in (
        np.float64(1.5),
        np.int8(-3),
        np.bool_(True),
        np.complex64(1j),
        np.float16(2),
        np.longdouble(3),
    ):
        back = round_trip(pool, value)
        assert type(back) is type(value) and back == value
    moment = np.datetime64("2020-01-02T03")
    assert round_trip(pool, moment) == moment
    assert round_trip(pool, [moment, np.ones(2000)])[0] == moment


def test_containers_and_repeats(pool: Pool) -> None:
    array, other = np.arange(3000.0), np.arange(4, dtype=np.int16)
    shared_list = [1]
    value = {
        "a": array,
        "b": (other, [array, None, {"c": other}], "text", b"bytes", 1.5, True),
        3: array[5:],
        "d": {},
    }
    back = round_trip(pool, value)
    assert list(back) == list(value)
    np.testing.assert_array_equal(back["a"], array)
    np.testing.assert_array_equal(back[3], array[5:])
    assert back["b"][1][0] is back["a"] and back["b"][1][2]["c"] is back["b"][0]
    assert back["b"][2:] == value["b"][2:]
    again = round_trip(pool, (shared_list, array, shared_list))
    assert again[0] is again[2] == [1]
    loop: list[Any] = [array]
    loop.append(loop)
    back = round_trip(pool, loop)
    assert back[1] is back
    np.testing.assert_array_equal(back[0], array)


@dataclasses.dataclass
class Reading:
    name: str
    values: Any
    parts: list[Any]


def test_arrays_inside_objects_are_views(pool: Pool) -> None:
    array = np.arange(20000.0)
    reading = Reading("x", array, [array, np.asfortranarray(array.reshape(100, 200)), array[::3], np.ones(3)])
    back = round_trip(pool, reading)
    np.testing.assert_array_equal(back.values, array)
    assert back.parts[0] is back.values
    np.testing.assert_array_equal(back.parts[2], array[::3])
    assert back.parts[1].flags.f_contiguous and back.values.flags.writeable
    assert tasks.is_view(back.values) and tasks.is_view(back.parts[2])
    assert pool.submit(lambda reading: tasks.is_view(reading.values), reading).result()


def test_other_buffers_travel_out_of_band(pool: Pool) -> None:
    class Holder:
        def __init__(self, data: Any) -> None:
            self.data = data

        def __reduce_ex__(self, protocol: Any) -> Any:
            return Holder, (pickle.PickleBuffer(self.data),)

    for size in (10, 100_000):
        back = round_trip(pool, Holder(bytearray(b"ab" * size)))
        assert bytes(back.data) == b"ab" * size and not memoryview(back.data).readonly
        back = round_trip(pool, Holder(b"ab" * size))
        assert bytes(back.data) == b"ab" * size and memoryview(back.data).readonly


def test_object_arrays_and_subclasses_are_pickled(pool: Pool) -> None:
    objects = np.array([1, "x", None], dtype=object)
    assert round_trip(pool, objects).tolist() == objects.tolist()
    assert round_trip(pool, [objects, np.ones(4000)])[0].tolist() == objects.tolist()
    fields = np.array([(1, "y")], dtype=[("a", "i4"), ("b", object)])
    assert round_trip(pool, fields).tolist() == fields.tolist()
    masked = np.ma.masked_array(np.arange(4000.0), np.arange(4000) % 2)
    back = round_trip(pool, masked)
    assert type(back) is np.ma.MaskedArray
    assert back.mask.tolist() == masked.mask.tolist() and back.sum() == masked.sum()
    records = np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    assert type(round_trip(pool, records)) is np.recarray


def test_subclasses_come_back_as_what_they_were(pool: Pool, tmp_path: Path) -> None:
    named = np.arange(4000.0).reshape(40, 100).view(tasks.Named)
    named.name = "x"
    for value in (named, named.T[::-1], named[:1, :2]):
        back = round_trip(pool, [value, np.ones(2000)])[0]
        assert type(back) is tasks.Named and back.name == "x"
        np.testing.assert_array_equal(back, value)
    mapped = np.memmap(tmp_path / "data", np.int32, "w+", shape=(5000,))
    mapped[:] = np.arange(5000)
    assert round_trip(pool, {"m": mapped})["m"].tolist() == list(range(5000))
    mask = np.ma.masked_array(np.zeros(3000, [("a", "i4"), ("b", "f8")]), mask=(True, False))
    back = round_trip(pool, (mask, mask["a"]))
    assert back[0].mask.tolist() == mask.mask.tolist() and back[1].mask.all()


def test_every_kind_at_any_depth(pool: Pool) -> None:
    kinds = {str(kind): np.zeros(n, kind) for kind in KINDS for n in (0, 3, 3000)}
    more = [np.array(3, "f2"), np.array(None), np.array([1, "x", [2]] * 900, dtype=object),
            np.zeros((0, 5), ">f4"), np.arange(6000).reshape(60, 100).T, np.arange(5000)[::-3]]  # fmt: skip
    value = Reading("deep", {"kinds": [kinds, (kinds, more)]}, [Reading("in", tuple(more), [more])])
    back = round_trip(pool, value)
    for before, after in (
        (list(kinds.values()), list(back.values["kinds"][0].values())),
        (more, back.values["kinds"][1][1]),
        (more, list(back.parts[0].values)),
    ):
        for old, new in zip(before, after, strict=True):
            assert new.dtype == old.dtype and new.shape == old.shape and new.flags.writeable
            assert str(new.tolist()) == str(old.tolist())
    assert back.parts[0].parts[0][4] is back.values["kinds"][1][1][4]  # one array, wherever it was


def test_sparse_matrices_travel(pool: Pool) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.random(2000, 300, 0.05, format="csr", random_state=1)
    for form in ("csr", "csc", "coo", "bsr", "lil", "dok"):
        for value in (matrix.asformat(form), sparse.csr_array(matrix).asformat(form)):
            back = round_trip(pool, {"in": [value]})["in"][0]
            assert type(back) is type(value) and (back.tocsr() != matrix.tocsr()).nnz == 0
            assert form in ("lil", "dok") or tasks.is_view(back.data)
    band = sparse.diags_array([np.ones(3000), np.arange(2999.0)], offsets=[0, 1])
    back = round_trip(pool, band)
    assert type(back) is type(band) and back.offsets.tolist() == [0, 1]
    np.testing.assert_array_equal(back.data, band.data)


def test_map_over_arrays(pool: Pool) -> None:
    arrays = [np.full(2000 + i, i, dtype=float) for i in range(60)]
    assert list(pool.map(tasks.total, arrays)) == [array.sum() for array in arrays]
    for before, after in zip(arrays, pool.map(tasks.identity, arrays), strict=True):
        np.testing.assert_array_equal(before, after)


def test_memory_goes_back_when_nothing_looks_there(pool: Pool) -> None:
    round_trip(pool, np.ones(10))
    start = used(pool)
    results = [round_trip(pool, np.ones(200_000)) for _ in range(5)]
    results += [pool.submit(tasks.made, 100_000, 1.0).result()]
    assert used(pool) > start + 5 * 1_600_000
    del results
    gc.collect()
    wait_until(lambda: used(pool) <= start + FUNCTIONS)


def test_an_argument_kept_by_its_task_stays_valid() -> None:
    with WorkerPool(max_workers=1) as pool:
        round_trip(pool, np.ones(10))
        start = used(pool)
        pool.submit(tasks.keep, "a", np.full(50_000, 2.0)).result()
        for i in range(50):  # of the same size: they would take its place
            pool.submit(tasks.one, np.full(50_000, float(i))).result()
        assert pool.submit(tasks.kept_total, "a").result() == 100_000.0
        assert used(pool) > start + FUNCTIONS
        assert pool.submit(tasks.kept_value, "a").result().sum() == 100_000.0
        pool.submit(tasks.drop, "a").result()
        wait_until(lambda: used(pool) <= start + FUNCTIONS)


def test_an_argument_kept_in_part_stays_valid_as_a_whole(pool: Pool) -> None:
    result = round_trip(pool, {"a": np.ones(100_000), "b": np.full(5000, 2.0)})["b"]
    for _ in range(20):
        round_trip(pool, {"a": np.zeros(100_000), "b": np.zeros(5000)})
    assert result.sum() == 10_000.0


def test_a_result_made_in_the_arena_is_not_copied(pool: Pool) -> None:
    result = pool.submit(tasks.made, (300, 1000), 3.0).result()
    assert result.shape == (300, 1000) and result.sum() == 900_000.0 and result.flags.writeable
    assert tasks.loan_of(result).owns and not tasks.loan_of(result).shared
    assert tasks.loan_of(result).identity & 0xFF == ord("S")  # the block that the worker made itself
    group = pool.submit(tasks.made_group, 4, 3000).result()
    assert [group[f"n{i}"][0] for i in range(4)] == [0.0, 1.0, 2.0, 3.0]
    assert group["plain"].tolist() == list(range(3000)) and group["text"] == "x"
    assert len({tasks.loan_of(group[f"n{i}"]).offset for i in range(4)}) == 4
    pool.submit(tasks.fill, result, 0.0).result()
    assert result.sum() == 900_000.0  # now it is an array like any other


def test_a_result_that_its_worker_keeps_is_shared_memory_of_both() -> None:
    with WorkerPool(max_workers=1) as pool:
        result = pool.submit(tasks.made_and_kept, "m", 5000, 2.0).result()
        again = pool.submit(tasks.kept_value, "m").result()
        assert result.sum() == again.sum() == 10_000.0
        del again
        del result
        for _ in range(20):
            pool.submit(tasks.made, 5000, 0.0).result()
        assert pool.submit(tasks.kept_total, "m").result() == 10_000.0
        # Its owner has let go of it: it comes as a copy.
        assert pool.submit(tasks.pop_value, "m").result().sum() == 10_000.0


def test_results_of_tasks_inside_tasks(pool: Pool) -> None:
    start = used(pool)
    assert pool.submit(tasks.made_then_child, 10_000).result() == 20_000.0
    result = pool.submit(tasks.made_by_child, 30_000, 2.0).result()
    assert result.sum() == 60_000.0
    del result
    wait_until(lambda: used(pool) <= start + FUNCTIONS)


def test_results_stay_after_the_pool_is_gone() -> None:
    pool: Pool = WorkerPool(max_workers=1)
    result = pool.submit(tasks.made, 100_000, 1.0).result()
    plain = round_trip(pool, np.arange(5000.0))
    shared = pool.zeros(1000)
    pool.dispose()
    assert result.sum() == 100_000.0 and plain.sum() == np.arange(5000.0).sum()
    shared[...] = 1
    assert shared.sum() == 1000
    del pool
    gc.collect()
    assert result.sum() == 100_000.0


def test_results_stay_when_their_worker_is_killed(pool: Pool) -> None:
    result = pool.submit(tasks.made, 100_000, 1.0).result()
    plain = round_trip(pool, np.ones(50_000))
    for _ in range(4):
        with pytest.raises(WorkerDied):
            pool.submit(tasks.die).result()
    for i in range(20):
        assert pool.submit(tasks.made, 100_000, float(i)).result()[0] == i
    assert result.sum() == 100_000.0 and plain.sum() == 50_000.0


def test_results_that_nobody_took_stay_when_their_worker_is_killed() -> None:
    with WorkerPool(max_workers=1) as pool:
        pool.submit(tasks.one, 1).result()
        done = pool.submit(tasks.made_group, 3, 5000)
        wait_until(lambda: pool._seat.phases()[5] == 1)  # DONE, and nobody has looked
        dead = pool.submit(tasks.die)
        wait_until(lambda: pool._seat.phases()[5] == 2)
        wait_until(lambda: len(pool.workers) == 1 and pool.workers[0].state == "idle")
        more = [pool.submit(tasks.made, 5000, 9.0) for _ in range(5)]
        assert [done.result()[f"n{i}"].sum() for i in range(3)] == [0.0, 5000.0, 10_000.0]
        assert [task.result().sum() for task in more] == [45_000.0] * 5
        assert isinstance(dead.exception(), WorkerDied)


def test_a_retry_gets_what_was_sent(pool: Pool, tmp_path: Path) -> None:
    array = np.ones(40_000)
    task = pool.options(retries=2).submit(tasks.write_and_die, str(tmp_path / "mark"), array)
    assert task.result() == 40_000.0


SPOILT = {
    "in a dict": lambda: {"a": np.ones(40_000), "b": np.ones(20, int), "c": np.ones((70, 90)).T},
    "inline": lambda: [np.ones(10), np.ones(5, "f4")],
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_retry_of_a_chunk_gets_what_was_sent(pool: Pool, tmp_path: Path, name: str) -> None:
    groups = [SPOILT[name]() for _ in range(4)]
    items = [(str(tmp_path / str(i)), group) for i, group in enumerate(groups)]
    results = pool.options(retries=4).map(tasks.add_up_item, items, chunksize=2)
    assert list(results) == [tasks.add_up(group) for group in groups]


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("is_coroutine", [False, True])
@pytest.mark.parametrize("name", SPOILT)
def test_a_hook_that_spoils_the_argument_and_dies(
    tmp_path: Path, name: str, is_coroutine: bool, retries: int
) -> None:
    def plain(item: Any) -> float:
        return tasks.add_up(item[1])

    async def coroutine(item: Any) -> float:
        return tasks.add_up(item[1])

    entrypoint: Any = coroutine if is_coroutine else plain
    entrypoint.pre_task = lambda item: tasks.spoil_once(*item)
    group = SPOILT[name]()
    with WorkerPool(entrypoint, max_workers=2) as pool:
        # It has not begun when its hook runs: it is run again without retries too.
        task = pool.add_task((str(tmp_path / "mark"), group), retries=retries)
        assert task.result(30) == tasks.add_up(group)
        assert (tmp_path / "mark").exists()


def test_what_a_hook_writes_its_task_sees() -> None:
    def total(array: Any) -> float:
        return float(array.sum())

    total.pre_task = lambda array: tasks.fill(array, 2.0)  # type: ignore[attr-defined]
    array = np.ones(50_000)
    with WorkerPool(total, max_workers=1) as hooked:
        assert hooked.add_task(array).result() == 100_000.0
        assert array.sum() == 50_000.0
        shared = hooked.full(50_000, 1.0)
        assert hooked.add_task(shared).result() == 100_000.0 == shared.sum()
        # Functions have no hook: what they are given are views.
        assert hooked.submit(tasks.is_view, array).result()


def test_deaths_leave_nothing_behind(pool: Pool) -> None:
    round_trip(pool, np.ones(10))
    start = used(pool)
    for i in range(6):
        tasks_now = [pool.submit(tasks.made, 20_000, 1.0), pool.submit(tasks.identity, np.ones(30_000))]
        dead = pool.submit(tasks.die, np.ones(10_000 * (i + 1)))
        with pytest.raises(WorkerDied):
            dead.result()
        for task in tasks_now:
            try:
                task.result()
            except WorkerDied:
                pass
        del task, tasks_now, dead
    gc.collect()
    wait_until(lambda: used(pool) <= start + FUNCTIONS)


def test_a_fork_of_a_task_sees_its_arrays(pool: Pool) -> None:
    assert pool.submit(tasks.fork_and_sum, np.ones(9000)).result() == 9000.0


def test_a_worker_imports_numpy_with_the_first_array_only() -> None:
    with WorkerPool(max_workers=1) as pool:
        assert not pool.submit(eval, "'numpy' in __import__('sys').modules").result()
        assert pool.submit(pow, 2, 3).result() == 8
        assert not pool.submit(eval, "'numpy' in __import__('sys').modules").result()


def test_errors_with_arrays_come_back(pool: Pool) -> None:
    def fail(array: Any) -> None:
        raise ValueError("of arrays", array)

    with pytest.raises(ValueError, match="of arrays") as caught:
        pool.submit(fail, np.arange(3000)).result()
    np.testing.assert_array_equal(caught.value.args[1], np.arange(3000))


def test_what_cannot_be_pickled_beside_an_array_is_the_outcome(pool: Pool) -> None:
    with pytest.raises(TypeError):
        pool.submit(tasks.identity, (np.ones(3000), threading.Lock())).result()
    with pytest.raises(RemoteError):
        pool.submit(lambda: (np.ones(3000), threading.Lock())).result()
    assert pool.submit(tasks.total, np.ones(3000)).result() == 3000.0


def test_threads_send_arrays_at_once(pool: Pool) -> None:
    wrong: list[object] = []

    def send(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(60):
            array = random.random(int(random.integers(0, 30_000)))
            back = round_trip(pool, array)
            if back.tobytes() != array.tobytes():
                wrong.append(len(array))

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_more_results_than_leases_are_kept(pool: Pool) -> None:
    results = list(pool.map(tasks.identity, [np.full(200, i, dtype=float) for i in range(6000)], chunksize=1))
    assert [int(result[7]) for result in results] == list(range(6000))
