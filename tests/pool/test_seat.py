"""Two seats in one process: what an outcome may write over.

SPDX-License-Identifier: BSD-3-Clause
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from workpool import _core
from workpool.errors import ArenaFull
from workpool.runner import Runner
from workpool.segments import Segments
from workpool.task import Task


@pytest.fixture
def seats() -> Iterator[tuple[_core.Seat, _core.Seat]]:
    segments = Segments(2, 1, 1 << 20, False)
    pair = [
        _core.Seat(segments.control.buf, segments.arena.buf, segments.arena_fd, index) for index in (0, 1)
    ]
    yield pair[0], pair[1]
    for seat in pair:
        seat.close()
    segments.close()


def claimed(parent: _core.Seat, worker: _core.Seat, argument: Any, attempts: int = 1) -> int:
    assert parent.start(Task(parent), None, _core.CALL_ONE, argument, attempts)
    index = worker.next(False)
    assert index >= 0
    return index


def argument_after_an_error(parent: _core.Seat, worker: _core.Seat, *, entered: bool, attempts: int) -> Any:
    index = claimed(parent, worker, ("argument", 7), attempts)
    if entered:
        worker.enter(index)
    worker.finish(index, _core.OUTCOME_ERROR, b"x" * 100)
    return worker.open(index)[2]


def test_error_of_a_task_that_was_not_entered_leaves_its_argument(seats: Any) -> None:
    # A worker that dies while it writes the error is followed by one that runs the task.
    assert argument_after_an_error(*seats, entered=False, attempts=1) == ("argument", 7)


def test_error_of_a_task_that_may_be_retried_leaves_its_argument(seats: Any) -> None:
    assert argument_after_an_error(*seats, entered=True, attempts=2) == ("argument", 7)


@pytest.mark.parametrize(("entered", "attempts"), [(False, 1), (True, 3)])
def test_error_finds_room_in_the_slot_when_the_arena_is_full(
    seats: Any, entered: bool, attempts: int
) -> None:
    parent, worker = seats
    index = claimed(parent, worker, 7, attempts)
    if entered:
        worker.enter(index)
    held = []
    for size in (1 << 16, 1 << 14, 1 << 10, 1):
        try:
            while True:
                held.append(parent.store(1, b"x" * size))
        except ArenaFull:
            continue
    Runner.finish_error(SimpleNamespace(seat=worker), index, ValueError("y" * 500))  # type: ignore[arg-type]
    assert parent.has_completions()
