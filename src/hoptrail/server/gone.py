"""Clients that leave: what was done for them alone is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.types import Receive


class ClientGone(Exception):
    """The client has left: nobody reads what would be answered."""


async def until_gone(receive: Receive) -> None:
    """Wait until the client has left.

    Raises:
        ClientGone: it has.
    """
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientGone


@asynccontextmanager
async def cancelled_when_gone(request: Request) -> AsyncIterator[None]:
    """Cancel the block when the client leaves. The body has to be read before.

    Raises:
        ClientGone: it has left.
    """
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(until_gone(request.receive))
            try:
                yield
            except Exception as error:  # noqa: BLE001 # raised below, out of the group's wrapping
                failure = error
            watch.cancel()
    except* ClientGone:
        failure = ClientGone()
    if failure is not None:
        raise failure
