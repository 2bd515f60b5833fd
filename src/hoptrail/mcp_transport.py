"""How the MCP door is reached: over stdin and stdout, or at an address of a web application."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TextIO, cast

import anyio
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings

from hoptrail.answer_tool import in_words
from hoptrail.errors import HoptrailError
from hoptrail.mcp_server import GONE, Events, build_mcp_server

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.types import Message, Receive, Scope, Send

    from hoptrail.trail import Hoptrail

_log = logging.getLogger(__name__)

_MOST_SESSIONS = 1000


class McpEndpoint:
    """An ASGI application that serves MCP over streamable HTTP while `running` is entered.

    Hosts, origins, tokens and the size of bodies are its host's to check.
    """

    def __init__(self, trail: Hoptrail, own: Callable[[Events], Events] | None = None) -> None:
        self._server = build_mcp_server(trail, own)
        self._sessions: StreamableHTTPSessionManager | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer requests while the block runs; its end interrupts the runs of open sessions."""
        # This makes the sessions of one lifetime; the application around them is not needed.
        self._server.streamable_http_app(
            max_sessions=_MOST_SESSIONS,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        async with self._server.session_manager.run():
            self._sessions = self._server.session_manager
            try:
                yield
            finally:
                self._sessions = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert self._sessions is not None  # the host has entered `running`
        gone = asyncio.Event()

        async def watched() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                gone.set()
            return message

        try:
            await self._sessions.handle_request({**scope, GONE: gone}, watched, send)
        finally:
            gone.set()


async def serve_stdio(trail: Hoptrail, lines: AsyncIterable[str], out: TextIO) -> bool:
    """Serve MCP to whoever writes ``lines`` and reads ``out``, until they end.

    SIGINT and SIGTERM end it too; then this gives True. Open runs are interrupted, and can be
    resumed. A second signal ends the process at once.
    """
    serving, interrupted = asyncio.current_task(), False
    assert serving is not None  # this is a coroutine

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        _on_signals(None)
        serving.cancel()

    _on_signals(interrupt)
    try:
        await _serve(trail, lines, out)
    except asyncio.CancelledError:
        if not interrupted:
            raise
    return interrupted


async def _serve(trail: Hoptrail, lines: AsyncIterable[str], out: TextIO) -> None:
    # All that MCPServer has for stdio claims the descriptors itself, and reads them in a thread
    # that no signal ends.
    server = build_mcp_server(trail)._lowlevel_server
    # The transport does nothing but iterate over it.
    stdin = cast("anyio.AsyncFile[str]", lines)
    try:
        async with asyncio.TaskGroup() as group:
            preparing = group.create_task(_prepared(trail))
            async with stdio_server(stdin, anyio.wrap_file(out)) as (read, write):
                await server.run(read, write, server.create_initialization_options())
            preparing.cancel()
    except* BrokenPipeError:
        pass  # whoever read the answers has left


async def _prepared(trail: Hoptrail) -> None:
    """Index the documents now: a client's patience may be shorter than that takes."""
    if (corpus := trail.assembly.corpus) is not None:
        try:
            await corpus.open()
        except HoptrailError as error:
            _log.warning("the documents cannot be searched yet: %s", in_words(error))


def _on_signals(handle: Callable[[], None] | None) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # What a shell has made be ignored stays so.
        with suppress(NotImplementedError):  # raised on Windows, which has no such handlers
            if handle is None:
                loop.remove_signal_handler(number)
            elif signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, handle)
