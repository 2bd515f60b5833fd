"""A limit on the time that others take: what holds up our own event loop does not count."""

from __future__ import annotations

import asyncio
from types import TracebackType

_SLICES = 8


class TimeLimit:
    """Cancels its ``async with`` block after so many seconds in which the loop was listening.

    `asyncio.timeout` goes by the clock: after a second in which the loop was busy it breaks off
    what was done long ago and only not taken in, and a backend gets the blame. This counts the
    time in slices, and one that ends late counts as one.

    Raises `TimeoutError` as `asyncio.timeout` does.
    """

    def __init__(self, seconds: float) -> None:
        self._slice = seconds / _SLICES
        self._left = _SLICES
        self._block = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._block.__aenter__()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._slice, self._count)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        await self._block.__aexit__(kind, error, trace)

    def _count(self) -> None:
        self._left -= 1
        if self._left:
            self._timer = self._loop.call_later(self._slice, self._count)
        else:
            self._block.reschedule(self._loop.time())
