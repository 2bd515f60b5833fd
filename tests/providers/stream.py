"""A token stream before it is put on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.providers.script import Reply
from tests.providers.wire import Exchange


@dataclass
class Stream:
    """A token stream, before it is framed: each payload is one JSON document."""

    content_type: str
    frame: Callable[[bytes], bytes]
    opening: list[bytes]
    tokens: list[bytes]
    closing: list[bytes]
    error: bytes
    """Framed: how this server tells of an error in mid-stream."""
    done: bytes = b""
    """Framed: what comes after the last payload."""
    comment: bytes = b"\n"
    """Framed: something that means nothing."""
    headers: Mapping[str, str] = field(default_factory=dict)
    late_header: bool = False
    """The header is sent with the first token, not before it."""


def packed(document: Any) -> bytes:
    """Compact JSON in raw UTF-8."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


async def pause(seconds: float) -> None:
    """Sleep, if there is anything to sleep."""
    if seconds > 0:
        await asyncio.sleep(seconds)


async def held(exchange: Exchange, reply: Reply, sent: int | None = None) -> None:
    """Where so many tokens are sent, or all, let the client have them until it may go on."""
    if reply.hold is not None and sent in (None, reply.hold_after):
        await exchange.flush()
        while not reply.hold():  # noqa: ASYNC110 # who lets it go on is in another thread
            await asyncio.sleep(0.005)


async def wait(exchange: Exchange, seconds: float) -> None:
    """Let the client have what is queued, then pause."""
    if seconds > 0:
        await exchange.flush()
        await asyncio.sleep(seconds)
