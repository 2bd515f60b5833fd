"""The door to an embedding server: JSON in, JSON out, its failures become ours."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import httpx

from hoptrail.errors import (
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    InvalidResponse,
    RequestRefused,
)

Clients = Callable[[], httpx.AsyncClient]
"""Gives the HTTP client of the running event loop; whoever made it closes it."""

CONNECT_SECONDS = 2.0
BODY_LIMIT = 16 * 2**20
"""Bytes after decompression: 32 vectors of 8,192 numbers fit four times over."""
WAIT_LIMIT = 120.0
TEXT_LIMIT = 300

CLASSES: dict[int, type[BackendError]] = {
    **dict.fromkeys((401, 402, 403, 404, 407, 410, 501), BackendRefused),
    **dict.fromkeys((408, 425, 429), BackendBusy),
    424: BackendUnavailable,  # Text Embeddings Inference: the inference itself failed
}
"""What a status means where its hundred does not say it."""


class TooSlow(BackendUnavailable):
    """A limit of time ran out; who waited once does not wait again."""

    retry_same = False


@dataclass(frozen=True)
class Endpoint:
    """A server that answers JSON within ``seconds``, all told.

    Raises only `BackendError`. Nothing is asked twice and no redirect is followed: an
    Authorization header must not travel to where an answer points.
    """

    backend: str
    model: str
    client: Clients = field(repr=False)
    seconds: float = 30.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    async def ask(self, method: str, url: str, body: object = None) -> object:
        """Give the parsed JSON of a complete 200 that is no error in disguise."""
        try:
            async with asyncio.timeout(self.seconds):
                return await self._exchange(method, url, body)
        except TimeoutError:
            self.fail(TooSlow, f"no complete answer within {self.seconds:g} s")
        except httpx.TimeoutException as error:
            self.fail(TooSlow, f"{httpx.URL(url).host}: {type(error).__name__}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = f"{type(error).__name__} {error}".strip()
            self.fail(BackendUnavailable, f"{httpx.URL(url).host}: {reason}"[:TEXT_LIMIT])

    def fail(
        self,
        kind: type[BackendError],
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> NoReturn:
        """Raise an error that names this backend and model."""
        raise kind(
            message, backend=self.backend, model=self.model, status=status, retry_after=retry_after
        )

    async def _exchange(self, method: str, url: str, body: object) -> object:
        request = self.client().stream(
            method,
            url,
            content=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **self.headers},
            timeout=httpx.Timeout(self.seconds, connect=CONNECT_SECONDS),
            follow_redirects=False,
        )
        async with request as response:
            content = await self._content(response)
        document = _parsed(content)
        if response.status_code != 200:
            self._refuse(response, document, content)
        if document is UNREADABLE:
            self.fail(InvalidResponse, "the answer is not JSON", status=200)
        if isinstance(document, dict) and document.get("error"):
            waits = "estimated_time" in document
            kind = BackendBusy if waits else InvalidResponse
            self.fail(kind, said(document), status=200, retry_after=_wait(response, document))
        return document

    async def _content(self, response: httpx.Response) -> bytes:
        content = bytearray()
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > BODY_LIMIT:
                self.fail(InvalidResponse, f"the answer is longer than {BODY_LIMIT} bytes")
        return bytes(content)

    def _refuse(self, response: httpx.Response, document: object, content: bytes) -> NoReturn:
        status, wait = response.status_code, _wait(response, document)
        kind = _class_of(status, document, wait)
        text = said(document) or _plain(response, content)
        self.fail(kind, f"HTTP {status} {text}".strip(), status=status, retry_after=wait)


UNREADABLE = object()


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return UNREADABLE


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _class_of(status: int, document: object, wait: float | None) -> type[BackendError]:
    if status in CLASSES:
        return CLASSES[status]
    if status < 300:
        return InvalidResponse
    if status < 400:
        return BackendRefused
    if status < 500:
        return BackendRefused if _code(document) == "model_not_supported" else RequestRefused
    return BackendBusy if status == 503 and wait is not None else BackendUnavailable


def _wait(response: httpx.Response, document: object) -> float | None:
    """Give the seconds the server asks for: header first, then the model loader's estimate."""
    found = response.headers.get("retry-after", "")
    if limit := re.search(r"\bt=(\d+)", response.headers.get("ratelimit", "")):
        found = found or limit[1]
    if isinstance(document, dict):
        found = found or str(document.get("estimated_time", ""))
    try:
        return min(max(float(found), 1.0), WAIT_LIMIT)
    except ValueError:
        return None


def said(document: object) -> str:
    """Give the sentence of an error document, whichever of the field's envelopes it is in."""
    for _ in range(3):
        if isinstance(document, dict):
            parts = (document.get(name) for name in ("error", "message", "detail"))
            document = next((part for part in parts if part), "")
    return document[:TEXT_LIMIT] if isinstance(document, str) else ""


def _code(document: object) -> object:
    error = document.get("error") if isinstance(document, dict) else None
    return error.get("code") if isinstance(error, dict) else None


def _plain(response: httpx.Response, content: bytes) -> str:
    if not response.headers.get("content-type", "").startswith("text/plain"):
        return ""
    return content[:TEXT_LIMIT].decode("utf-8", "replace").strip()
