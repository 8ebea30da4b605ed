"""A tiny ``/dev/shm``, as Docker gives: errors that say what to do, never SIGBUS, and small payloads go on.

Each test is a script in a mount namespace of its own, where ``/dev/shm`` has 64 MB.

SPDX-License-Identifier: BSD-3-Clause
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pool_support import script_environment

# In a namespace of its own; "$@" is what runs there.
MOUNT = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
INSIDE = ["unshare", "--mount", "sh", "-c", MOUNT, "sh"]


def why_not() -> str | None:
    """What the system does not let us do; None if it does."""
    if shutil.which("unshare") is None:
        return "no unshare command (util-linux)"
    done = subprocess.run([*INSIDE, "true"], capture_output=True, text=True)
    return f"mount namespaces are not permitted here (not root?): {done.stderr}" if done.returncode else None


MISSING = why_not()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")

COMMON = """\
import gc, os
import array_tasks as tasks
import numpy as np
from workpool import ArenaFull, WorkerPool, current_client

MIB = 1 << 20
ITEMS = MIB // 8  # of float64: 1 MiB


def child_total(mib):
    return current_client().submit(tasks.total, np.ones(mib * ITEMS)).result()


def child_result(mib):
    return float(current_client().submit(np.ones, mib * ITEMS).result().sum())


def made_total(mib):
    return float(tasks.made(mib * ITEMS, 1.0).sum())


def what_is_as_large_as(pool, mib):
    # Each way that a payload of so many MiB can go.
    return {
        "argument": lambda: pool.submit(tasks.total, np.ones(mib * ITEMS)).result(),
        "result": lambda: pool.submit(np.ones, mib * ITEMS).result().sum(),
        "bytes": lambda: len(pool.submit(bytes, mib * MIB).result()) // 8,
        "made": lambda: pool.submit(made_total, mib).result(),
        "shared": lambda: pool.full(mib * ITEMS, 1.0).sum(),
        "child's argument": lambda: pool.submit(child_total, mib).result(),
        "child's result": lambda: pool.submit(child_result, mib).result(),
    }


def goes(pool, mib):
    for name, attempt in what_is_as_large_as(pool, mib).items():
        assert attempt() == mib * ITEMS, name


def refusal(attempt, *args):
    try:
        attempt(*args)
    except ArenaFull as full:
        return full
    raise AssertionError("no error")


def is_refused(pool, mib, budget, *says):
    for name, attempt in what_is_as_large_as(pool, mib).items():
        print(name)
        full = refusal(attempt)
        assert full.never, name  # nobody waits for it
        assert full.asked >= mib * MIB and full.budget == budget, (name, vars(full))
        assert 0 < full.free <= budget, (name, vars(full))
        assert all(word in str(full) for word in ("WorkerPool(memory=", *says)), (name, str(full))


def small_ones_go(pool):
    assert list(pool.map(tasks.total, [np.ones(2000)] * 200)) == [2000.0] * 200
    assert pool.submit(np.ones, 10_000).result().sum() == 10_000.0
    assert pool.submit(tasks.made_then_child, 10_000).result() == 20_000.0
    assert pool.submit(pow, 2, 3).result() == 8


def tiny_ones_go(pool):
    # They need no memory but that of their slots.
    for i in range(50):
        assert pool.submit(pow, 2, i).result() == 2**i
        assert pool.submit(tasks.identity, np.arange(3)).result().sum() == 3
    assert list(pool.map(tasks.one, range(40))) == [1] * 40


def what_flows(pool, mib, count):
    # More than there is, though never at once.
    arrays = (np.full(mib * ITEMS, float(i)) for i in range(count))
    assert [int(array[7]) for array in pool.map(np.negative, arrays)] == [-i for i in range(count)]
    kept = list(pool.map(np.full, [mib * ITEMS] * count, range(count)))
    assert [int(array[7]) for array in kept] == list(range(count))


def free():
    status = os.statvfs("/dev/shm")
    return status.f_bavail * status.f_frsize


def fill():
    with open("/dev/shm/other", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            return


assert 60 * MIB < free() <= 64 * MIB
"""


def run(tmp_path: Path, text: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(COMMON + text + '\nassert os.listdir("/dev/shm") == []\n')
    done = subprocess.run(
        [*INSIDE, sys.executable, "-X", "faulthandler", str(path)],
        capture_output=True, text=True, timeout=50, cwd=tmp_path, env=script_environment(),
    )  # fmt: skip
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr


def test_budget_is_half_of_what_there_is(tmp_path: Path) -> None:
    run(
        tmp_path,
        """\
with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
    budget = pool._seat.budget_bytes
    assert 28 * MIB < budget <= 32 * MIB
    is_refused(pool, 40, budget, "raise")
    goes(pool, 20)
    what_flows(pool, 4, 24)
    small_ones_go(pool)
""",
    )


def test_budget_beyond_what_there_is(tmp_path: Path) -> None:
    run(
        tmp_path,
        """\
with WorkerPool(max_workers=2, tasks_per_worker=0, memory=1 << 30) as pool:
    is_refused(pool, 100, pool._seat.budget_bytes, "/dev/shm", "enlarge it")
    small_ones_go(pool)
    goes(pool, 20)
    what_flows(pool, 4, 24)
    small_ones_go(pool)
""",
    )


def test_others_eat_it_while_the_pool_runs(tmp_path: Path) -> None:
    run(
        tmp_path,
        """\
with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
    tiny_ones_go(pool)
    fill()
    assert free() == 0
    full = refusal(lambda: pool.submit(tasks.total, np.ones(8 * ITEMS)).result())
    assert full.no_memory and full.asked > 8 * MIB and "/dev/shm" in str(full), full
    assert refusal(pool.zeros, 8 * ITEMS).no_memory
    tiny_ones_go(pool)
    os.unlink("/dev/shm/other")
    goes(pool, 8)
    # What the pool has taken before, it keeps, and works in that.
    what_flows(pool, 1, 10)
    fill()
    what_flows(pool, 1, 60)
    tiny_ones_go(pool)
os.unlink("/dev/shm/other")
""",
    )


def test_result_waits_until_others_make_room(tmp_path: Path) -> None:
    run(
        tmp_path,
        """\
with WorkerPool(max_workers=2, tasks_per_worker=0) as pool:
    tiny_ones_go(pool)
    fill()
    waiting = pool.submit(np.ones, 8 * ITEMS)
    assert pool.submit(pow, 2, 3).result() == 8
    while not waiting.running():
        pass
    os.unlink("/dev/shm/other")
    assert waiting.result().sum() == 8 * ITEMS
    small_ones_go(pool)
""",
    )


def test_pool_itself_does_not_fit(tmp_path: Path) -> None:
    run(
        tmp_path,
        """\
fill()
full = refusal(WorkerPool, None, 2)
assert full.no_memory and "/dev/shm" in str(full)
os.unlink("/dev/shm/other")
with WorkerPool(max_workers=2) as pool:
    small_ones_go(pool)
""",
    )
