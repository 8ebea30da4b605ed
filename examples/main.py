"""Main: tasks that need something of the parent's, which no worker can have.

    python examples/main.py

Workers look for primes. What they find goes into a database whose connection lives in the
parent: those tasks are called there, between the others, and nothing of them is pickled.

SPDX-License-Identifier: BSD-3-Clause
"""

import sqlite3

from workpool import Task, WorkerPool

BELOW, STEP = 200_000, 10_000


def primes(start: int, stop: int) -> list[int]:
    """Return the primes of a range."""
    return [n for n in range(max(2, start), stop) if all(n % d for d in range(2, int(n**0.5) + 1))]


def main() -> None:
    """Count the primes, by SQL."""
    # Whichever thread of this process waits, or the pool's own, calls the tasks, one at a time.
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("CREATE TABLE primes (n INTEGER PRIMARY KEY)")

    def store(found: list[int]) -> None:
        with database:
            database.executemany("INSERT INTO primes VALUES (?)", [(n,) for n in found])

    with WorkerPool(max_workers=2) as pool:
        here = pool.options(worker_affinity="main")

        def found(task: Task[list[int]]) -> None:
            here.submit(store, task.result())

        for start in range(0, BELOW, STEP):
            pool.submit(primes, start, start + STEP).add_done_callback(found)
        pool.when_idle().result()
    (count,) = database.execute("SELECT count(*) FROM primes").fetchone()
    database.close()
    assert count == 17_984
    print(f"{count} primes below {BELOW}")


if __name__ == "__main__":
    main()
