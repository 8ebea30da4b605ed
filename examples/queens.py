"""A tree search: in how many ways do n queens stand on a board without a threat?

    python examples/queens.py 10

A task is a node of the tree of the first few rows, and submits its children; below, a task
counts by itself. Some subtrees are much smaller than others, and nobody has to know which.

Source: Richards, "Backtracking algorithms in MCPL using bit patterns and recursion", 1997.

SPDX-License-Identifier: BSD-3-Clause
"""

import sys
from collections.abc import Iterator

from workpool import WorkerPool, current_client

ROWS_OF_TASKS = 3
# Sequence A000170 of the On-Line Encyclopedia of Integer Sequences.
KNOWN = [1, 1, 0, 0, 2, 10, 4, 40, 92, 352, 724, 2680, 14_200, 73_712]

Node = tuple[int, int, int]  # columns that are taken or threatened: straight, from the left, from the right


def children(n: int, node: Node) -> Iterator[Node]:
    """Yield the positions with one more row filled."""
    straight, left, right = node
    free = ~(straight | left | right) & ((1 << n) - 1)
    while free:
        queen = free & -free
        free ^= queen
        yield straight | queen, (left | queen) << 1, (right | queen) >> 1


def count(n: int, row: int, node: Node) -> int:
    """Count the solutions below a position, here."""
    return 1 if row == n else sum(count(n, row + 1, child) for child in children(n, node))


def search(n: int, row: int, node: Node) -> int:
    """Count the solutions below a position, each child in a task while there are few."""
    if row >= min(n, ROWS_OF_TASKS):
        return count(n, row, node)
    client = current_client()
    tasks = [client.submit(search, n, row + 1, child) for child in children(n, node)]
    return sum(task.result() for task in tasks)


def main(n: int) -> None:
    """Count all solutions."""
    with WorkerPool() as pool:
        solutions = pool.submit(search, n, 0, (0, 0, 0)).result()
    if n < len(KNOWN):
        assert solutions == KNOWN[n]
    print(f"{n} queens: {solutions} solutions")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(int(sys.argv[1]))
