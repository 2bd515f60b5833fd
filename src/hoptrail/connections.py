"""HTTP connections: one pool per event loop, closed when its loop ends, with limits on size.

A new client per call costs 50 ms (its SSL context), and a client that outlives its event loop
fails with "Event loop is closed". So every client of a vendor borrows the transport of the one
pool that belongs to the running loop. Requests follow no redirect (a token must not travel), use
no proxy of the environment (a local Ollama must not be reached through one) and ask for
uncompressed bodies, because the size limits count what arrives.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from functools import cache
from typing import Generic, TypeVar

import httpx

from hoptrail.backend import CallLimits
from hoptrail.transport import AiohttpTransport

MAX_BODY = 8 * 1024 * 1024
"""Bytes of one response; no answer of a model is larger."""
MAX_LINE = 1024 * 1024
"""Bytes of one line of a streamed response."""
MAX_REFUSAL = 64 * 1024
"""Bytes that are read of a response that is not 200."""
LONGEST_KEY = 4096
"""Characters of a key that a server may repeat."""

_HEADERS = {"accept-encoding": "identity", "user-agent": "hoptrail"}
_STREAMED = ("text/event-stream", "application/x-ndjson")

T = TypeVar("T")


class TooLarge(httpx.RequestError):
    """A response, or one line of it, is larger than any answer."""


class HttpRefusal(Exception):
    """A server answered with something else than 200.

    Vendor clients lose the headers, and with them Retry-After; this keeps what a verdict needs.
    """

    def __init__(self, status: int, headers: Mapping[str, str], text: str) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.headers = headers
        self.text = text


class PerLoop(Generic[T]):
    """One thing per running event loop; what belongs to a closed loop is forgotten.

    The loops are held strongly: what is built for a loop refers to it anyway, so a weak key
    would never die.
    """

    def __init__(self, build: Callable[[], T]) -> None:
        self._build = build
        self._built: dict[asyncio.AbstractEventLoop, T] = {}

    def get(self) -> T:
        """Give the running loop's own, built on first use."""
        loop = asyncio.get_running_loop()
        if loop not in self._built:
            for other in [known for known in self._built if known.is_closed()]:
                del self._built[other]
            self._built[loop] = self._build()
        return self._built[loop]

    def pop(self) -> T | None:
        """Take out the running loop's own, if it was built."""
        return self._built.pop(asyncio.get_running_loop(), None)


@cache
def ssl_context() -> ssl.SSLContext:
    """Give the one SSL context; loading the certificates costs 40 ms."""
    return httpx.create_ssl_context()


async def load_certificates() -> None:
    """Load them in a thread, once: the first use must not hold up the event loop."""
    if not ssl_context.cache_info().currsize:
        await asyncio.to_thread(ssl_context)


async def refuse(response: httpx.Response) -> None:
    """Raise `HttpRefusal` unless the status is 200; usable as an httpx response hook."""
    if response.status_code == httpx.codes.OK:
        return
    body = bytearray()
    try:
        async for part in response.aiter_raw():
            body += part
            if len(body) >= MAX_REFUSAL:
                break
    except httpx.HTTPError:
        pass  # the status says enough; what could be read of the body is kept
    finally:
        await response.aclose()
    text = bytes(body[:MAX_REFUSAL]).decode("utf-8", "replace")
    if len(body) >= MAX_REFUSAL:  # it could end in half a key
        text = text[:-LONGEST_KEY]
    raise HttpRefusal(response.status_code, response.headers, text)


def shared_client() -> httpx.AsyncClient:
    """Give the running loop's client."""
    return _POOLS.get().client


@asynccontextmanager
async def posted(
    url: httpx.URL, body: object, headers: Mapping[str, str], limits: CallLimits
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Post JSON, and give the body of the answer piece by piece, as it arrives.

    Cookies, redirects, decoders and hooks are what we never use and what makes half the cost of
    an httpx client, so the request goes straight to the transport.

    Raises:
        HttpRefusal: the status is not 200.
    """
    timeout = httpx.Timeout(max(limits.first_token, limits.idle), connect=limits.connect)
    request = httpx.Request(
        "POST",
        url,
        headers={**_HEADERS, **headers},
        json=body,
        extensions={"timeout": timeout.as_dict()},
    )
    response = await _POOLS.get().transport.handle_async_request(request)
    try:
        await refuse(response)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        parts = aiter(response.stream)
        assert isinstance(parts, AsyncGenerator)
        async with aclosing(parts):
            yield parts
    finally:
        await response.aclose()


async def aclose_all() -> None:
    """Close the running loop's connections now rather than when the loop ends."""
    pool = _POOLS.pop()
    if pool is not None:
        await pool.aclose()


class _Pool:
    def __init__(self) -> None:
        self.transport = _Guarded(AiohttpTransport(ssl_context()))
        self.client = httpx.AsyncClient(
            transport=self.transport,
            trust_env=False,
            follow_redirects=False,
            headers=_HEADERS,
        )
        # asyncio has no hook for the end of a loop, but it closes the async generators that
        # were started in it: this one closes the pool.
        self._life = self._close_at_the_end()
        with suppress(StopIteration):
            self._life.__anext__().send(None)

    async def aclose(self) -> None:
        await self._life.aclose()

    async def _close_at_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            _POOLS.pop()
            await self.client.aclose()


_POOLS = PerLoop(_Pool)


class _Guarded(httpx.AsyncBaseTransport):
    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.stream.aclose()
            raise httpx.DecodingError("compressed, though it was asked not to be", request=request)
        streamed = response.headers.get("content-type", "").startswith(_STREAMED)
        response.stream = _Counted(response.stream, MAX_LINE if streamed else MAX_BODY)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Counted(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, longest_line: int) -> None:
        self._stream = stream
        self._longest_line = longest_line

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = line = 0
        async for part in self._stream:
            body += len(part)
            end = part.rfind(b"\n")
            line = line + len(part) if end < 0 else len(part) - end - 1
            if body > MAX_BODY or line > self._longest_line:
                raise TooLarge(f"the answer is too large: stopped after {body} bytes")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
