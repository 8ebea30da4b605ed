"""Messages: order, sizes, both ways at once, handlers of all kinds, deaths.

SPDX-License-Identifier: BSD-3-Clause
"""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pool_tasks as tasks
import pytest
from helpers import wait_until

from workpool import Worker, WorkerPool

METHODS = ["exec", "spawn", "forkserver", "fork"]
MIB = 1 << 20


class Heard:
    """What a pool's listeners were given, by type."""

    def __init__(self, pool: WorkerPool[Any, Any], *types: str) -> None:
        self.all: list[tuple[str, Any, int | None]] = []
        for kind in types:
            pool.on_message(kind, self._listener(kind))

    def _listener(self, kind: str) -> Callable[[Any, Worker | None], None]:
        def listener(contents: Any, worker: Worker | None) -> None:
            self.all.append((kind, contents, None if worker is None else worker.id))

        return listener

    def of(self, kind: str) -> list[Any]:
        return [contents for name, contents, _ in self.all if name == kind]

    def wait(self, kind: str, count: int = 1, timeout: float = 20.0) -> list[Any]:
        wait_until(lambda: len(self.of(kind)) >= count, timeout=timeout)
        return self.of(kind)


def posting(arg: Any, client: Any) -> Any:
    """Post each item of a list, or ``count`` numbers."""
    for item in range(arg) if isinstance(arg, int) else arg:
        client.post_message_to_pool("item", item)
    return len(arg) if isinstance(arg, list) else arg


def answering(arg: Any, client: Any) -> Any:
    """An entrypoint whose worker answers messages; what it is called with says what it does then."""
    if arg == "poll":
        end = time.monotonic() + 20
        while not client.state.heard and time.monotonic() < end:
            client.poll_messages()
        return list(client.state.heard)
    if isinstance(arg, float):
        time.sleep(arg)
    return list(client.state.heard)


def start_answering(client: Any) -> None:
    client.state.heard = []

    def on_echo(contents: Any, client: Any) -> None:
        client.state.heard.append(contents)
        client.post_message_to_pool("echo", contents)

    def on_length(contents: Any, client: Any) -> None:
        client.post_message_to_pool("length", (len(contents), bytes(contents[:1]), bytes(contents[-1:])))

    def on_fail(contents: Any, client: Any) -> None:
        raise ValueError(contents)

    async def on_later(contents: Any, client: Any) -> None:
        await asyncio.sleep(0.01)
        client.post_message_to_pool("later", contents)

    async def on_later_fail(contents: Any, client: Any) -> None:
        await asyncio.sleep(0)
        raise ValueError(contents)

    def on_kill(contents: Any, client: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def on_flood(contents: int, client: Any) -> None:
        for n in range(contents):
            client.post_message_to_pool("flood", n)

    for name, handler in [
        ("echo", on_echo), ("length", on_length), ("fail", on_fail), ("later", on_later),
        ("later fail", on_later_fail), ("kill", on_kill), ("flood", on_flood),
    ]:  # fmt: skip
        client.on_message(name, handler)


answering.on_worker_start = start_answering  # type: ignore[attr-defined]


# ---- both ways ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_messages_travel_both_ways_in_every_start_method(method: str) -> None:
    with WorkerPool(answering, max_workers=2, tasks_per_worker=0, start_method=method) as pool:
        heard = Heard(pool, "echo")
        pool.post_message_to_workers("echo", {"to": "all"})  # they may still be starting
        assert heard.wait("echo", 2) == [{"to": "all"}] * 2
        assert {worker for _, _, worker in heard.all} == {1, 2}
        for worker in pool.workers:
            worker.post_message("echo", worker.id)
        assert sorted(heard.wait("echo", 4)[2:]) == [1, 2]


def test_listener_gets_contents_and_the_worker_that_posted() -> None:
    with WorkerPool(posting, max_workers=1) as pool:
        heard = []
        pool.on_message("item", lambda contents, worker: heard.append((contents, worker)))
        assert pool.add_task(["a"]).result() == 1
        wait_until(lambda: heard)
        assert heard == [("a", pool.workers[0])]


PLAIN = [None, True, 0, -1, 1.5, "", "ä\U0001f600", b"", b"\0", (), (1, (2,)), [], [1]]
CONTENTS = [*PLAIN, 1 << 80, [1, [2]], {"a": {1}}]


def test_any_contents_arrive_as_they_were_posted() -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        heard = Heard(pool, "echo")
        pool.wait_ready()
        for contents in CONTENTS:
            pool.workers[0].post_message("echo", contents)
        assert heard.wait("echo", len(CONTENTS)) == CONTENTS
        pool.workers[0].post_message("echo")
        assert heard.wait("echo", len(CONTENTS) + 1)[-1] is None


def test_types_may_be_any_strings() -> None:
    names = ["", "x", "ä\U0001f600", "long " * 1000]

    def entry(arg: Any, client: Any) -> None:
        for name in arg:
            client.post_message_to_pool(name, len(name))

    with WorkerPool(entry, max_workers=1) as pool:
        heard = Heard(pool, *names)
        pool.add_task(names).result()
        heard.wait(names[-1])
        assert heard.all == [(name, len(name), 1) for name in names]


def test_type_that_is_no_string_is_refused() -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        pool.wait_ready()
        for poster in (pool, pool.workers[0], pool._main_client):
            (name,) = [name for name in dir(poster) if name.startswith("post_message")]
            with pytest.raises(TypeError, match="must be a string"):
                getattr(poster, name)(3)
        with pytest.raises(TypeError, match="must be a string"):
            pool.on_message(3, print)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="callable"):
            pool.on_message("x", 3)  # type: ignore[arg-type]


def test_contents_that_cannot_be_pickled_raise_and_nothing_is_sent() -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        heard = Heard(pool, "echo")
        pool.wait_ready()
        with pytest.raises(tasks.OwnError):
            pool.post_message_to_workers("echo", tasks.Unpicklable())
        with pytest.raises(tasks.OwnError):
            pool.workers[0].post_message("echo", tasks.Unpicklable())
        pool.post_message_to_workers("echo", 1)
        assert heard.wait("echo") == [1]


def test_contents_that_cannot_be_rebuilt_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with WorkerPool(posting, max_workers=1) as pool:
        heard = Heard(pool, "item")
        pool.add_task([1, tasks.Explosive(), 2]).exception()
        pool.submit(post_explosive).result()
        heard.wait("item", 1)
        assert heard.wait("item")[-1] == 3
    assert "cannot be rebuilt" in caplog.text


def post_explosive() -> None:
    from workpool import current_client

    current_client().post_message_to_pool("item", tasks.Explosive())
    current_client().post_message_to_pool("item", 3)


# ---- order and size ------------------------------------------------------------------------


def test_messages_of_one_worker_come_in_order() -> None:
    count = 20_000
    with WorkerPool(posting, max_workers=2, tasks_per_worker=0) as pool:
        heard = Heard(pool, "item")
        pool.wait_ready()
        results = [pool.add_task(count) for _ in range(2)]
        assert [task.result() for task in results] == [count, count]
        heard.wait("item", 2 * count)
        for worker in (1, 2):
            numbers = [contents for _, contents, where in heard.all if where == worker]
            assert numbers == list(range(count)) * (len(numbers) // count)


def test_messages_of_all_sizes_keep_their_order() -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        heard = Heard(pool, "echo")
        pool.wait_ready()
        around_inline = range(980, 1030)
        sizes = [0, 1, *around_inline, 5000, 8192, 16384, 16385, 70_000, 3, 300_000, 1, 2 * MIB, 0] * 3
        contents = [(n, bytes([n % 256]) * size) for n, size in enumerate(sizes)]
        for item in contents:
            pool.workers[0].post_message("echo", item)
        assert heard.wait("echo", len(sizes)) == contents


def test_message_of_64_mib_arrives() -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        heard = Heard(pool, "length", "echo")
        pool.wait_ready()
        big = bytearray(64 * MIB)
        big[0], big[-1] = 1, 2
        pool.post_message_to_workers("length", bytes(big))
        assert heard.wait("length") == [(64 * MIB, b"\1", b"\2")]
        pool.workers[0].post_message("echo", bytes(big))
        assert heard.wait("echo") == [big]


def test_message_larger_than_the_arena_arrives_in_parts_in_order() -> None:
    with WorkerPool(answering, max_workers=1, memory=1 * MIB) as pool:
        heard = Heard(pool, "echo")
        pool.wait_ready()
        big = os.urandom(8 * MIB)
        for contents in (1, big, 2, big, 3):
            pool.workers[0].post_message("echo", contents)
        assert heard.wait("echo", 5) == [1, big, 2, big, 3]


def test_large_messages_leave_no_block_behind() -> None:
    with WorkerPool(answering, max_workers=1, memory=8 * MIB) as pool:
        heard = Heard(pool, "echo")
        pool.wait_ready()
        for n in range(60):
            pool.workers[0].post_message("echo", bytes([n]) * MIB)
        assert [contents[0] for contents in heard.wait("echo", 60)] == list(range(60))
        # A result of nearly all the arena still fits: nothing of theirs is left in it.
        assert len(pool.submit(bytes, 5 * MIB).result()) == 5 * MIB


@pytest.mark.parametrize("size", [10, 5000])
def test_both_sides_flood_each_other_and_all_arrives(size: int) -> None:
    count = 20_000 if size < 100 else 2000
    with WorkerPool(answering, max_workers=1) as pool:
        heard = Heard(pool, "flood", "echo")
        pool.wait_ready()
        worker = pool.workers[0]
        worker.post_message("flood", count)
        for n in range(count):
            worker.post_message("echo", (n, b"x" * size))
        worker.post_message("flood", count)
        assert heard.wait("echo", count) == [(n, b"x" * size) for n in range(count)]
        assert heard.wait("flood", 2 * count) == list(range(count)) * 2


def test_listeners_that_answer_every_message_make_progress() -> None:
    count = 20_000

    def entry(arg: int, client: Any) -> None:
        for n in range(arg):
            client.post_message_to_pool("ask", n)

    def start(client: Any) -> None:
        client.on_message("answer", lambda contents, client: client.post_message_to_pool("thanks", contents))

    entry.on_worker_start = start  # type: ignore[attr-defined]
    with WorkerPool(entry, max_workers=2, tasks_per_worker=0) as pool:
        heard = Heard(pool, "thanks")
        pool.on_message("ask", lambda contents, worker: worker.post_message("answer", contents))
        pool.wait_ready()
        pool.add_task(count).result()
        assert heard.wait("thanks", count) == list(range(count))


def test_many_threads_of_the_parent_post_at_once() -> None:
    count = 3000
    with WorkerPool(answering, max_workers=2, tasks_per_worker=0, memory=1 * MIB) as pool:
        heard = Heard(pool, "echo")
        pool.wait_ready()

        def post(name: int) -> None:
            for n in range(count):
                pool.workers[name % 2].post_message("echo", (name, n))
            pool.workers[0].post_message("echo", (name, bytes([name]) * 3 * MIB))  # in parts, each

        threads = [threading.Thread(target=post, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        heard.wait("echo", 4 * count + 4)
        for name in range(4):
            numbers = [contents[1] for contents in heard.of("echo") if contents[0] == name]
            assert [n for n in numbers if isinstance(n, int)] == list(range(count))
            assert bytes([name]) * 3 * MIB in numbers


def test_post_to_a_busy_worker_with_a_full_lane_can_be_interrupted() -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        pool.wait_ready()
        task = pool.add_task(1.5)
        wait_until(task.running)
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        posted = 0

        def post_for_ever() -> None:
            nonlocal posted
            while True:
                pool.workers[0].post_message("nobody", posted)
                posted += 1

        with pytest.raises(KeyboardInterrupt):
            post_for_ever()
        assert not task.done()
        timer.join()
        assert posted > 500
        assert task.result() == []


# ---- where and when handlers run -------------------------------------------------------------


def test_idle_worker_handles_messages_and_a_busy_one_in_poll_messages() -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        heard = Heard(pool, "echo")
        pool.wait_ready()
        task = pool.add_task("poll")
        pool.workers[0].post_message("echo", "while it runs")
        assert task.result() == ["while it runs"]
        time.sleep(0.05)  # parked
        pool.workers[0].post_message("echo", "while it sleeps")
        assert heard.wait("echo", 2) == ["while it runs", "while it sleeps"]


def test_messages_are_handled_between_tasks() -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        pool.wait_ready()
        first = pool.add_task(0.3)
        wait_until(first.running)
        rest = [pool.add_task(0.05) for _ in range(10)]
        pool.workers[0].post_message("echo", "between")
        assert first.result() == []
        assert rest[1].result() == ["between"]


def test_flood_of_messages_does_not_hold_up_tasks() -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        pool.wait_ready()
        stop = threading.Event()

        def flood() -> None:
            while not stop.is_set():
                pool.workers[0].post_message("echo", 1)

        thread = threading.Thread(target=flood)
        pool.on_message("echo", lambda contents, worker: None)
        thread.start()
        try:
            for n in range(20):
                assert pool.submit(tasks.echo, n).result(timeout=20) == n
        finally:
            stop.set()
            thread.join()


async def wait_for_message(names: list[str], client: Any) -> Any:
    """A coroutine task that returns what a message brings while it awaits."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    client.on_message(names[0], lambda contents, client: future.set_result(contents))
    client.post_message_to_pool("waiting", names[0])
    return await asyncio.wait_for(future, 20)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_messages_are_handled_at_await(concurrency: int) -> None:
    with WorkerPool(wait_for_message, max_workers=1, worker_concurrency=concurrency) as pool:
        pool.on_message("waiting", lambda name, worker: worker.post_message(name, f"for {name}"))
        waits = [pool.add_task([name]) for name in ("a", "b", "c")]
        assert [task.result(timeout=25) for task in waits] == ["for a", "for b", "for c"]


def test_coroutine_handlers_run_on_the_loop_or_to_their_end_between_tasks() -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        heard = Heard(pool, "later")
        pool.wait_ready()
        for n in range(5):
            pool.workers[0].post_message("later", n)
        assert sorted(heard.wait("later", 5)) == [0, 1, 2, 3, 4]
        task = pool.submit(tasks.echo_after, 0.2, "done")
        pool.workers[0].post_message("later", "beside")
        assert heard.wait("later", 6)[-1] == "beside"
        assert task.result() == "done"


def test_handlers_that_raise_are_logged_and_the_worker_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        heard = Heard(pool, "echo")
        pool.wait_ready()
        pid = pool.workers[0].pid
        pool.workers[0].post_message("fail", "at once")
        pool.workers[0].post_message("later fail", "later")
        pool.workers[0].post_message("echo", 1)
        assert heard.wait("echo") == [1]
        assert pool.submit(os.getpid).result() == pid
    assert "ValueError: at once" in caplog.text
    assert "ValueError: later" in caplog.text


def test_listener_that_raises_is_logged_and_the_others_are_called(caplog: pytest.LogCaptureFixture) -> None:
    def bad(contents: Any, worker: Any) -> None:
        raise ValueError(f"bad {contents}")

    with WorkerPool(posting, max_workers=1) as pool:
        pool.on_message("item", bad)
        heard = Heard(pool, "item")
        pool.add_task(2).result()
        assert heard.wait("item", 2) == [0, 1]
    assert "bad 0" in caplog.text
    assert "bad 1" in caplog.text


def test_message_that_comes_before_its_listener_waits_for_it() -> None:
    with WorkerPool(posting, max_workers=1) as pool:
        heard = Heard(pool, "other")
        pool.add_task(["early", "earlier"]).result()
        pool.submit(posting_other).result()
        heard.wait("other")  # the items were read before, and nobody wanted them
        late = Heard(pool, "item")
        assert late.wait("item", 2) == ["early", "earlier"]


def test_several_handlers_are_called_in_order_and_the_same_one_once() -> None:
    def entry(arg: Any, client: Any) -> Any:
        return client.state.heard

    def start(client: Any) -> None:
        client.state.heard = []

        def first(contents: Any, client: Any) -> None:
            client.state.heard.append(("first", contents))

        client.on_message("x", first)
        client.on_message("x", lambda contents, client: client.state.heard.append(("second", contents)))
        client.on_message("x", first)

    entry.on_worker_start = start  # type: ignore[attr-defined]
    with WorkerPool(entry, max_workers=1) as pool:
        pool.wait_ready()
        pool.post_message_to_workers("x", 1)
        wait_until(lambda: pool.add_task(None).result() == [("first", 1), ("second", 1)])


def test_removed_listener_is_not_called(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Any] = []

    def listener(contents: Any, worker: Any) -> None:
        calls.append(contents)

    with WorkerPool(posting, max_workers=1) as pool:
        heard = Heard(pool, "item")
        pool.on_message("item", listener)
        pool.remove_message_listener("item", listener)
        pool.remove_message_listener("item", listener)  # nothing
        pool.remove_message_listener("never", listener)
        pool.add_task(3).result()
        heard.wait("item", 3)
    assert calls == []


def test_unknown_type_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with WorkerPool(posting, max_workers=1) as pool:
        heard = Heard(pool, "other")
        pool.add_task(3).result()
        pool.submit(posting_other).result()
        heard.wait("other")
        for _ in range(3):
            pool.post_message_to_workers("unknown", 1)
        pool.submit(tasks.echo, 1).result()
    assert caplog.text.count("'item'") == 1
    assert caplog.text.count("'unknown'") == 1


def posting_other() -> None:
    from workpool import current_client

    current_client().post_message_to_pool("other")


def test_worker_that_posts_to_a_pool_without_listeners_is_not_held_up() -> None:
    with WorkerPool(posting, max_workers=1) as pool:
        task = pool.add_task(20_000)
        wait_until(lambda: task.slot_phase == 5, timeout=30)  # done, and nobody gathered
        assert task.result() == 20_000


def test_listener_runs_while_the_parent_does_something_else() -> None:
    with WorkerPool(posting, max_workers=1) as pool:
        heard = Heard(pool, "item")
        pool.add_task(["a"])
        assert heard.wait("item") == ["a"]  # nobody waits for the task


def test_listener_may_wait_for_a_task_and_post() -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        heard = Heard(pool, "echo")

        def listener(contents: Any, worker: Any) -> None:
            if contents == "go":
                worker.post_message("echo", pool.submit(tasks.echo, "result").result(timeout=20))

        pool.on_message("echo", listener)
        pool.wait_ready()
        pool.post_message_to_workers("echo", "go")
        assert heard.wait("echo", 2) == ["go", "result"]


def test_asyncio_serves_listeners_in_its_loop() -> None:
    async def main() -> tuple[list[Any], set[int]]:
        got: list[Any] = []
        threads: set[int] = set()
        all_there = asyncio.Event()

        def listener(contents: Any, worker: Any) -> None:
            threads.add(threading.get_ident())
            got.append(contents)
            if len(got) == 4:
                all_there.set()

        async with WorkerPool(answering, max_workers=2, tasks_per_worker=0) as pool:
            pool.on_message("echo", listener)
            pool.post_message_to_workers("echo", 1)
            assert await pool.submit(tasks.echo, 5) == 5
            pool.post_message_to_workers("echo", 2)
            await asyncio.wait_for(all_there.wait(), 20)
        return got, threads

    got, threads = asyncio.run(main())
    assert sorted(got) == [1, 1, 2, 2]
    assert threads == {threading.get_ident()}


def test_listener_added_in_a_loop_is_called_there_whoever_gathers() -> None:
    count = 20

    async def main() -> tuple[list[Any], set[int]]:
        got: list[Any] = []
        threads: set[int] = set()
        all_there = asyncio.Event()

        def listener(contents: Any, worker: Any) -> None:
            threads.add(threading.get_ident())
            got.append(contents)
            if len(got) == 5 * count:
                all_there.set()  # not safe from another thread

        async with WorkerPool(posting, max_workers=1) as pool:
            pool.on_message("item", listener)
            pool.add_task(0).add_done_callback(lambda task: None)  # there is a gather thread
            loop = asyncio.get_running_loop()
            for _ in range(count):
                # A thread that waits for a task gathers, too.
                await loop.run_in_executor(None, pool.add_task(5).result)
            await asyncio.wait_for(all_there.wait(), 20)
        return got, threads

    got, threads = asyncio.run(main())
    assert got == list(range(5)) * count
    assert threads == {threading.get_ident()}


def test_listener_of_a_loop_is_called_though_the_loop_has_ended() -> None:
    with WorkerPool(posting, max_workers=1) as pool:

        async def main() -> Heard:
            heard = Heard(pool, "item")
            await pool.add_task(2)
            while len(heard.all) < 2:
                await asyncio.sleep(0.001)
            return heard

        heard = asyncio.run(main())
        pool.add_task(3)  # and nobody waits for it
        assert heard.wait("item", 5) == [0, 1, 0, 1, 2]

        async def again() -> None:  # another loop, and the listener added anew
            late = Heard(pool, "item")
            pool.add_task(1)
            while not late.all:
                await asyncio.sleep(0.001)

        asyncio.run(asyncio.wait_for(again(), 20))
        heard.wait("item", 6)


def test_listener_that_was_added_in_a_loop_is_removed_like_any_other() -> None:
    calls: list[Any] = []

    def listener(contents: Any, worker: Any) -> None:
        calls.append(contents)

    with WorkerPool(posting, max_workers=1) as pool:
        heard = Heard(pool, "item")

        async def main() -> None:
            for _ in range(2):
                pool.on_message("item", listener)

        asyncio.run(main())
        pool.on_message("item", listener)  # it is there already
        pool.add_task(1).result()
        heard.wait("item", 1)
        wait_until(lambda: calls == [0])
        pool.remove_message_listener("item", listener)
        pool.add_task(1).result()
        heard.wait("item", 2)
    assert calls == [0]


def test_listener_that_exits_is_logged_and_messages_and_callbacks_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def leave(*_: object) -> None:
        raise SystemExit(3)

    with WorkerPool(posting, max_workers=1) as pool:
        pool.on_message("item", leave)
        pool.on("task-complete", leave)
        heard = Heard(pool, "item")
        for round_ in range(1, 4):
            task = pool.add_task(1)  # nobody waits: the pool's thread gathers
            task.add_done_callback(leave)
            heard.wait("item", round_)
            wait_until(lambda task=task: task.done())
        called = threading.Event()
        pool.add_task(0).add_done_callback(lambda task: called.set())
        assert called.wait(20)
    assert caplog.text.count("SystemExit: 3") == 3 + 3 + 4


def test_listeners_may_be_added_and_removed_while_one_runs() -> None:
    with WorkerPool(posting, max_workers=1) as pool:
        got: list[Any] = []

        def first(contents: Any, worker: Any) -> None:
            got.append(("first", contents))
            pool.remove_message_listener("item", first)
            pool.on_message("item", second)

        def second(contents: Any, worker: Any) -> None:
            got.append(("second", contents))

        pool.on_message("item", first)
        pool.add_task(3)
        wait_until(lambda: len(got) == 3)
        assert got == [("first", 0), ("second", 1), ("second", 2)]


def test_main_client_hears_what_the_workers_are_told() -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        heard = Heard(pool, "echo", "from main")
        main = pool._main_client
        told: list[Any] = []
        main.on_message("echo", lambda contents, client: told.append((contents, client)))
        pool.wait_ready()
        thing = threading.Lock()  # never pickled there
        pool.post_message_to_workers("echo", 1)
        assert heard.wait("echo") == [1]
        wait_until(lambda: told)
        assert told == [(1, main)]
        main.post_message_to_pool("from main", thing)
        assert heard.wait("from main") == [thing]
        assert heard.all[-1] == ("from main", thing, None)


# ---- beginning and end -------------------------------------------------------------------------


def with_exit_messages(count: int, size: int) -> Callable[..., Any]:
    def entry(arg: Any, client: Any) -> Any:
        return arg

    def end(client: Any) -> None:
        for n in range(count):
            client.post_message_to_pool("bye", (client.worker_id, n, b"x" * size))

    entry.on_worker_exit = end  # type: ignore[attr-defined]
    entry.on_worker_start = lambda client: client.post_message_to_pool("hi", client.worker_id)  # type: ignore[attr-defined]
    return entry


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["shutdown", "dispose"])
def test_messages_of_the_exit_hook_are_delivered_before_the_pool_is_gone(method: str, how: str) -> None:
    pool = WorkerPool(with_exit_messages(2, 3000), max_workers=2, tasks_per_worker=0, start_method=method)
    heard = Heard(pool, "bye", "hi")
    pool.wait_ready()
    getattr(pool, how)()
    assert sorted((w, n) for w, n, _ in heard.of("bye")) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert sorted(heard.of("hi")) == [1, 2]


def test_exit_hook_may_post_more_than_a_lane_holds() -> None:
    with WorkerPool(with_exit_messages(10_000, 10), max_workers=1) as pool:
        heard = Heard(pool, "bye")
        pool.add_task(1).result()
    assert [n for _, n, _ in heard.of("bye")] == list(range(10_000))


def test_exit_messages_reach_listeners_of_a_loop_that_is_blocked() -> None:
    async def main() -> list[Any]:
        pool = WorkerPool(with_exit_messages(5000, 30), max_workers=1)
        heard = Heard(pool, "bye")
        await pool.add_task(1)
        pool.shutdown()
        return heard.of("bye")

    assert len(asyncio.run(main())) == 5000


def test_post_after_shutdown_is_logged_as_undelivered(caplog: pytest.LogCaptureFixture) -> None:
    pool = WorkerPool(answering, max_workers=1)
    pool.wait_ready()
    worker = pool.workers[0]
    pool.shutdown()
    worker.post_message("echo", 1)
    pool.post_message_to_workers("echo", 1)  # to nobody
    assert caplog.text.count("undelivered") == 1


# ---- deaths -----------------------------------------------------------------------------------


def test_messages_to_a_worker_that_dies_are_logged_and_the_next_worker_hears(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        heard = Heard(pool, "echo")
        pool.wait_ready()
        old = pool.workers[0]
        old.post_message("echo", "before")
        heard.wait("echo")
        busy = pool.submit(time.sleep, 0.3)
        wait_until(busy.running)
        old.post_message("kill")
        for n in range(10):
            old.post_message("echo", (n, b"x" * 3000))
        wait_until(lambda: pool.workers and pool.workers[0].pid != old.pid)
        old.post_message("echo", "to a ghost")  # not to its successor
        pool.wait_ready()
        pool.workers[0].post_message("echo", "after")
        assert heard.wait("echo", 2) == ["before", "after"]
    records = [record for record in caplog.records if record.name == "workpool.messages"]
    assert [record.levelno for record in records] == [logging.WARNING]
    assert f"10 of type 'echo' to worker 1 (pid {old.pid}), which is gone" in records[0].message


def test_sender_that_waits_for_a_dying_worker_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with WorkerPool(answering, max_workers=1) as pool:
        pool.wait_ready()
        task = pool.submit(time.sleep, 30)
        wait_until(task.running)
        worker = pool.workers[0]
        timer = threading.Timer(0.3, os.kill, (worker.pid, signal.SIGKILL))
        timer.start()
        for n in range(5000):
            worker.post_message("nobody", n)
        timer.join()
        with pytest.raises(Exception, match="killed by SIGKILL"):
            task.result()
    assert "undelivered" in caplog.text


@pytest.mark.parametrize("method", METHODS)
def test_worker_killed_while_both_flood_leaves_a_pool_that_works(method: str) -> None:
    with WorkerPool(answering, max_workers=2, tasks_per_worker=0, start_method=method) as pool:
        heard = Heard(pool, "flood", "echo")
        pool.wait_ready()
        for round_ in range(3):
            victim = pool.workers[0]
            pool.post_message_to_workers("flood", 3000)
            timer = threading.Timer(0.02, os.kill, (victim.pid, signal.SIGKILL))
            timer.start()
            for n in range(3000):
                victim.post_message("echo", (n, b"x" * (n % 3000)))
            timer.join()
            wait_until(lambda victim=victim: victim.exitcode is not None)
            wait_until(lambda: len(pool.workers) == 2)
            pool.wait_ready()
            assert sorted(pool.map(tasks.echo, range(100))) == list(range(100))
            pool.post_message_to_workers("echo", f"round {round_}")
            wait_until(lambda text=f"round {round_}": heard.of("echo").count(text) == 2)
        # The survivor's messages came whole and in order.
        survived = [contents for kind, contents, worker in heard.all if kind == "flood" and worker == 2]
        assert survived == list(range(3000)) * 3
