"""The deque is linearizable: every history of real threads has an order that one could have seen.

``tests/c/deque_history.c`` lets an owner push and pop and two thieves steal, and prints
when each operation was invoked and returned. The checker here (Wing and Gong, "Testing
and Verifying Concurrent Objects", 1993; with Lowe's memoisation) looks for an order of
the operations that a sequential deque allows and that keeps A before B whenever A
returned before B was invoked.

A steal may be *lost* only to a successful claim of the oldest handle that is concurrent
with it; otherwise a lost steal does nothing, so it has no place in the order. (It need not
come next to that claim: a pop of the last handle shows itself twice, first by the lowered
bottom, where one thief finds nothing, then by its CAS, which another thief loses to.)

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import ROOT

CFLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-pthread"]
SCALE = float(os.environ.get("WP_TEST_SCALE", "1"))
SEED = int(os.environ.get("WP_SEED", random.randrange(10**9)))


@dataclass(frozen=True, slots=True)
class Operation:
    thread: int
    invoked: int  # ns
    returned: int
    name: str  # push, pop, steal
    value: int
    outcome: str  # ok, full, empty, lost


Deque = tuple[int, ...]  # oldest first
History = list[Operation]


def apply(operation: Operation, deque: Deque, capacity: int) -> Deque | None:
    """Return the deque after the operation; None when it could not have had that outcome."""
    match operation.name, operation.outcome:
        case "push", "ok":
            return (*deque, operation.value) if len(deque) < capacity else None
        case "push", "full":
            return deque if len(deque) == capacity else None
        case "pop", "ok":
            return deque[:-1] if deque and deque[-1] == operation.value else None
        case "steal", "ok":
            return deque[1:] if deque and deque[0] == operation.value else None
        case "pop" | "steal", "empty":
            return None if deque else deque
    raise ValueError(f"no such operation: {operation}")


def are_concurrent(a: Operation, b: Operation) -> bool:
    return a.invoked <= b.returned and b.invoked <= a.returned


def is_linearizable(history: History, capacity: int) -> bool:
    """Search for an order of the operations that a sequential deque allows."""
    order = [o for o in history if o.outcome != "lost"]
    everything = (1 << len(order)) - 1
    # For each lost steal, the claims it may have lost to, as bits.
    rivals = [
        sum(
            1 << i
            for i, o in enumerate(order)
            if o.name != "push" and o.outcome == "ok" and are_concurrent(o, lost)
        )
        for lost in history
        if lost.outcome == "lost"
    ]
    # By what is in order already, the deque then, and which of it claimed the oldest.
    seen: set[tuple[int, Deque, int]] = set()
    stack: list[tuple[int, Deque, int]] = [(0, (), 0)]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        ordered, deque, oldest = node
        if ordered == everything:
            if all(rival & oldest for rival in rivals):
                return True
            continue
        left = [i for i in range(len(order)) if not ordered >> i & 1]
        # What comes next was invoked before anything that is left had returned.
        end = min(order[i].returned for i in left)
        for i in left:
            operation = order[i]
            if operation.invoked > end:
                continue
            after = apply(operation, deque, capacity)
            if after is not None:
                claims = (
                    operation.name != "push" and operation.outcome == "ok" and deque[0] == operation.value
                )
                stack.append((ordered | 1 << i, after, oldest | claims << i))
    return False


# ---- histories of real threads


def parse(line: str) -> History:
    history = []
    for word in line.split():
        thread, invoked, returned, name, value, outcome = word.split(",")
        history.append(Operation(int(thread), int(invoked), int(returned), name, int(value), outcome))
    return history


def build(folder: Path, headers: Path) -> Path:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc")
    program = folder / "deque_history"
    source = ROOT / "tests/c/deque_history.c"
    subprocess.run(
        [compiler, *CFLAGS, f"-I{headers}", f"-I{source.parent}", source, "-o", program], check=True
    )
    return program


def histories(program: Path, count: int, operations: int, capacity: int, seed: int) -> list[History]:
    output = subprocess.run(
        [program, str(count), str(seed), str(operations), str(capacity)],
        check=True, capture_output=True, text=True, timeout=100,
    ).stdout  # fmt: skip
    found = [parse(line) for line in output.splitlines()]
    assert len(found) == count
    return found


def overlaps(history: History) -> int:
    """Return how many pairs of operations of different threads were concurrent."""
    return sum(a.thread < b.thread and are_concurrent(a, b) for a in history for b in history)


def describe(history: History, capacity: int, seed: int) -> str:
    begun = min(o.invoked for o in history)
    lines = [
        f"{o.invoked - begun:>8} {o.returned - begun:>8}  {'  ' * 4 * o.thread}{o.name} {o.value} {o.outcome}"
        for o in sorted(history, key=lambda o: o.invoked)
    ]
    return f"no order of these is a deque's (capacity {capacity}, seed {seed}):\n" + "\n".join(lines)


@pytest.mark.parametrize(("operations", "capacity"), [(4, 1), (5, 2), (6, 4), (6, 16)])
def test_every_history_has_an_order_that_a_deque_allows(
    tmp_path: Path, operations: int, capacity: int
) -> None:
    program = build(tmp_path, ROOT / "csrc")
    concurrent, outcomes = 0, set()
    for history in histories(program, int(2000 * SCALE) or 1, operations, capacity, SEED):
        assert is_linearizable(history, capacity), describe(history, capacity, SEED)
        concurrent += overlaps(history)
        outcomes |= {(o.name, o.outcome) for o in history}
    # Else it has shown little.
    assert concurrent > 0
    assert {("push", "ok"), ("pop", "ok"), ("pop", "empty"), ("steal", "ok"), ("steal", "empty")} <= outcomes


def mutate(folder: Path, *changes: tuple[str, str]) -> Path:
    """Return a copy of the headers with a deque that is broken on purpose."""
    headers = folder / "csrc"
    shutil.copytree(ROOT / "csrc", headers)
    header = headers / "wp_deque.h"
    text = header.read_text()
    for old, new in changes:
        assert old in text, f"the mutation no longer fits wp_deque.h: {old}"
        text = text.replace(old, new)
    header.write_text(text)
    return headers


# Threads meet between the look at the ends and the CAS, in the owner and in thieves: who
# comes there lets the others take a step first, if they do soon. It is the same deque,
# and what can go wrong in it does so often, on a busy machine too.
MEET = """
#include <sched.h>
static unsigned meetings;
static inline void meet(void) {
    unsigned now = __atomic_add_fetch(&meetings, 1, __ATOMIC_RELAXED);
    for (int n = 0; n < 6 && __atomic_load_n(&meetings, __ATOMIC_RELAXED) == now; n++) sched_yield();
}
"""
GUARD = "#define WP_DEQUE_H\n"
EXPECTED = "uint64_t expected = (uint64_t)top;"
FENCE = "wp_fence_seq_cst();"
WIDE = [(GUARD, GUARD + MEET), (EXPECTED, EXPECTED + " meet();"), (FENCE, FENCE + " meet();")]

STEAL_BY_CAS = "if (!wp_cas_seq_cst(&d->ends->top, &expected, (uint64_t)(top + 1))) return WP_STEAL_LOST;"
STEAL_UNASKED = "(void)expected; wp_store_relaxed(&d->ends->top, (uint64_t)(top + 1));"


@pytest.mark.parametrize("capacity", [1, 4])
def test_every_history_has_an_order_also_where_threads_meet_in_the_middle(
    tmp_path: Path, capacity: int
) -> None:
    program = build(tmp_path, mutate(tmp_path, *WIDE))
    lost = 0
    for history in histories(program, int(2000 * SCALE) or 1, 6, capacity, SEED):
        assert is_linearizable(history, capacity), describe(history, capacity, SEED)
        lost += sum(o.outcome == "lost" for o in history)
    assert lost > 0


# A pop that takes the last handle without its CAS doubles one only if a thief is half-way
# through its steal then: real threads showed it in none of 16,000 histories, or in dozens.
# Its history is among those that the checker must refuse, below; the explorer plays it.
def test_a_broken_deque_is_noticed(tmp_path: Path) -> None:
    program = build(tmp_path, mutate(tmp_path, *WIDE, (STEAL_BY_CAS, STEAL_UNASKED)))
    assert any(not is_linearizable(history, 2) for history in histories(program, 2000, 6, 2, SEED))


# ---- the checker itself


def sequence(*steps: tuple[int, int, int, str, int, str]) -> History:
    return [Operation(*step) for step in steps]


@pytest.mark.parametrize(
    "history",
    [
        sequence((0, 0, 1, "push", 1, "ok"), (0, 2, 3, "push", 2, "ok"), (0, 4, 5, "pop", 2, "ok")),
        sequence((0, 0, 1, "push", 1, "ok"), (0, 2, 3, "push", 2, "ok"), (1, 4, 5, "steal", 1, "ok")),
        sequence((0, 0, 9, "push", 1, "ok"), (1, 1, 2, "steal", 1, "ok")),
        sequence((0, 0, 9, "push", 1, "ok"), (1, 1, 2, "steal", 0, "empty")),
        sequence((0, 0, 1, "push", 1, "ok"), (1, 2, 9, "steal", 1, "ok"), (0, 3, 4, "pop", 0, "empty")),
        sequence((0, 0, 1, "push", 1, "ok"), (1, 2, 6, "steal", 1, "ok"), (2, 5, 9, "steal", 0, "lost")),
        sequence((0, 0, 1, "push", 1, "ok"), (0, 2, 6, "pop", 1, "ok"), (1, 3, 4, "steal", 0, "lost")),
        # Seen of real threads: the pop lowers bottom (empty), then raises top (lost).
        sequence(
            (0, 0, 1, "push", 1, "ok"), (0, 2, 9, "pop", 1, "ok"), (2, 3, 4, "steal", 0, "empty"),
            (1, 5, 10, "steal", 0, "lost"),
        ),
        sequence(
            (0, 0, 1, "push", 1, "ok"), (0, 2, 3, "push", 2, "ok"), (0, 4, 5, "push", 3, "full"),
            (1, 6, 7, "steal", 1, "ok"), (0, 8, 9, "push", 3, "ok"),
        ),
    ],
)  # fmt: skip
def test_the_checker_finds_an_order(history: History) -> None:
    assert is_linearizable(history, 2)


@pytest.mark.parametrize(
    "history",
    [
        # taken twice; never pushed; not the newest; not the oldest
        sequence((0, 0, 1, "push", 1, "ok"), (0, 2, 9, "pop", 1, "ok"), (1, 3, 8, "steal", 1, "ok")),
        sequence((0, 0, 1, "push", 1, "ok"), (1, 2, 3, "steal", 7, "ok")),
        sequence((0, 0, 1, "push", 1, "ok"), (0, 2, 3, "push", 2, "ok"), (0, 4, 5, "pop", 1, "ok")),
        sequence((0, 0, 1, "push", 1, "ok"), (0, 2, 3, "push", 2, "ok"), (1, 4, 5, "steal", 2, "ok")),
        # stolen before it was pushed; empty beside a handle nobody claims; full with room
        sequence((1, 0, 1, "steal", 1, "ok"), (0, 2, 3, "push", 1, "ok")),
        sequence((0, 0, 1, "push", 1, "ok"), (1, 2, 3, "steal", 0, "empty")),
        sequence((0, 0, 1, "push", 1, "ok"), (1, 2, 3, "steal", 1, "ok"), (0, 4, 5, "push", 2, "full")),
        # lost to nobody; to a claim that was over; to a pop that was not of the oldest
        sequence((0, 0, 1, "push", 1, "ok"), (1, 2, 3, "steal", 0, "lost")),
        sequence((0, 0, 1, "push", 1, "ok"), (2, 2, 3, "steal", 1, "ok"), (1, 4, 5, "steal", 0, "lost")),
        sequence(
            (0, 0, 1, "push", 1, "ok"), (0, 2, 3, "push", 2, "ok"), (0, 4, 9, "pop", 2, "ok"),
            (1, 5, 8, "steal", 0, "lost"),
        ),
    ],
)  # fmt: skip
def test_the_checker_refuses_what_no_deque_does(history: History) -> None:
    assert not is_linearizable(history, 2)
