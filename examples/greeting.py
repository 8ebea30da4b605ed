r"""The smallest entrypoint: one argument in, one result out.

    python examples/greeting.py Ada Grace
    printf 'Ada\nGrace\n' | python -m workpool run examples/greeting.py -

SPDX-License-Identifier: BSD-3-Clause
"""

import sys

from workpool import WorkerPool


def worker_entrypoint(name: str) -> str:
    """Greet one name."""
    return f"Hello, {name}!"


def main(names: list[str]) -> None:
    """Have each name greeted in a worker."""
    with WorkerPool(worker_entrypoint) as pool:
        for task in [pool.add_task(name) for name in names]:
            print(task.result())


if __name__ == "__main__":
    main(sys.argv[1:] or ["World"])
