"""The command line; and its `run`: map an entrypoint over the items of a file.

One thread reads items and adds tasks, the main thread takes their results in
order and writes them. A bounded queue between the two is all that is held: an
endless input runs in constant memory, and a result is written once it and those
before it are there, whether or not another item arrives.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import signal
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workpool import top
from workpool.files import BadItem, Unusable, open_sink, open_source
from workpool.measure import command as bench

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workpool import Task, WorkerPool
    from workpool.files import Sink, Source

# Tasks between the reader and the writer, per worker. More would let a long task
# hold up fewer others, fewer would hold less memory.
WINDOW_PER_WORKER = 64

EXIT_OK = 0
EXIT_SOME_FAILED = 1
EXIT_UNUSABLE = 2
EXIT_INTERRUPTED = 128 + 2  # as a shell tells SIGINT
EXIT_BROKEN_PIPE = 128 + 13  # and SIGPIPE


class Pending(NamedTuple):
    """What the reader hands to the writer, in the order of the input."""

    number: int
    task: Task[Any] | BadItem


class Progress:
    """The number of items done, on standard error while that is a terminal."""

    # A second, where tqdm is not installed.
    REDRAWS_HZ = 10

    def __init__(self, total: int | None, *, shown: bool) -> None:
        self._bar: Any = None
        self._plain = False
        self._done = 0
        self._next_redraw = 0.0
        # On the same terminal results and bar take turns.
        self._shares_terminal = shown and sys.stdout.isatty()
        if shown:
            try:
                from tqdm import tqdm
            except ImportError:
                self._plain = True
            else:
                # A terminal may not know its size (`script`, `docker -t`): then tqdm draws nothing.
                sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0
                size = {"dynamic_ncols": True} if sized else {"ncols": 80, "nrows": 24}
                self._bar = tqdm(total=total, unit="task", file=sys.stderr, **size)

    def step(self) -> None:
        """Count one more item."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()
        elif self._plain and time.monotonic() >= self._next_redraw:
            self._next_redraw = time.monotonic() + 1 / self.REDRAWS_HZ
            print(f"\r{self._done} tasks", end="", file=sys.stderr, flush=True)

    def above(self, *, to_stdout: bool = False) -> contextlib.AbstractContextManager[object]:
        """Keep the bar off the line while something else is written to the terminal."""
        if self._bar is None or (to_stdout and not self._shares_terminal):
            return contextlib.nullcontext()
        return self._bar.external_write_mode(file=sys.stdout if to_stdout else sys.stderr)  # type: ignore[no-any-return]

    def say(self, text: str) -> None:
        """Write one line to standard error."""
        with self.above():
            start = "\r" if self._plain else ""
            print(f"{start}workpool: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.close()
        elif self._plain:
            print(f"\r{self._done} tasks", file=sys.stderr, flush=True)


class Run:
    """One run of a source through a pool into a sink."""

    def __init__(self, pool: WorkerPool[Any, Any], source: Source, sink: Sink, progress: Progress) -> None:
        self._pool = pool
        self._source = source
        self._sink = sink
        self._progress = progress
        self._pending: queue.Queue[Pending | BaseException | None] = queue.Queue(
            WINDOW_PER_WORKER * pool._max_workers
        )
        self.done = 0
        self.failed = 0

    def read(self) -> None:
        """Add a task for each item. The reader's thread; the end or an error closes the queue."""
        end: BaseException | None = None
        try:
            for number, item in self._source.items:
                task = item if isinstance(item, BadItem) else self._pool.add_task(item)
                self._pending.put(Pending(number, task))
        except BaseException as error:
            end = error
        self._pending.put(end)

    def write(self) -> None:
        """Write results in order until the input ends."""
        threading.Thread(target=self.read, name="workpool-reader", daemon=True).start()
        while True:
            try:
                pending = self._pending.get_nowait()
            except queue.Empty:
                self._sink.flush()  # a live input is answered now, not when a buffer is full
                pending = self._pending.get()
            if pending is None:
                return
            if isinstance(pending, BaseException):
                raise Unusable(f"cannot go on: {describe(pending)}") from pending
            self._settle(*pending)
            self._progress.step()

    def _settle(self, number: int, task: Task[Any] | BadItem) -> None:
        self.done += 1
        if isinstance(task, BadItem):
            reason = task.reason
        else:
            if not task.done():
                self._sink.flush()
            try:
                error = task.exception()
            except CancelledError as cancelled:
                error = cancelled
            if error is None:
                try:
                    with self._progress.above(to_stdout=True):
                        self._sink.write(task.result())
                    return
                except (TypeError, ValueError) as unwritable:
                    error = unwritable
            reason = describe(error)
        self.failed += 1
        self._progress.say(f"{self._source.place(number)}: {reason}")


def describe(error: BaseException) -> str:
    """Return an exception as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def open_pool(entrypoint: str, name: str | None, workers: int | None) -> WorkerPool[Any, Any]:
    """Make the pool: ``entrypoint`` is a file or module, with ``:symbol`` or without."""
    from workpool import WorkerPool

    where, colon, symbol = entrypoint.rpartition(":")
    if not (colon and symbol.isidentifier()):
        where, symbol = entrypoint, ""
    if name and symbol:
        raise Unusable(f"the entrypoint is named twice: {symbol} and --name {name}")
    # As `python -m` does: a module beside the user is found by the script too.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return WorkerPool(where, max_workers=workers, entrypoint_name=name or symbol or "worker_entrypoint")
    except Exception as error:  # importing it may raise anything
        raise Unusable(f"cannot start a pool of {entrypoint}: {describe(error)}") from error


def run(options: argparse.Namespace) -> int:
    """Carry out ``workpool run`` and return its exit status."""
    form = options.format or {".jsonl": "jsonl", ".npy": "npy"}.get(Path(options.input).suffix, "lines")
    shown = options.progress and sys.stderr.isatty()
    source = open_source(options.input, form, count=shown)
    if options.output and all(Path(path).exists() for path in (options.input, options.output)):
        if Path(options.output).samefile(options.input):
            raise Unusable(f"{options.output} is the input: it would be lost")
    interrupted = False
    try:
        with open_pool(options.entrypoint, options.name, options.workers) as pool:
            sink = open_sink(options.output, form)
            progress = Progress(source.total, shown=shown)
            work = Run(pool, source, sink, progress)
            try:
                work.write()
                sink.close()
            except KeyboardInterrupt:
                # Whatever this thread does from here on, the next one ends the process,
                # and the workers see their parent go.
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                interrupted = True
                progress.say("interrupted; running tasks end first, a second Ctrl-C stops them")
                pool.shutdown(wait=False, cancel_futures=True)
                sink.flush()
            except BrokenPipeError:
                raise
            except OSError as error:
                raise Unusable(f"cannot write {options.output or 'the results'}: {error.strerror}") from error
            finally:
                progress.close()
    except BrokenPipeError:
        return nobody_reads()
    except KeyboardInterrupt:
        # While the pool starts, or ends: at the end of the interpreter it would wait again.
        print("workpool: interrupted", file=sys.stderr, flush=True)
        os._exit(EXIT_INTERRUPTED)
    if interrupted:
        return EXIT_INTERRUPTED
    if work.failed:
        progress.say(f"{work.failed} of {work.done} failed")
    return EXIT_SOME_FAILED if work.failed else EXIT_OK


def nobody_reads() -> int:
    """Whoever read the results has gone; the interpreter flushes stdout once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_BROKEN_PIPE


def positive(text: str) -> int:
    """Return a number of at least 1 from the command line."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    whole = argparse.ArgumentParser(prog="workpool", description="A pool of worker processes.")
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "run",
        help="map an entrypoint over the items of a file",
        description="Call an entrypoint in worker processes with each item of INPUT and write the results "
        "in the order of the items. Items that fail are reported with their line (of an .npy: their index) "
        "on standard error and left out; the exit status is then 1.",
    )
    command.add_argument(
        "entrypoint", metavar="ENTRYPOINT", help="FILE.py or dotted module, with :SYMBOL or not"
    )
    command.add_argument(
        "input",
        metavar="INPUT",
        help="text file (an item is a line), .jsonl (a JSON value), .npy (a row); - is standard input",
    )
    command.add_argument(
        "--output",
        metavar="FILE",
        help="write there, not to standard output; .npy stacks the results, .jsonl and .txt choose "
        "the form of a line (default: text for text, else JSON)",
    )
    command.add_argument(
        "--workers", metavar="N", type=positive, help="at most N workers (default: the usable CPUs)"
    )
    command.add_argument(
        "--format", choices=["lines", "jsonl", "npy"], help="of INPUT (default: by its suffix)"
    )
    command.add_argument(
        "--name", metavar="SYMBOL", help="the entrypoint in its module (default: worker_entrypoint)"
    )
    command.add_argument("--no-progress", dest="progress", action="store_false", help="draw no progress bar")
    command.set_defaults(carry_out=run)
    bench.add_parser(commands)
    top.add_parser(commands)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.carry_out(options)
    except Unusable as error:
        print(f"workpool: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    except KeyboardInterrupt:
        print("workpool: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return nobody_reads()
    return status
