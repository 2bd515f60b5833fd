"""Other people's blocking code: each call in a thread of its own, which nobody has to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def in_own_thread(work: Callable[[], T]) -> T:
    """Give what a blocking call returns; whoever is cancelled meanwhile leaves it to itself.

    The threads of `asyncio.to_thread` are few and everybody's: some calls that hang would hold up
    all others, and the end of the event loop and of the process would wait for them too.
    """
    future: Future[T] = Future()
    context = copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(work))
        except StopIteration as error:  # no future takes one, and its reader would wait for ever
            future.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))
        except BaseException as error:  # noqa: BLE001 # it is raised where the result is awaited
            future.set_exception(error)

    future.set_running_or_notify_cancel()
    Thread(target=run, name="hoptrail-caller", daemon=True).start()
    return await asyncio.wrap_future(future)
