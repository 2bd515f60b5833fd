"""The helper for front ends: an ES module and its types, as they lie in the package."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Annotated

from fastapi import Header, Response

from hoptrail.server.routing import router

routes = router("browser", "/client")

_MODULE = "text/javascript; charset=utf-8"
_TYPES = "application/typescript; charset=utf-8"

IfNoneMatch = Annotated[str | None, Header(description="The `ETag` of a copy that is held")]


def _file(content_type: str) -> dict[int | str, dict[str, object]]:
    """Declare a file, and that a copy that is held may be good still."""
    kind = content_type.partition(";")[0]
    return {
        200: {"description": "The file.", "content": {kind: {"schema": {"type": "string"}}}},
        304: {"description": "It is as `If-None-Match` has it."},
    }


@routes.get(
    "/hoptrail.js",
    summary="The browser helper",
    response_class=Response,
    responses=_file(_MODULE),
)
def module(if_none_match: IfNoneMatch = None) -> Response:
    """Give the ES module: `import { askMultiHop } from "/client/hoptrail.js"`."""
    return _sent("hoptrail.js", _MODULE, if_none_match)


@routes.get(
    "/hoptrail.d.ts",
    summary="The browser helper's types",
    response_class=Response,
    responses=_file(_TYPES),
)
def types(if_none_match: IfNoneMatch = None) -> Response:
    """Give the TypeScript declarations of the module."""
    return _sent("hoptrail.d.ts", _TYPES, if_none_match)


def _sent(name: str, content_type: str, if_none_match: str | None) -> Response:
    content, etag = _read(name)
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if if_none_match is not None and (etag in if_none_match or if_none_match.strip() == "*"):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=content_type, headers=headers)


@cache
def _read(name: str) -> tuple[bytes, str]:
    content = files("hoptrail").joinpath("client", name).read_bytes()
    return content, f'"{sha256(content).hexdigest()[:32]}"'
