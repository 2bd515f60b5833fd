"""The one background event loop on which the synchronous doors run."""

from __future__ import annotations

import asyncio
import atexit
import queue
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from concurrent.futures import Future
from contextlib import aclosing, suppress
from typing import Any, TypeVar

T = TypeVar("T")

_CLOSING_SECONDS = 5.0


class BackgroundLoop:
    """An event loop in a daemon thread of its own.

    A synchronous call is the asynchronous one, run there: it works inside a running loop
    (a notebook) too, and connections are kept from call to call.
    """

    def __init__(self) -> None:
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._main, name="hoptrail", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:  # Any: send and yield types, unused
        """Give the coroutine's result; Ctrl-C cancels it, and waits until it has ended."""
        if threading.current_thread() is self._thread:
            work.close()
        (result,) = self.iterate(_once(work))
        return result

    def iterate(self, stream: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """Give what the asynchronous generator gives; leaving early closes it, and waits."""
        items: queue.SimpleQueue[tuple[T] | None] = queue.SimpleQueue()

        async def pump() -> None:
            try:
                async with aclosing(stream):
                    async for item in stream:
                        items.put((item,))
            finally:
                items.put(None)

        future = self._submit(pump())
        try:
            while (item := items.get()) is not None:
                yield item[0]
            future.result()
        finally:
            if future.cancel():
                with suppress(queue.Empty):
                    while items.get(timeout=_CLOSING_SECONDS) is not None:
                        pass

    @property
    def alive(self) -> bool:
        """Whether its thread runs; after a fork it does not."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Cancel what runs, close what is open, end the thread."""
        if self.alive:
            loop = self._loop.result()
            loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_CLOSING_SECONDS)

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("called from a coroutine: use the asynchronous method and await it")
        return asyncio.run_coroutine_threadsafe(work, self._loop.result())

    def _main(self) -> None:
        # Not asyncio.run: it ends its executor from a new thread, and none can be started while
        # the interpreter shuts down (Python 3.12), which is when this loop ends.
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._serve())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop.set_result(asyncio.get_running_loop())
        await self._stop.wait()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _once(work: Coroutine[Any, Any, T]) -> AsyncGenerator[T, None]:
    yield await work


_lock = threading.Lock()
_shared: list[BackgroundLoop] = []


def background() -> BackgroundLoop:
    """Give the process's background loop, started on first use (and again after a fork)."""
    with _lock:
        if not (_shared and _shared[0].alive):
            _shared[:] = [BackgroundLoop()]
            atexit.register(_shared[0].close)
        return _shared[0]
