"""Scripts of their own: no guard, things of ``__main__``, and nothing left however they end.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import is_alive, shared_memory_names, wait_until
from pool_support import script_environment

Script = Callable[..., subprocess.CompletedProcess[str]]

MARK = "WORKPOOL_TEST_SCRIPT"


@pytest.fixture(autouse=True)
def nothing_of_the_script_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail if a process of the script's, however far down, or a name in /dev/shm stays."""
    mark, names = uuid.uuid4().hex, shared_memory_names()
    with monkeypatch.context() as patch:
        patch.setenv(MARK, mark)
        yield
    wait_until(lambda: not marked(mark), timeout=10.0)
    wait_until(lambda: not shared_memory_names() - names, timeout=5.0)


def marked(mark: str) -> list[str]:
    """The living processes whose environment has the mark, as their command lines."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if f"{MARK}={mark}".encode() in Path(entry.path, "environ").read_bytes():
                if is_alive(int(entry.name)):
                    found.append(f"{entry.name}: {Path(entry.path, 'cmdline').read_text()}")
        except OSError:
            pass  # gone since, or not ours
    return found


class Running:
    """A script that runs, and says on standard output how far it is."""

    def __init__(self, folder: Path, text: str, *, group: bool = False) -> None:
        path = folder / "running.py"
        path.write_text(text)
        self._process = subprocess.Popen(
            [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=folder, env=script_environment(), start_new_session=group,
        )  # fmt: skip
        self.pid = self._process.pid

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self) -> tuple[int, str, str]:
        out, err = self._process.communicate(timeout=20)
        return self._process.returncode, out, err

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    scripts: list[Running] = []

    def run(text: str, **options: Any) -> Running:
        scripts.append(Running(tmp_path, text, **options))
        return scripts[-1]

    yield run
    for script in scripts:
        script.close()


def check(done: subprocess.CompletedProcess[str], *lines: str) -> None:
    assert (done.returncode, done.stderr, done.stdout.splitlines()) == (0, "", list(lines))


# ---- __main__ ----------------------------------------------------------------------------


MAIN = """
import dataclasses, enum
from workpool import WorkerPool, current_client

print("top")  # once: no worker runs this
base = 40

def shifted(x):
    return helper(x) + base

def helper(x):
    return x

def factorial(n):
    return 1 if n <= 1 else n * factorial(n - 1)

class Colour(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: int
    colour: Colour = Colour.RED

    def moved(self, by=1):
        return Point(self.x + by, self.colour)

class OwnError(Exception):
    pass

def fail(text):
    raise OwnError(text)

def make(n):
    return lambda x: x + n

async def later(x):
    return helper(x)

def nest(x):
    return current_client().submit(shifted, x).result()

with WorkerPool(max_workers=2) as pool:
    print(pool.submit(shifted, 2).result(), pool.submit(factorial, 10).result())
    print(pool.submit(lambda x: x * base, 2).result(), pool.submit(make(3), 4).result())
    print(list(pool.map(shifted, range(5))), list(pool.map(lambda x: x * base, range(3))))
    point = pool.submit(Point, 5).result()
    print(type(point) is Point, point == Point(5), point.colour is Colour.RED)
    print(pool.submit(Point.moved, point, by=2).result() == Point(7), pool.submit(point.moved).result().x)
    print(pool.submit(isinstance, point, Point).result())
    print(pool.submit(later, 6).result(), pool.submit(nest, 1).result())
    print(pool.submit(make, 5).result()(6))
    try:
        pool.submit(fail, "mine").result()
    except OwnError as error:
        print(repr(error))
"""

MAIN_OUT = [
    "top", "42 3628800", "80 7", "[40, 41, 42, 43, 44] [0, 40, 80]", "True True True", "True 6", "True",
    "6 41", "11", "OwnError('mine')",
]  # fmt: skip


@pytest.mark.parametrize("stdin", [False, True], ids=["file", "stdin"])
def test_script_without_a_guard_uses_everything_of_its_main(script: Script, stdin: bool) -> None:
    check(script(MAIN, stdin=stdin), *MAIN_OUT)


@pytest.mark.parametrize("method", ["exec", "fork", "spawn"])
def test_what_an_initializer_of_main_assigns_is_seen_by_its_functions(script: Script, method: str) -> None:
    done = script(f"""
import functools
from workpool import WorkerPool, current_client

table = None
other = "parent's"

def init(size):
    global made_here
    made_here = size
    assign(list(range(size)))

def assign(values):
    global table
    table = values

def look(index):
    return table[index], other

def with_more():
    return made_here + 1

def bump():
    table.append(0)
    return len(table)

def deep(index):
    return current_client().submit(look, index).result()

class Reader:
    def at(self, index):
        return table[index]

if __name__ == "__main__":
    with WorkerPool(max_workers=1, start_method="{method}", initializer=init, initargs=(9,)) as pool:
        print(pool.submit(look, 3).result(), list(pool.map(lambda i: table[i], range(3))))
        print(pool.submit(functools.partial(look, 4)).result(), pool.submit(Reader().at, 5).result())
        print(pool.submit(bump).result(), pool.submit(bump).result(), pool.submit(deep, 6).result())
        other = "new"
        print(pool.submit(lambda: (table[8], other)).result(), table)
        print(pool.submit(lambda: made_here).result(), pool.submit(with_more).result())
""")
    check(
        done,
        "(3, \"parent's\") [0, 1, 2]", "(4, \"parent's\") 5", "10 11 (6, \"parent's\")", "(8, 'new') None",
        "9 10",
    )  # fmt: skip


def test_traceback_of_a_function_of_main_shows_its_lines(script: Script) -> None:
    done = script("""
from workpool import WorkerPool

def inner(x):
    return 1 / x  # here

class Reader:
    def read(self):
        return inner(0)

if __name__ == "__main__":
    with WorkerPool(max_workers=1) as pool:
        pool.submit(Reader().read).result()
""")
    assert done.returncode == 1
    for line in (
        '.py", line 9, in read',
        "return inner(0)",
        '.py", line 5, in inner',
        "return 1 / x  # here",
    ):
        assert line in done.stderr
    assert "<dynamic-code>" not in done.stderr


def test_cached_functions_of_main_are_cached_in_a_worker(script: Script) -> None:
    done = script("""
import functools
from workpool import WorkerPool

@functools.lru_cache(maxsize=50)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def twice(n):
    return 2 * fib(n), fib.cache_info().maxsize, fib.cache_info().hits, fib.__name__

class Shop:
    @functools.cache
    def price(self, item):
        return len(item)

def local():
    @functools.cache
    def inside(n):
        return n + 1
    return inside

if __name__ == "__main__":
    with WorkerPool(max_workers=1) as pool:
        print(pool.submit(fib, 40).result(), list(pool.map(fib, range(5))))
        print(pool.submit(twice, 30).result(), pool.submit(twice, 30).result())
        print(pool.submit(lambda: Shop().price("pear")).result(), pool.submit(local(), 3).result())
        assert fib.cache_info().currsize == 0
""")
    check(done, "102334155 [0, 1, 1, 2, 3]", "(1664080, 50, 28, 'fib') (1664080, 50, 29, 'fib')", "4 4")


def test_print_in_a_task_is_there_when_it_is_done(script: Script) -> None:
    done = script("""
import os
from workpool import WorkerPool

if __name__ == "__main__":
    with WorkerPool(max_workers=1) as pool:
        for number in range(3):
            pool.submit(print, "task", number).result()
            print("parent", number, flush=True)
        pool.submit(print, "before the end").result()
        pool.submit(os._exit, 1).exception()
""")
    lines = [line for number in range(3) for line in (f"task {number}", f"parent {number}")]
    check(done, *lines, "before the end")


def test_exception_in_a_callback_is_heard_of(script: Script) -> None:
    done = script("""
from workpool import WorkerPool

def angry(task):
    raise LookupError("not here")

if __name__ == "__main__":
    with WorkerPool(max_workers=1) as pool:
        task = pool.submit(abs, -1)
        task.result()
        task.add_done_callback(angry)
""")
    assert done.returncode == 0
    assert "exception calling callback for <Task" in done.stderr
    assert "LookupError: not here" in done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_lock_that_an_initializer_of_main_was_given_guards_its_functions(script: Script, method: str) -> None:
    done = script(f"""
import multiprocessing
from workpool import WorkerPool

lock = None

def init(given):
    global lock
    lock = given

def guarded(x):
    with lock:
        return x

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    with WorkerPool(max_workers=2, mp_context=context, initializer=init, initargs=(context.Lock(),)) as pool:
        print(list(pool.map(guarded, range(3))), lock)
""")
    check(done, "[0, 1, 2] None")


INSIDE = """
import functools
import cloudpickle
from workpool import WorkerPool

factor, calls = 10, 0


def scale(x):
    global calls
    calls += 1
    return x * factor, calls


class Model:
    base = 1

    def __call__(self, x):
        return super().__eq__(self), scale(x)[0] + self.base


def apply(function, x):
    return function(x)


dump, pickled = cloudpickle.Pickler.dump, []
cloudpickle.Pickler.dump = lambda self, value: pickled.append(value) or dump(self, value)
with WorkerPool(max_workers=1) as pool:
    holder = functools.partial(apply, scale)
    print([pool.submit(holder, x).result() for x in (1, 2)])
    factor = 20  # too late: the function is as it was when it was sent first
    print(list(pool.map(holder, [3])), pool.submit(apply, scale, 4).result())
    print(pool.submit(Model(), 5).result(), pool.submit(apply, lambda x: x + 1, 6).result())

    def scale(x):  # another function of that name
        return -x

    print(pool.submit(apply, scale, 7).result())
print([value.__name__ for value in pickled if isinstance(value, type(apply))])
"""


def test_function_of_main_inside_an_object_is_pickled_once_and_one_in_the_worker(script: Script) -> None:
    done = script(INSIDE)
    assert done.stdout.splitlines() == [
        "[(10, 1), (20, 2)]", "[(30, 3)] (40, 4)", "(True, 51) 7", "-7", "['apply', 'scale', 'scale']",
    ], done.stderr  # fmt: skip


def test_entrypoint_of_main_has_its_hooks_and_its_client(script: Script) -> None:
    done = script("""
from workpool import WorkerPool

factor = 3

def entry(arg, client):
    return client.state.start + factor * arg

def start(client):
    client.state.start = 100

entry.on_worker_start = start

pool = WorkerPool(entry, max_workers=1)
print(pool.add_task(2).result())
pool.shutdown()
""")
    check(done, "106")


def test_text_given_to_the_interpreter_is_a_script_too(tmp_path: Path) -> None:
    text = "from workpool import WorkerPool\nf = lambda x: x + 1\nprint(WorkerPool().submit(f, 1).result())"
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=30, cwd=tmp_path,
        env=script_environment(),
    )  # fmt: skip
    check(done, "2")


def test_module_beside_the_script_is_found_in_the_workers_after_chdir(script: Script, tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("def double(x): return 2 * x\n")
    (tmp_path / "deep").mkdir()
    text = (
        "import os, beside_it\nfrom workpool import WorkerPool\npool = WorkerPool(max_workers=1)\n"
        "os.chdir('deep')\nprint(pool.submit(beside_it.double, 4).result())\n"
    )
    check(script(text), "8")
    check(script(text, stdin=True), "8")


# ---- ends --------------------------------------------------------------------------------


BUSY = """
import os, sys, time, threading
from workpool import WorkerPool

def run(number):
    time.sleep(0.005)
    with open("trace", "a") as file:
        file.write(f"{number}\\n")

def stay():
    open("stays", "w").close()
    end = time.monotonic() + 60
    while not os.path.exists("go") and time.monotonic() < end:
        time.sleep(0.001)

def until_it_stays():
    while not os.path.exists("stays"):
        time.sleep(0.001)
"""


def trace_of(folder: Path) -> list[int]:
    trace = folder / "trace"
    return sorted(map(int, trace.read_text().split())) if trace.exists() else []


def test_exit_without_shutdown_finishes_what_was_accepted(script: Script, tmp_path: Path) -> None:
    check(script(BUSY + "pool = WorkerPool(max_workers=2)\nfor i in range(50): pool.submit(run, i)\n"))
    assert trace_of(tmp_path) == list(range(50))


def test_sys_exit_with_work_queued_finishes_it_and_keeps_the_status(script: Script, tmp_path: Path) -> None:
    done = script(
        BUSY + "pool = WorkerPool(max_workers=2)\nfor i in range(50): pool.submit(run, i)\nsys.exit(5)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, "", "")
    assert trace_of(tmp_path) == list(range(50))


@pytest.mark.parametrize(
    ("how", "status", "said"), [("sys.exit(5)", 5, ""), ("raise KeyError('mine')", 1, "KeyError: 'mine'")]
)
def test_leaving_with_by_an_exception_cancels_what_is_queued(
    script: Script, tmp_path: Path, how: str, status: int, said: str
) -> None:
    done = script(f"""{BUSY}
with WorkerPool(max_workers=1) as pool:
    running = pool.submit(stay)
    queued = [pool.submit(run, i) for i in range(1000)]
    until_it_stays()
    # It ends once the queued ones are cancelled.
    queued[-1].add_done_callback(lambda task: open("go", "w").close())
    {how}
""")
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.strip().splitlines()[-1:] == ([said] if said else [])
    assert trace_of(tmp_path) == []


def test_exception_outside_with_finishes_what_was_accepted(script: Script, tmp_path: Path) -> None:
    done = script(
        BUSY
        + "pool = WorkerPool(max_workers=2)\nfor i in range(50): pool.submit(run, i)\nraise KeyError(1)\n"
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("KeyError: 1")
    assert trace_of(tmp_path) == list(range(50))


def test_map_whose_results_nobody_took_is_finished_at_exit(script: Script, tmp_path: Path) -> None:
    check(script(BUSY + "pool = WorkerPool(max_workers=2)\npool.map(run, range(60))\n"))
    assert trace_of(tmp_path) == list(range(60))


def test_pools_unused_disposed_and_forgotten_leave_nothing(script: Script) -> None:
    done = script("""
from workpool import WorkerPool
unused = WorkerPool(max_workers=2)
ready = WorkerPool(max_workers=2, tasks_per_worker=0)
disposed = WorkerPool(max_workers=1)
disposed.wait_ready()
disposed.dispose()
background = WorkerPool(max_workers=1)
task = background.submit(abs, -1)
background.shutdown(wait=False)
print(task.result())
""")
    check(done, "1")


def test_pool_made_in_a_thread_that_ended_is_finished_at_exit(script: Script, tmp_path: Path) -> None:
    done = script(f"""{BUSY}
def work():
    pool = WorkerPool(max_workers=1)
    for i in range(20): pool.submit(run, i)
thread = threading.Thread(target=work)
thread.start()
thread.join()
""")
    check(done)
    assert trace_of(tmp_path) == list(range(20))


@pytest.mark.parametrize("when", ["made", "used", "after"])
def test_pool_that_a_thread_uses_after_the_main_one_ended_refuses_work(script: Script, when: str) -> None:
    done = script(f"""{BUSY}
def make():
    return WorkerPool(max_workers=1)

pool = None if {when!r} == "after" else make()
if {when!r} == "used":
    pool.submit(abs, 1).result()

def work():
    while threading.main_thread().is_alive():  # it is dead once what is done at exit is done
        time.sleep(0.001)
    try:
        (pool or make()).submit(abs, 1)
    except RuntimeError as error:
        print("refused", flush=True)
    else:
        print("accepted", flush=True)

threading.Thread(target=work).start()
""")
    check(done, "refused")


def test_dropped_pool_finishes_its_tasks_and_its_workers_go(script: Script) -> None:
    done = script("""
import gc, os, time
from workpool import WorkerPool

def pid(): return os.getpid()

pool = WorkerPool(max_workers=1)
pool.wait_ready()
tasks = [pool.submit(pid) for _ in range(5)]
del pool
gc.collect()
pids = {task.result() for task in tasks}
end = time.monotonic() + 20
while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < end:
    time.sleep(0.001)
print(len(pids), [pid for pid in pids if os.path.exists(f"/proc/{pid}")])
""")
    check(done, "1 []")


# ---- the parent is killed ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["exec", "fork", "spawn", "forkserver"])
def test_workers_go_when_their_parent_is_killed(running: Callable[..., Running], method: str) -> None:
    guard = "if __name__ == '__main__':" if method in ("spawn", "forkserver") else "if True:"
    parent = running(f"""{BUSY}
{guard}
    pool = WorkerPool(max_workers=2, tasks_per_worker=0, start_method={method!r})
    pool.wait_ready()
    running = pool.submit(stay)  # one is busy, one idle
    queued = [pool.submit(run, i) for i in range(10)]
    until_it_stays()
    print(*[worker.pid for worker in pool.workers], flush=True)
    time.sleep(60)
""")
    pids = [int(pid) for pid in parent.line().split()]
    assert len(pids) == 2
    assert all(map(is_alive, pids))
    os.kill(parent.pid, signal.SIGKILL)
    assert parent.end()[0] == -signal.SIGKILL
    wait_until(lambda: not any(map(is_alive, pids)))


# ---- fork --------------------------------------------------------------------------------


FORKED = """
import os, sys, warnings
from workpool import ForkedPool, WorkerPool, WorkpoolError
warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads

def entry(arg): return arg + 1

pool = WorkerPool(entry, max_workers=1)
print(pool.add_task(1).result(), flush=True)
open_task = pool.add_task(5)
child = os.fork()
"""


def test_pool_in_a_forked_child_is_refused_and_the_parents_is_unharmed(script: Script) -> None:
    done = script(f"""{FORKED}
if child == 0:
    calls = dict(
        submit=lambda: pool.submit(abs, 1), add_task=lambda: pool.add_task(1), map=lambda: pool.map(abs, [1]),
        when_idle=pool.when_idle, wait_ready=pool.wait_ready, statistics=pool.statistics,
        options=lambda: pool.options(key=1).add_task(1), starmap=lambda: pool.starmap(pow, [(1, 2)]),
    )
    for name, call in calls.items():
        try:
            call()
        except ForkedPool as error:
            assert isinstance(error, RuntimeError) and isinstance(error, WorkpoolError)
        else:
            print("accepted:", name, flush=True)
    pool.shutdown()  # nothing of its own
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(open_task.result(), [pool.add_task(i).result() for i in range(3)])
pool.shutdown()
""")
    check(done, "2", "7", "6 [1, 2, 3]")


def test_forked_child_that_only_ends_does_not_hold_up_or_end_the_pool(script: Script) -> None:
    done = script(f"""{FORKED}
if child != 0:
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(open_task.result(), pool.add_task(8).result())
""")
    check(done, "2", "0", "6 9")


def test_forked_child_can_make_a_pool_of_its_own(script: Script) -> None:
    done = script(f"""{FORKED}
if child == 0:
    with WorkerPool(entry, max_workers=1) as own:
        print(own.add_task(10).result(), flush=True)
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), pool.add_task(8).result())
""")
    check(done, "2", "11", "0 9")


def test_task_that_forks_and_whose_child_exits_harms_nobody(script: Script) -> None:
    done = script("""
import os, warnings
from workpool import WorkerPool

def forks():
    warnings.simplefilter("ignore", DeprecationWarning)  # a thread of the worker watches the parent
    child = os.fork()
    if child == 0:
        os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

with WorkerPool(max_workers=1) as pool:
    print(pool.submit(forks).result(), pool.submit(abs, -2).result())
""")
    check(done, "3 2")


HOWS = ["return 'child'", "raise KeyError('of the child')", "await asyncio.sleep(0)"]


@pytest.mark.parametrize("how", HOWS)
def test_fork_that_comes_back_from_its_task_ends_and_harms_nobody(script: Script, how: str) -> None:
    done = script(f"""
import asyncio, os, warnings
import workpool
from workpool import WorkerPool

{"async " if "await" in how else ""}def forks():
    warnings.simplefilter("ignore", DeprecationWarning)
    child = os.fork()
    if child == 0:
        workpool.current_client().check_cancelled()
        {how}
        return
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

with WorkerPool(max_workers=1) as pool:
    print(pool.submit(forks).result(), pool.submit(abs, -2).result())
""")
    assert (done.stdout, done.returncode) == ("1 2\n", 0), done.stderr
    assert "a fork, has left the task that made it" in done.stderr
    assert "Segmentation" not in done.stderr and ("KeyError" in done.stderr) == ("raise" in how)


# ---- Ctrl-C --------------------------------------------------------------------------------


def test_interrupt_during_result_raises_keyboard_interrupt_and_the_task_goes_on(
    running: Callable[..., Running],
) -> None:
    parent = running(f"""{BUSY}
with WorkerPool(max_workers=2) as pool:
    task = pool.submit(stay)
    until_it_stays()
    try:
        print("waits", flush=True)
        task.result()
    except KeyboardInterrupt:
        print("interrupted", task.done(), flush=True)
    open("go", "w").close()
    print(task.result(), pool.submit(abs, -1).result())
""", group=True)  # fmt: skip
    assert parent.line() == "waits"
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    assert parent.end() == (0, "interrupted False\nNone 1\n", "")


def test_interrupt_ends_the_script_cleanly(running: Callable[..., Running], tmp_path: Path) -> None:
    parent = running(f"""{BUSY}
with WorkerPool(max_workers=1) as pool:
    task = pool.submit(stay)
    queued = [pool.submit(run, i) for i in range(100)]
    queued[-1].add_done_callback(lambda task: open("go", "w").close())
    until_it_stays()
    print("waits", flush=True)
    task.result()
""", group=True)  # fmt: skip
    assert parent.line() == "waits"
    os.killpg(parent.pid, signal.SIGINT)
    status, out, err = parent.end()
    assert (status, out) == (-signal.SIGINT, "")
    assert err.strip().endswith("KeyboardInterrupt")
    assert err.count("Traceback") == 1
    assert trace_of(tmp_path) == []


LONG = """
import asyncio, os, sys, time
from workpool import WorkerPool

def stay(number):
    open(f"stays.{os.getpid()}", "w").close()
    time.sleep(60)

def wait_until_it_stays():
    while not any(name.startswith("stays") for name in os.listdir(".")):
        time.sleep(0.001)
"""


@pytest.mark.parametrize("how", ["with", "without", "map", "asyncio", "callbacks"])
def test_interrupt_with_much_queued_and_long_tasks_running_ends_at_once(
    running: Callable[..., Running], how: str
) -> None:
    bodies = {
        "with": """
with WorkerPool(max_workers=2) as pool:
    tasks = [pool.submit(stay, n) for n in range(10_000)]
    wait_until_it_stays()
    print("waits", flush=True)
    tasks[-1].result()
""",
        "without": """
pool = WorkerPool(max_workers=2)
tasks = [pool.submit(stay, n) for n in range(30_000)]
wait_until_it_stays()
print("waits", flush=True)
tasks[0].result()
""",
        "map": """
with WorkerPool(max_workers=2) as pool:
    results = pool.map(stay, range(10_000))
    wait_until_it_stays()
    print("waits", flush=True)
    list(results)
""",
        "asyncio": """
async def main():
    async with WorkerPool(max_workers=2) as pool:
        tasks = [pool.submit(stay, n) for n in range(10_000)]
        wait_until_it_stays()
        print("waits", flush=True)
        await tasks[-1]
asyncio.run(main())
""",
        "callbacks": """
with WorkerPool(max_workers=2) as pool:
    tasks = [pool.submit(stay, n) for n in range(10_000)]
    for task in tasks:
        task.add_done_callback(lambda task: None)
    wait_until_it_stays()
    print("waits", flush=True)
    time.sleep(60)
""",
    }
    parent = running(LONG + bodies[how], group=True)
    assert parent.line() == "waits"
    os.killpg(parent.pid, signal.SIGINT)
    begun = time.monotonic()
    status, out, err = parent.end()
    assert time.monotonic() - begun < 20  # and not the minute that the tasks take
    assert (status, out) == (-signal.SIGINT, "")
    assert err.strip().endswith("KeyboardInterrupt")
    # asyncio shows how the cancellation became an interrupt, in one report of two parts.
    assert err.count("Traceback") == (2 if how == "asyncio" else 1), err


def test_terminating_the_parent_ends_the_workers(running: Callable[..., Running]) -> None:
    parent = running(f"""{LONG}
pool = WorkerPool(max_workers=2)
tasks = [pool.submit(stay, n) for n in range(100)]
wait_until_it_stays()
print("waits", flush=True)
time.sleep(60)
""")
    assert parent.line() == "waits"
    os.kill(parent.pid, signal.SIGTERM)
    assert parent.end()[0] == -signal.SIGTERM


def test_a_program_that_becomes_another_leaves_no_worker(script: Script) -> None:
    done = script(
        LONG
        + '''
pool = WorkerPool(max_workers=2)
tasks = [pool.submit(abs, n) for n in range(100)]
tasks[-1].result()
print("before", flush=True)
after = """
import os, time
end = time.monotonic() + 10
def children(): return open(f"/proc/self/task/{os.getpid()}/children").read().split()
def state(pid): return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
def living(): return [pid for pid in children() if state(pid) != "Z"]
while living() and time.monotonic() < end:
    time.sleep(0.001)
print("after", len(living()))
"""
os.execv(sys.executable, [sys.executable, "-c", after])
'''
    )
    check(done, "before", "after 0")


def test_a_task_whose_subprocess_outlives_it_holds_up_nobody(script: Script) -> None:
    done = script("""
import subprocess, sys
from workpool import WorkerPool

def start():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(5)"]).pid

with WorkerPool(max_workers=1, max_tasks_per_child=1) as pool:
    pids = {pool.submit(start).result() for _ in range(3)}
import os, signal
for pid in pids:
    os.kill(pid, signal.SIGKILL)
print(len(pids))
""")
    check(done, "3")


def test_a_daemon_thread_that_still_submits_at_exit_is_refused_or_gone(script: Script) -> None:
    done = script("""
import threading
from workpool import PoolClosed, WorkerPool

pool = WorkerPool(max_workers=1)
begun = threading.Event()

def submit():
    try:
        while True:
            pool.submit(abs, -1)
            begun.set()
    except (PoolClosed, RuntimeError):
        pass

threading.Thread(target=submit, daemon=True).start()
begun.wait()
print("ends")
""")
    check(done, "ends")
