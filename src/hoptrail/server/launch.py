"""uvicorn as Hoptrail starts it: with time limits on what arrives, and an end that waits for runs.

uvicorn alone waits for ever for a request that never ends, answers 400 to headers that are too
large, and keeps the connection of a client that does not read until that client leaves.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from types import FrameType

import h11
import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from uvicorn.config import LOGGING_CONFIG
from uvicorn.protocols.http.h11_impl import H11Protocol

from hoptrail.errors import SettingsError
from hoptrail.server.live_runs import LiveRuns
from hoptrail.server.problems import Refusal
from hoptrail.server.served import Served

RECEIPT_SECONDS = 8.0
"""How long a request may take to arrive, headers and body."""
KEEP_ALIVE_SECONDS = 20
"""Longer than clients keep a connection (httpx and undici: 5 s): whoever closes first must not be
the one who cannot know that the next request is on its way."""
DRAIN_SECONDS = 10.0
"""How long runs under way may go on when the server is being stopped."""
CLOSING_SECONDS = 2
MAX_CONNECTIONS = 1024
MAX_HEADER_BLOCK = 32 * 1024
SEND_BUFFER = 64 * 1024

_TICK = 0.05
_ARRIVING = (h11.IDLE, h11.SEND_BODY)


class TimedProtocol(H11Protocol):
    """HTTP/1.1 that closes connections on which a request does not arrive in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as its base
        """Begin to wait for the first request."""
        super().connection_made(transport)
        # The kernel would take megabytes for a client that does not read, before that shows.
        plain: socket.socket = transport.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._app = self.app
        self.app = self._answer
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what arrived; wait for the rest of a request, if there is a rest."""
        super().data_received(data)
        if self.conn.their_state in _ARRIVING and not self.transport.is_closing():
            if self._deadline is None:
                self._wait()
        else:
            self._stop_waiting()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, with the status that h11's error, being handled, hints at."""
        hint = getattr(sys.exc_info()[1], "error_status_hint", 400)
        self._refuse(
            Refusal(431, "the headers are too large") if hint == 431 else Refusal(400, msg)
        )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {"hoptrail.abort": self.transport.abort}
        await self._app(scope, receive, send)
        if self.transport.is_closing():
            await asyncio.sleep(0)  # for uvicorn to learn it, too

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(RECEIPT_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        begun = self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]
        if begun:
            self._refuse(Refusal(408, "the request did not arrive in time"))
        else:
            self.transport.abort()

    def _refuse(self, refusal: Refusal) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # in the middle of a response nothing else can be said
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        response, reason = refusal.response(), HTTPStatus(refusal.status).phrase
        headers = [*response.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=refusal.status, headers=headers, reason=reason),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """A server that, told to stop, takes no more runs and waits for those under way.

    ``stopped_by`` is the signal that stopped it. A second one ends the waiting: `hurry`.
    """

    def __init__(
        self, config: uvicorn.Config, runs: LiveRuns, on_started: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(config)
        self.stopped_by: int | None = None
        self.hurry = False
        self._runs = runs
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        if self.started:
            await self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the runs under way end, then stop; who asks meanwhile is told so."""
        self._runs.refuse()
        until = self._clock() + DRAIN_SECONDS
        while len(self._runs) and self._clock() < until and not self.hurry:
            await self._runs.wait(_TICK)
        await self._runs.cancel_all()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note that a signal asks for the end."""
        # uvicorn's own would raise the signal again at the end, and sse-starlette, which comes
        # with the MCP SDK, has put itself in its place.
        self.hurry = self.should_exit
        self.should_exit = True
        self.stopped_by = self.stopped_by or sig

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()


def _log(access_log: bool) -> dict[str, object]:
    """Give what uvicorn tells on stderr: errors, and requests where that is asked for."""
    errors = {"handlers": ["default"], "level": "ERROR", "propagate": False}
    requests = {"handlers": ["default"] if access_log else [], "level": "INFO", "propagate": False}
    return {**LOGGING_CONFIG, "loggers": {"uvicorn": errors, "uvicorn.access": requests}}


async def _silently() -> None:
    pass


def server_of(
    app: FastAPI,
    *,
    access_log: bool = False,
    on_started: Callable[[], Awaitable[None]] = _silently,
) -> Server:
    """Give a server for the app, to be run with ``serve(sockets=[listener(...)])``."""
    served: Served = app.state.served
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=TimedProtocol,
        ws="none",
        interface="asgi3",
        lifespan="on",
        access_log=access_log,
        log_config=_log(access_log),
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=CLOSING_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BLOCK,
    )
    return Server(config, served.runs, on_started)


def listener(host: str, port: int) -> socket.socket:
    """Give a socket bound to an address; port 0 takes a free one.

    Raises:
        SettingsError: the address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"{host!r} is no address of this machine: {error}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise SettingsError(f"cannot listen on {host} port {port}: {_why(error)}") from error
    return bound


def address_of(bound: socket.socket) -> str:
    """Give the URL of a listener."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use. Stop what listens there, or choose another with --port"
    return (error.strerror or str(error)).lower()
