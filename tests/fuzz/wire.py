"""A backend whose server's answer is these bytes, in pieces of some size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from types import ModuleType
from unittest.mock import patch

from langchain_core.messages import AIMessage, HumanMessage

from hoptrail.backend import Backend, CallOptions
from hoptrail.errors import BackendError

Outcome = tuple[str, object]

_ASKED = [HumanMessage("Where was Mozart born?")]


def check_body(module: ModuleType, backend: Backend, data: bytes) -> None:
    """A body is a whole answer or a typed error, and the same one however it arrives."""
    size, body = (1 + data[0], data[1:]) if data else (1, b"")
    whole = _outcome(module, backend, [body] if body else [])
    for step in (1, size):
        pieces = [body[at : at + step] for at in range(0, len(body), step)]
        assert _outcome(module, backend, pieces) == whole


def _outcome(module: ModuleType, backend: Backend, parts: list[bytes]) -> Outcome:
    @asynccontextmanager
    async def posted(*_: object) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        async def arriving() -> AsyncGenerator[bytes, None]:
            for part in parts:
                yield part

        yield arriving()

    with patch.object(module, "posted", posted):
        return _runner().run(_asked(backend))


async def _asked(backend: Backend) -> Outcome:
    try:
        result = await backend.generate(_ASKED, CallOptions())
    except BackendError as error:
        str(error).encode()
        return type(error).__name__, error.status
    message = result.generations[0].message
    assert isinstance(message, AIMessage)
    content = str(message.content)
    content.encode()
    assert content.strip() or message.tool_calls or message.invalid_tool_calls
    return "answer", content


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()
