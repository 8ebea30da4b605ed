"""The results of a map: an iterator, and in an event loop an asynchronous one.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from workpool.mapping import LongestFirst, Mapping
    from workpool.progress import Bar

R = TypeVar("R")

# Results that are there are given out in a row for so long, before the loop sees to others.
_TURN_SECONDS = 0.0005


class Results(Generic[R]):
    """What ``map`` returns: results as they are asked for; dropping it cancels the rest.

    ``async for`` takes them without holding up the event loop.
    """

    def __init__(
        self, mapping: Mapping[R] | LongestFirst[R], ordered: bool, timeout: float | None, bar: Bar | None
    ) -> None:
        self._mapping = mapping
        self._ordered = ordered
        self._end = None if timeout is None else time.monotonic() + timeout
        results: Any = mapping.results(ordered, timeout)
        self._results = results if bar is None else bar.over(results)
        self._turn_ends = 0.0

    def __iter__(self) -> Iterator[R]:
        results: Iterator[R] = self._results  # itself, so that a loop runs at its speed
        return results

    def __next__(self) -> R:
        result: R = next(self._results)
        return result

    def close(self) -> None:
        """Take no more, and cancel what has not begun."""
        self._results.close()
        self._mapping.close()  # it may not have begun to give

    def __aiter__(self) -> Results[R]:
        return self

    async def __anext__(self) -> R:
        if not self._mapping.is_ready(self._ordered):
            try:
                await self._arrival()
            except BaseException:  # cancelled, or out of time
                self.close()
                raise
            self._turn_ends = time.monotonic() + _TURN_SECONDS
        elif time.monotonic() > self._turn_ends:
            import asyncio

            await asyncio.sleep(0)
            self._turn_ends = time.monotonic() + _TURN_SECONDS
        try:
            result: R = next(self._results)
        except StopIteration:
            raise StopAsyncIteration from None
        return result

    async def _arrival(self) -> None:
        """Return when the next result is there, or why there is none."""
        import asyncio

        loop = asyncio.get_running_loop()
        while True:
            stirred = loop.create_future()
            # Before the look: what comes in between is told.
            self._mapping.listen(lambda stirred=stirred: _tell(loop, stirred))  # type: ignore[misc]
            if self._mapping.is_ready(self._ordered):
                return
            left = None if self._end is None else self._end - time.monotonic()
            async with asyncio.timeout(left):
                await stirred


def _tell(loop: asyncio.AbstractEventLoop, stirred: asyncio.Future[None]) -> None:
    try:
        loop.call_soon_threadsafe(_stir, stirred)
    except RuntimeError:
        pass  # the loop is closed: nobody waits there


def _stir(stirred: asyncio.Future[None]) -> None:
    if not stirred.done():
        stirred.set_result(None)
