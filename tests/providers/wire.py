"""HTTP/1.1 on raw asyncio streams, so that any broken byte can be put on the wire.

A client that goes away cancels the task that is serving it: every ``await`` in a handler is
interruptible, a hanging fault ends when the client gives up, and nothing has to poll.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

JSON = "application/json"
NO_LINGER = struct.pack("ii", 1, 0)
HEADER_LIMIT = 1 << 18
REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Read the body as JSON; raises ValueError when it is not."""
        return json.loads(self.body)


class ConnectionReader(asyncio.StreamReader):
    """A stream reader that cancels the busy task when the client goes away."""

    def __init__(self) -> None:
        super().__init__(limit=HEADER_LIMIT)
        self.gone = False
        self._busy: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """From here on, the current task is cancelled when the client leaves."""
        self._busy = asyncio.current_task()
        if self.gone and self._busy:
            self._busy.cancel()

    def end(self) -> None:
        """The exchange is over; a client that leaves now leaves in order."""
        self._busy = None

    def feed_eof(self) -> None:
        super().feed_eof()
        self._leave()

    def set_exception(self, exc: Exception | type[Exception]) -> None:
        super().set_exception(exc)  # type: ignore[arg-type]  # typeshed narrows what asyncio passes
        self._leave()

    def _leave(self) -> None:
        self.gone = True
        if self._busy:
            self._busy.cancel()


class Exchange:
    """One request and everything that can be done to its response."""

    def __init__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.status: int | None = None
        self.complete = False
        self.on_complete: Callable[[], None] = lambda: None
        """Called before the last byte leaves: who sees the answer must see the record too."""
        self.keep_alive = request.headers.get("connection", "").lower() != "close"
        self._writer = writer
        self._pending: list[bytes] = []

    @property
    def key(self) -> str:
        """What the client sent to be let in, if anything."""
        return self.request.headers.get("authorization", "")

    def raw(self, data: bytes) -> None:
        """Queue bytes exactly as given."""
        self._pending.append(data)

    async def flush(self) -> None:
        """Hand the queued bytes to the kernel, waiting while the client does not read."""
        if self._pending:
            self._writer.write(b"".join(self._pending))
            self._pending.clear()
        await self._writer.drain()

    async def send(
        self,
        status: int,
        body: bytes = b"",
        content_type: str | None = JSON,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole, well-formed response."""
        bare = status in (204, 304) or status < 200
        extra = {} if bare else {"content-length": str(len(body))}
        self.head(status, content_type, {**extra, **(headers or {})})
        if not bare and self.request.method != "HEAD":
            self.raw(body)
        await self.end()

    def head(
        self, status: int, content_type: str | None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Queue the status line and the header block."""
        self.status = status
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}"]
        if content_type:
            lines.append(f"content-type: {content_type}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if not self.keep_alive:
            lines.append("connection: close")
        self.raw(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def open(self, content_type: str | None, headers: Mapping[str, str] | None = None) -> None:
        """Queue the head of a chunked 200."""
        self.head(200, content_type, {**(headers or {}), "transfer-encoding": "chunked"})

    def chunk(self, data: bytes) -> None:
        """Queue one chunk of a chunked response."""
        self._pending.append(b"%x\r\n%b\r\n" % (len(data), data))

    async def finish(self) -> None:
        """End a chunked response in order."""
        self.raw(b"0\r\n\r\n")
        await self.end()

    async def end(self) -> None:
        """Send what is queued as the last of a whole response."""
        self.complete = True
        self.on_complete()
        await self.flush()

    async def close(self) -> None:
        """End the connection in order (FIN), whatever the response still lacks."""
        await self.flush()
        self.keep_alive = False
        self._writer.close()

    async def reset(self) -> None:
        """End the connection with a RST.

        What was sent before is given time to arrive: a kernel may drop unread bytes on a RST,
        and a fault after n tokens must mean n tokens.
        """
        had_sent = self.status is not None or bool(self._pending)
        await self.flush()
        if had_sent:
            await asyncio.sleep(0.02)
        self.keep_alive = False
        with contextlib.suppress(OSError):
            peer: socket.socket = self._writer.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self._writer.transport.abort()


Handler = Callable[[Exchange], Awaitable[None]]


class Listener:
    """One port on the loopback interface, which can be closed and opened again.

    The port stays reserved while it is closed: clients are refused, and no other process can
    take it.
    """

    def __init__(self, handler: Handler, port: int = 0) -> None:
        self._handler = handler
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._reserved = _bound_socket(port)
        self.port: int = self._reserved.getsockname()[1]

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def open(self) -> None:
        """Let clients in."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                self._protocol, sock=_bound_socket(self.port), backlog=1024
            )

    async def close(self) -> None:
        """Refuse new clients and drop the present ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.drop()

    async def drop(self) -> None:
        """Cut every connection; new ones are let in as before."""
        while self._connections:
            for writer in self._connections:
                writer.transport.abort()
            await asyncio.sleep(0)

    def release(self) -> None:
        """Give the port back."""
        self._reserved.close()

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(ConnectionReader(), self._serve)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, ConnectionReader)
        self._connections.add(writer)
        try:
            while request := await read_request(reader):
                reader.begin()
                exchange = Exchange(request, writer)
                await self._handler(exchange)
                reader.end()
                if not exchange.keep_alive:
                    break
        except (asyncio.CancelledError, ConnectionError):
            writer.transport.abort()
        finally:
            self._connections.discard(writer)
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read one request; None when the client left, or sent no HTTP."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _ = line.split(" ", 2)
        pairs = (field.partition(":") for field in fields)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await _read_body(reader, headers)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        return None
    url = urlsplit(target)
    return Request(method, unquote(url.path), url.query, headers, body)


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        length = int(headers.get("content-length", "0"))
        return await reader.readexactly(length) if length else b""
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readuntil(b"\r\n")
    return b"".join(parts)


def _bound_socket(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound
