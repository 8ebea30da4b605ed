"""Affinity: a task runs where its data already is.

    python examples/affinity.py

Eight tables are asked forty questions each. A table takes long to make and stays with the
worker that made it, so questions about it prefer that worker: strongly, but another worker
makes the table again rather than stand idle while many questions wait. The list of who
has asked is in one worker alone, so what concerns it is bound there by force.

SPDX-License-Identifier: BSD-3-Clause
"""

import random

import numpy as np
from numpy.typing import NDArray

from workpool import WorkerPool, current_client

TABLES, QUESTIONS = 8, 40
WORKERS = 2


def make_table(number: int) -> NDArray[np.float64]:
    """Return the table with this number: shape ``(rows, QUESTIONS)``."""
    return np.random.default_rng(number).normal(number, 1.0, (20_000, QUESTIONS))


def answer(number: int, column: int) -> tuple[float, bool]:
    """Return the mean of a column, and whether the table had to be made for that."""
    tables = vars(current_client().state).setdefault("tables", {})
    absent = number not in tables
    if absent:
        tables[number] = make_table(number)
    return float(tables[number][:, column].mean()), absent


def note(number: int) -> int:
    """Note that a table was asked; return how often any was."""
    asked = vars(current_client().state).setdefault("asked", [])
    asked.append(number)
    return len(asked)


def main() -> None:
    """Ask every question once, in no order."""
    questions = [(number, column) for number in range(TABLES) for column in range(QUESTIONS)]
    random.Random(1).shuffle(questions)
    with WorkerPool(max_workers=WORKERS) as pool:
        register = pool.options(worker_affinity=1, affinity_strength="force")
        at_home = [
            pool.options(worker_affinity=1 + number % WORKERS, affinity_strength="strong")
            for number in range(TABLES)
        ]
        noted = [register.submit(note, number) for number, _ in questions]
        tasks = [at_home[number].submit(answer, number, column) for number, column in questions]
        answers = [task.result() for task in tasks]
        # One list, in one process: each note found all that were made before.
        assert sorted(task.result() for task in noted) == list(range(1, len(questions) + 1))
    for (number, _), (mean, _) in zip(questions, answers, strict=True):
        assert abs(mean - number) < 0.05
    made = sum(absent for _, absent in answers)
    print(f"{len(questions)} questions, {TABLES} tables, made {made} times")


if __name__ == "__main__":
    main()
