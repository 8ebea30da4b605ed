"""What the machine itself takes: cache line and futex between two processes, deque operations, in C.

SPDX-License-Identifier: BSD-3-Clause
"""

from bench.cases import Figure, Sample
from bench.rivals import Rival

RIVALS = ("c",)
FIGURES = {
    "cache line round trip": Figure("ns"),
    "futex round trip, hot": Figure("ns"),
    "futex round trip, after 2 ms": Figure("ns"),
    "futex round trip, hot, two CPUs": Figure("ns"),
    "futex round trip, after 2 ms, two CPUs": Figure("ns"),
    "futex wake call, after 2 ms": Figure("ns"),
    "deque push": Figure("ns"),
    "deque pop": Figure("ns"),
    "deque steal": Figure("ns"),
    "deque steal, other process": Figure("ns"),
    "deque steal, contended": Figure("ns"),
}


def sample(rival: Rival, scale: float) -> Sample:
    run = rival.adapter().run
    futex, deque = run("futex_round_trip"), run("deque_ops")
    return {
        "cache line round trip": run("ping_pong")["round_trip"],
        "futex round trip, hot": futex["hot"],
        "futex round trip, after 2 ms": futex["after_gap"],
        "futex round trip, hot, two CPUs": futex["hot_apart"],
        "futex round trip, after 2 ms, two CPUs": futex["after_gap_apart"],
        "futex wake call, after 2 ms": futex["after_gap_wake_call"],
        "deque push": deque["push"],
        "deque pop": deque["pop"],
        "deque steal": deque["steal"],
        "deque steal, other process": deque["steal_remote"],
        "deque steal, contended": deque["steal_contended"],
    }
