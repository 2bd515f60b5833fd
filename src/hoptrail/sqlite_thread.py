"""SQLite for an event loop, on a thread that is seen to its end."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from hoptrail import sqlite_file
from hoptrail.sqlite_file import BUSY_SECONDS

T = TypeVar("T")


class SqliteThread(aiosqlite.Connection):
    """A connection that nobody leaves half open or half closed, whoever is cancelled.

    aiosqlite's thread ends with "Event loop is closed", and leaves the file open, when the loop
    does not wait for it: https://github.com/omnilib/aiosqlite/issues/241.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(self._connected, iter_chunk_size=64)
        self._path = path
        self._native: sqlite3.Connection | None = None
        self._stopping: asyncio.Future[Any] | None = None

    def stop(self) -> asyncio.Future[Any] | None:
        """Have the file closed when all that was asked for is done; once is enough."""
        self._stopping = self._stopping or super().stop()
        return self._stopping

    async def end(self) -> None:
        """Close the file when all that was asked for is done; it has been opened, or tried to.

        Whoever is cancelled meanwhile is so afterwards.

        Raises:
            TimeoutError: the disk does not answer.
            sqlite3.Error: the file cannot be closed.
        """
        stopping = self.stop()
        assert stopping is not None, "a loop is running"
        try:
            await seen_through(stopping, sqlite_file.DISK_SECONDS)
        finally:
            # When its opening is cancelled, aiosqlite forgets what was opened.
            if stopping.done() and self._native is not None:
                self._native.close()

    def _connected(self) -> sqlite3.Connection:
        self._native = sqlite3.connect(self._path, timeout=BUSY_SECONDS, check_same_thread=False)
        return self._native


async def seen_through(work: asyncio.Future[T], seconds: float = math.inf) -> T:
    """Give what some work gives; whoever is cancelled meanwhile is so when it is over.

    A scope of anyio's cancels at every await, and the end of a loop cancels the tasks that are
    left, then waits for them: neither is an end of the work.

    Raises:
        TimeoutError: it is not over after so many seconds; the other errors are those of the work.
    """
    loop, cancelled = asyncio.get_running_loop(), None
    until = loop.time() + seconds
    while not work.done() and (left := until - loop.time()) > 0:
        try:
            await asyncio.wait({work}, timeout=None if math.isinf(left) else left)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise cancelled
    if not work.done():
        raise TimeoutError
    return work.result()
