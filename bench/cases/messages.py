"""Messages: round trips pool -> worker -> pool on an idle worker, and bursts of 100,000 each way.

A trip is answered where it arrives: by the worker's handler, then by the pool's listener,
which posts the next. A burst ends when its last message has been handled. Beside it what
the standard library offers: a pipe, and a thread that reads it.

SPDX-License-Identifier: BSD-3-Clause
"""

import multiprocessing
import threading
import time
from multiprocessing.connection import Connection
from statistics import median, quantiles
from typing import Any

from bench.cases import Figure, Sample
from bench.rivals import Rival
from bench.tasks import answer_messages, post_messages

RIVALS = ("workpool", "multiprocessing")
FIGURES = {
    "round trip": Figure("us"),
    "round trip, p99": Figure("us"),
    "to worker": Figure("1/s", less_is_better=False),
    "to pool": Figure("1/s", less_is_better=False),
}

TRIPS = 20_000
BURST = 100_000
REPEATS = 5


def sample(rival: Rival, scale: float) -> Sample:
    trips, burst = int(TRIPS * scale), int(BURST * scale)
    return _pipe(trips, burst) if rival.name == "multiprocessing" else _pool(rival, trips, burst)


def _figures(taken_ns: list[int], to_worker: list[float], to_pool: list[float]) -> Sample:
    cuts = quantiles(taken_ns, n=100)
    return {
        "round trip": cuts[49] / 1000,
        "round trip, p99": cuts[98] / 1000,
        "to worker": median(to_worker),
        "to pool": median(to_pool),
    }


def _pool(rival: Rival, trips: int, burst: int) -> Sample:
    clock = time.perf_counter_ns
    taken: list[int] = []
    done = threading.Event()
    received = 0
    with rival.open(1) as adapter:
        adapter.settle()
        pool: Any = adapter.pool  # type: ignore[attr-defined]
        pool.submit(answer_messages, burst).result()
        post = pool.workers[0].post_message

        def pong(sent_ns: int, worker: object) -> None:
            taken.append(clock() - sent_ns)
            if len(taken) < trips:
                post("ping", clock())
            else:
                done.set()

        def count(number: int, worker: object) -> None:
            nonlocal received
            received += 1
            if received == burst:
                done.set()

        pool.on_message("pong", pong)
        pool.on_message("number", count)
        pool.on_message("counted", lambda contents, worker: done.set())
        time.sleep(0.01)
        for _ in range(2):  # the first warms up
            taken.clear()
            done.clear()
            post("ping", clock())
            done.wait()
        to_worker, to_pool = [], []
        for _ in range(REPEATS):
            done.clear()
            start = time.perf_counter()
            for number in range(burst):
                post("number", number)
            done.wait()
            to_worker.append(burst / (time.perf_counter() - start))
            done.clear()
            received = 0
            start = time.perf_counter()
            pool.submit(post_messages, burst)
            done.wait()
            to_pool.append(burst / (time.perf_counter() - start))
    return _figures(taken, to_worker, to_pool)


def _answer_pipe(pipe: Connection, burst: int) -> None:
    while True:
        kind, contents = pipe.recv()
        if kind == "ping":
            pipe.send(("pong", contents))
        elif kind == "post":
            for number in range(burst):
                pipe.send(("number", number))
        elif kind == "end":
            return
        elif contents == burst - 1:
            pipe.send(("counted", None))


def _pipe(trips: int, burst: int) -> Sample:
    clock = time.perf_counter_ns
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    child = multiprocessing.get_context("fork").Process(target=_answer_pipe, args=(theirs, burst))
    child.start()
    taken = []
    for _ in range(trips):
        start_ns = clock()
        ours.send(("ping", start_ns))
        ours.recv()
        taken.append(clock() - start_ns)
    to_worker, to_pool = [], []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for number in range(burst):
            ours.send(("number", number))
        ours.recv()
        to_worker.append(burst / (time.perf_counter() - start))
        start = time.perf_counter()
        ours.send(("post", None))
        for _ in range(burst):
            ours.recv()
        to_pool.append(burst / (time.perf_counter() - start))
    ours.send(("end", None))
    child.join()
    return _figures(taken, to_worker, to_pool)
