"""aiohttp under httpx: the parsing in C, and all that has arrived as one piece.

A call costs half of what it does on httpx's own transport, whose pool moreover gets slower with
each request that is in flight.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
import httpx
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from hoptrail.time_limit import TimeLimit

_KEEP_ALIVE_SECONDS = 4.0
"""Less than the five seconds after which uvicorn, and so vLLM, closes an idle connection."""
_WITHOUT_LIMIT = aiohttp.ClientTimeout()


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends httpx's requests over aiohttp: HTTP/1.1, no proxy, no redirect, no cookie.

    Belongs to the event loop that runs when it is made. Raises httpx's own exceptions.
    """

    def __init__(self, verify: ssl.SSLContext) -> None:
        self._session = aiohttp.ClientSession(
            connector=_Connector(ssl=verify, limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
            auto_decompress=False,
        )
        # It would ask a second time after a reset, which is the router's to decide.
        self._session._retry_connection = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the body of the response is read on demand."""
        limits = request.extensions.get("timeout", {})
        with _as_httpx(request):
            response = await self._session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=request.headers.multi_items(),
                data=await request.aread() or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    sock_connect=limits.get("connect"), sock_read=limits.get("read")
                ),
            )
        stream = _Body(response, request)
        return httpx.Response(response.status, headers=response.raw_headers, stream=stream)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()


class _Connector(aiohttp.TCPConnector):
    """Connects within a limit that counts no time in which our own loop was held up."""

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 # as its base
    ) -> Connection:
        if timeout.sock_connect is None:
            return await super().connect(req, traces, timeout)
        async with TimeLimit(timeout.sock_connect):
            return await super().connect(req, traces, _WITHOUT_LIMIT)


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx(self._request):
            async for part in self._response.content.iter_any():
                yield part

    async def aclose(self) -> None:
        # A body that was read to its end has given its connection back before.
        self._response.close()


@contextmanager
def _as_httpx(request: httpx.Request) -> Iterator[None]:
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx.ConnectTimeout(str(error), request=request) from error
    except TimeoutError as error:
        raise httpx.ReadTimeout(str(error), request=request) from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise httpx.ConnectError(str(error), request=request) from error
    except aiohttp.ClientConnectorError as error:
        reason = f"{error.host}:{error.port}: {_why(error.os_error)}"
        raise httpx.ConnectError(reason, request=request) from error
    except aiohttp.InvalidURL as error:
        raise httpx.UnsupportedProtocol(str(error), request=request) from error
    # Their own words repeat bytes of the server, who may repeat our key.
    except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as error:
        begun = isinstance(error, aiohttp.ClientPayloadError)
        why = "the body broke off" if begun else "what came is no HTTP"
        raise httpx.RemoteProtocolError(why, request=request) from None
    except (aiohttp.ClientError, OSError) as error:
        raise httpx.RemoteProtocolError(str(error), request=request) from error


def _why(error: OSError) -> str:
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno)  # asyncio's own words only repeat the address
