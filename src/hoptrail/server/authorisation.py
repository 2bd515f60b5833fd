"""Who may ask: with HOPTRAIL_API_TOKEN set, whoever sends it as a bearer token."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from hoptrail.server.problems import Refusal
from hoptrail.settings import Settings

BEARER = "bearer"
"""The name of the security scheme in the OpenAPI document."""


class Authorisation:
    """Compares what requests carry with the one token; without one everybody may ask."""

    def __init__(self, settings: Settings) -> None:
        token = settings.api_token
        self._token = None if token is None else token.get_secret_value().encode()

    @property
    def needed(self) -> bool:
        """Whether there is a token to be sent."""
        return self._token is not None

    def check(self, scope: Scope) -> None:
        """Let a request pass.

        Raises:
            Refusal: 401, it carries no token or another one.
        """
        if self._token is None:
            return
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = (given[0] if len(given) == 1 else b"").partition(b" ")
        same = hmac.compare_digest(token.strip(b" "), self._token)
        if not (same and scheme.lower() == b"bearer"):
            raise Refusal(
                401,
                "the token is not this server's" if given else "this server asks for a token",
                "send the header `Authorization: Bearer ...` with its HOPTRAIL_API_TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )


class Guarded:
    """An ASGI app behind the check: for what is mounted, and has no routes of ours."""

    def __init__(self, app: ASGIApp, authorisation: Authorisation) -> None:
        self._app = app
        self._authorisation = authorisation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or turn it away."""
        try:
            self._authorisation.check(scope)
        except Refusal as refusal:
            await refusal.response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)
