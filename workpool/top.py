"""``python -m workpool top``: a live view of a pool of another process.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from workpool.files import Unusable

if TYPE_CHECKING:
    import argparse

    from workpool.watching import SeenPool, Watched

# Clear to the end of the line, and of the screen: what is redrawn does not flicker.
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
# How long a view of several pools may be, at most: the first few, and how many more.
_LISTED = 50


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "top",
        help="watch a running pool",
        description="Show what the workers of a running pool of yours do, until Ctrl-C. The pool is only "
        "looked at: nothing in it changes, and it may end meanwhile. With several pools and no POOL they "
        "are listed.",
    )
    command.add_argument(
        "pool", metavar="POOL", nargs="?", help="the pool's name, or the process id of its parent or a worker"
    )
    command.add_argument("--once", action="store_true", help="print once, and end")
    command.add_argument(
        "--interval", metavar="SECONDS", type=_seconds, default=1.0, help="between two looks (default: 1)"
    )
    command.set_defaults(carry_out=run)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.05 <= seconds <= 3600:
        raise ValueError(text)
    return seconds


def run(options: argparse.Namespace) -> int:
    """Carry out ``workpool top`` and return its exit status."""
    from workpool.watching import find_pools  # not for the other commands

    pools, strange = find_pools()
    if options.pool is not None:
        wanted = [pool for pool in pools if _is_called(pool, options.pool)]
        if not wanted:
            raise Unusable(f"no pool {options.pool!r}; {_there_are(pools, strange)}")
        pools = wanted
    if not pools:
        raise Unusable(_there_are(pools, strange))
    if len(pools) > 1:
        print("\n".join(listing(pools)))
        return 0
    try:
        _watch(pools[0], options.once, options.interval)
    except KeyboardInterrupt:
        print()
    return 0


def _is_called(pool: Watched, text: str) -> bool:
    if text.isdecimal():
        return int(text) in {pool.pid, *(holder.pid for holder in pool.holders)}
    # A worker may know the first characters of its pool's name alone.
    return bool(pool.name) and text.startswith(pool.name) and (text == pool.name or len(pool.name) >= 10)


def _there_are(pools: list[Watched], strange: int) -> str:
    others = f", and {strange} of another release" if strange else ""
    names = ", ".join(f"{pool.name or '?'} (pid {pool.pid})" for pool in pools)
    return f"there are: {names}{others}" if names else f"no pool of yours is running{others}"


def listing(pools: list[Watched]) -> list[str]:
    """Lines that name the pools, one each."""
    lines = [f"{'pid':>8}  {'pool':16}  {'workers':>7}  {'queued':>8}  {'running':>7}"]
    for pool in pools[:_LISTED]:
        seen = pool.snapshot()
        lines.append(
            f"{pool.pid:>8}  {pool.name or '?':16}  {len(seen.workers):>7}  {seen.tasks_queued:>8,}  "
            f"{seen.tasks_running:>7,}"
        )
    if len(pools) > _LISTED:
        lines.append(f"and {len(pools) - _LISTED} more")
    return lines


def _watch(pool: Watched, once: bool, interval: float) -> None:
    """Draw until the pool ends: in place on a terminal, else one view after the other."""
    in_place = sys.stdout.isatty() and not once
    before: SeenPool | None = None
    drawn = False
    while True:
        seen = pool.snapshot()
        # Nobody may hold it any more: then what was seen is of a pool that is being taken down.
        if not pool.lives:
            break
        lines = screen(pool.name, pool.pid, seen, before)
        if in_place:
            start = _HOME if drawn else _HOME + _REST_OF_SCREEN
            text = "".join(f"{line}{_REST_OF_LINE}\n" for line in lines)
            print(start + text + _REST_OF_SCREEN, end="", flush=True)
        else:
            print(*([""] if drawn else []), *lines, sep="\n", flush=True)
        drawn = True
        if once:
            return
        before = seen
        time.sleep(interval)
    print(f"the pool of process {pool.pid} has ended")


def screen(name: str, pid: int, seen: SeenPool, before: SeenPool | None) -> list[str]:
    """Return one view as lines; with an earlier snapshot it has rates."""
    rate = ""
    passed = seen.at - before.at if before else 0.0
    if before and passed > 0:
        rate = f"  {(seen.tasks_done - before.tasks_done) / passed:,.0f}/s"
    head = (
        f"{name or 'pool'} of process {pid}: {len(seen.workers)} workers, "
        f"{seen.tasks_running:,} running, {seen.tasks_queued:,} queued "
        f"({seen.queued_in_parent:,} for anyone), {seen.tasks_done:,} done{rate}"
    )
    columns = (
        f"{'worker':>6} {'pid':>8} {'state':9} {'busy':>5} {'tasks run':>12} {'steals':>10} {'queued':>7} "
        f"{'load':>8} {'arena':>9}"
    )
    lines = [
        head,
        f"arena: {size(seen.arena_bytes)} of {size(seen.arena_budget_bytes)} in use",
        "",
        columns,
    ]
    earlier = {worker.id: worker.busy_seconds for worker in before.workers} if before else {}
    for worker in seen.workers:
        busy = ""
        if passed > 0 and worker.id in earlier:
            share = (worker.busy_seconds - earlier[worker.id]) / passed
            busy = f"{100 * min(max(share, 0.0), 1.0):.0f} %"
        lines.append(
            f"{worker.id:>6} {worker.pid or '':>8} {worker.state:9} {busy:>5} {worker.tasks_run:>12,} "
            f"{worker.steals:>10,} {worker.queued:>7,} {worker.load:>6.2f} s {size(worker.arena_bytes):>9}"
        )
    return lines


def size(count: float) -> str:
    """Return bytes with a unit that a person reads."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
