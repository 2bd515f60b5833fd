"""What every request passes first: its size, its Host, its Origin. Pure ASGI, no task of its own.

Starlette's own base for middleware runs the app in another task, which delays what has to be
cancelled when a client leaves.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hoptrail.server.problems import Refusal
from hoptrail.server.visitors import Visitors

MAX_BODY = 1024 * 1024
MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024
MAX_TARGET = 8 * 1024
"""Bytes of path and query."""

_SEAL = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
_METHODS = ("GET", "POST", "PUT", "DELETE")
_SHOWN = ("ETag", "Retry-After", "Mcp-Session-Id", "X-Hoptrail-Run-Id", "X-Hoptrail-Backends")


class Gate:
    """Turns away what may not come in, limits what does, and seals what goes out."""

    def __init__(self, app: ASGIApp, visitors: Visitors) -> None:
        self._app = app
        self._visitors = visitors
        # Which origins may call is decided here, before: to those that may, all is said.
        self._to_pages = CORSMiddleware(
            app,
            allow_origin_regex=".*",
            allow_methods=_METHODS,
            allow_headers=["*"],
            expose_headers=_SHOWN,
            allow_private_network=True,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or turn it away."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sealed = _sealed(send)
        try:
            app = self._let_in(scope)
        except Refusal as refusal:
            await refusal.response()(scope, receive, sealed)
        else:
            await app(scope, _limited(scope, receive), sealed)

    def _let_in(self, scope: Scope) -> ASGIApp:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        _check_sizes(scope, headers)
        host = self._visitors.check_host(_all(b"host", headers))
        origins = _all(b"origin", headers)
        self._visitors.check_origin(origins, host)
        return self._to_pages if origins else self._app


def _check_sizes(scope: Scope, headers: list[tuple[bytes, bytes]]) -> None:
    target: bytes = scope.get("raw_path") or b"/"
    if not target.startswith(b"/"):
        raise Refusal(400, "the request names no path")
    if len(target) + len(scope["query_string"]) > MAX_TARGET:
        raise Refusal(414, f"the address is longer than {MAX_TARGET} bytes")
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise Refusal(431, f"more than {MAX_HEADERS} headers, or {MAX_HEADER_BYTES} bytes of them")
    for length in _all(b"content-length", headers):
        if int(length) > MAX_BODY:
            raise _too_large()


def _limited(scope: Scope, receive: Receive) -> Receive:
    """Count what arrives in chunks; a length that was told has been checked."""
    if not _all(b"transfer-encoding", scope["headers"]):
        return receive
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            # The one error that FastAPI lets through while it reads a body.
            refusal = _too_large()
            raise HTTPException(refusal.status, str(refusal))
        return message

    return limited


def _too_large() -> Refusal:
    return Refusal(413, f"the body is larger than {MAX_BODY} bytes")


def _sealed(send: Send) -> Send:
    """Add the headers that keep browsers from guessing, keeping and framing."""

    async def sealed(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", ()))
            names = {name for name, _ in given}
            message["headers"] = given + [each for each in _SEAL if each[0] not in names]
        await send(message)

    return sealed


def _all(name: bytes, headers: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [value for each, value in headers if each == name]
