"""The routers of the server: every route checks who asks, and reads JSON strictly.

The check belongs to the route, never to a path: what a path looks like is the client's choice.
It comes before the body is read.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from hoptrail.server.authorisation import BEARER, Authorisation
from hoptrail.server.problems import Refusal, refusals
from hoptrail.server.strict_json import read_strict_json

COMMON = (400, 401, 403, 408, 413, 414, 415, 421, 422, 431, 500, 503)
"""Statuses that any route may answer with."""

_OF_BODIES = ("413", "415")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRequest(Request):
    """A request whose JSON is read strictly."""

    async def json(self) -> Any:  # Any: as its base
        """Give the body's value.

        Raises:
            NotStrict: it is not JSON that everybody reads alike.
        """
        if not hasattr(self, "_json"):
            self._json = read_strict_json(await self.body())
        return self._json


class OpenRoute(APIRoute):
    """A route for everybody."""

    def get_route_handler(self) -> Handler:
        """Give what answers a request."""
        answer = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            self.check(request)
            return await answer(StrictRequest(request.scope, request.receive))

        return strictly

    def check(self, request: Request) -> None:
        """Let a request pass.

        Raises:
            Refusal: the path hides a slash (404), or the body is no JSON (415).
        """
        if ":path}" not in self.path and b"%2f" in request.scope.get("raw_path", b"").lower():
            raise Refusal(404, "not found")
        if self.body_field is not None and not _is_json(request):
            raise Refusal(
                415, "the body is not sent as JSON", "send `Content-Type: application/json`"
            )


class GuardedRoute(OpenRoute):
    """A route for whoever has the token."""

    def check(self, request: Request) -> None:
        """Let a request pass.

        Raises:
            Refusal: no token (401), or as its base.
        """
        authorisation: Authorisation = request.app.state.authorisation
        authorisation.check(request.scope)
        super().check(request)


def router(tag: str, prefix: str = "") -> APIRouter:
    """Give a router whose routes are guarded, with the common statuses declared."""
    return APIRouter(
        prefix=prefix,
        tags=[tag],
        route_class=GuardedRoute,
        responses=refusals(*COMMON),
    )


def open_router(tag: str) -> APIRouter:
    """Give a router whose routes are for everybody."""
    statuses = [status for status in COMMON if status != 401]
    return APIRouter(tags=[tag], route_class=OpenRoute, responses=refusals(*statuses))


def complete(document: dict[str, Any], *, guarded: bool) -> None:
    """Say in an OpenAPI document what all routes have in common: tokens, bodies."""
    if guarded:
        schemes = {BEARER: {"type": "http", "scheme": "bearer"}}
        document.setdefault("components", {})["securitySchemes"] = schemes
    for path in document["paths"].values():
        for operation in path.values():
            _complete(operation, guarded=guarded)


def _complete(operation: dict[str, Any], *, guarded: bool) -> None:
    responses = operation["responses"]
    if not guarded:
        responses.pop("401", None)
    elif "401" in responses:
        operation["security"] = [{BEARER: []}]
    if "requestBody" not in operation:
        for status in _OF_BODIES:
            responses.pop(status, None)


def _is_json(request: Request) -> bool:
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return sent == "application/json" or (
        sent.startswith("application/") and sent.endswith("+json")
    )
