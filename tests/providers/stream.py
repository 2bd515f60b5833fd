"""A token stream before it is put on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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


async def wait(exchange: Exchange, seconds: float) -> None:
    """Let the client have what is queued, then pause."""
    if seconds > 0:
        await exchange.flush()
        await asyncio.sleep(seconds)
