"""Loopback streams that go on, or break off, only when their reader has what came before.

Without it a reader that is held up for some milliseconds gets two tokens as one piece, or loses
the last ones before a reset, and a test that counts them fails on a busy machine only.
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.providers import breakage, emission
from tests.providers.fault import Fault
from tests.providers.stream import Stream
from tests.providers.wire import Exchange


class Reader:
    """Tells a provider, from any thread, that what it sent last was read."""

    def __init__(self) -> None:
        self._has_read = threading.Event()

    def has_read(self) -> None:
        """Let the provider go on."""
        self._has_read.set()

    async def given(self, exchange: Exchange) -> None:
        """Hand over what is queued, and wait until it was read or the reader has left."""
        self._has_read.clear()
        await exchange.flush()
        while not self._has_read.is_set():  # noqa: ASYNC110 # the reader is in another thread
            await asyncio.sleep(0.002)


def token_by_token(monkeypatch: pytest.MonkeyPatch) -> Reader:
    """Send each token of a reply that has a pace when the one before was read."""
    reader = Reader()

    async def wait(exchange: Exchange, seconds: float) -> None:
        if seconds > 0:
            await reader.given(exchange)

    monkeypatch.setattr(emission, "wait", wait)
    return reader


def cut_once_read(monkeypatch: pytest.MonkeyPatch, kind: str) -> Reader:
    """Let a fault break a stream off when something of the tokens before it was read."""
    reader, cut = Reader(), breakage.CUTS[kind]

    async def later(exchange: Exchange, stream: Stream, fault: Fault) -> None:
        await reader.given(exchange)
        await cut(exchange, stream, fault)

    monkeypatch.setitem(breakage.CUTS, kind, later)
    return reader
