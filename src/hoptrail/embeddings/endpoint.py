"""The door to an embedding server: JSON in, JSON out, its failures become ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NoReturn

import httpx

from hoptrail.connections import HttpRefusal, TooLarge, refuse
from hoptrail.errors import (
    AnswerTooLarge,
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    InvalidResponse,
)
from hoptrail.foreign_json import TooDeep, read_foreign
from hoptrail.refusals import SHOWN, body_of, code_of, is_loading, kind_of, wait_of, words_of
from hoptrail.secrecy import without_key
from hoptrail.time_limit import TimeLimit

Clients = Callable[[], httpx.AsyncClient]
"""Gives the HTTP client of the running event loop; whoever made it closes it."""

CONNECT_SECONDS = 2.0
BODY_LIMIT = 16 * 2**20
"""Bytes after decompression: 32 vectors of 8,192 numbers fit four times over."""


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
            async with TimeLimit(self.seconds):
                return await self._exchange(method, url, body)
        except TimeoutError:
            self.fail(TooSlow, f"no complete answer within {self.seconds:g} s")
        except httpx.TimeoutException as error:
            self.fail(TooSlow, f"{httpx.URL(url).host}: {type(error).__name__}")
        except TooLarge as error:
            self.fail(AnswerTooLarge, str(error))
        except httpx.DecodingError as error:
            self.fail(InvalidResponse, str(error))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = self._masked(f"{type(error).__name__} {error}".strip())
            self.fail(BackendUnavailable, f"{httpx.URL(url).host}: {reason}"[:SHOWN])

    def fail(
        self,
        kind: type[BackendError],
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> NoReturn:
        """Raise an error that names this backend and model; its words hold no key."""
        raise kind(
            self._masked(message),
            backend=self.backend,
            model=self.model,
            status=status,
            retry_after=retry_after,
        )

    async def _exchange(self, method: str, url: str, body: object) -> object:
        request = self.client().stream(
            method,
            url,
            content=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **self.headers},
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            follow_redirects=False,
        )
        async with request as response:
            try:
                await refuse(response)
            except HttpRefusal as refusal:
                self._refuse(refusal)
            content = await self._content(response)
        document = self._read(content)
        if isinstance(document, dict) and document.get("error"):
            self._refuse(HttpRefusal(200, response.headers, content.decode("utf-8", "replace")))
        return document

    async def _content(self, response: httpx.Response) -> bytes:
        content = bytearray()
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > BODY_LIMIT:
                self.fail(AnswerTooLarge, f"the answer is longer than {BODY_LIMIT} bytes")
        return bytes(content)

    def _read(self, content: bytes) -> object:
        try:
            return read_foreign(content)
        except TooDeep:
            self.fail(AnswerTooLarge, "the answer is too deeply nested", status=200)
        except ValueError:
            self.fail(InvalidResponse, "the answer is not JSON", status=200)

    def _refuse(self, refusal: HttpRefusal) -> NoReturn:
        status, wait = refusal.status, wait_of(refusal)
        loading = is_loading(body_of(refusal.text)) or "retry-after" in refusal.headers
        kind = kind_of(status, loading=loading)
        if loading and status == HTTPStatus.OK:
            kind = BackendBusy
        if status == HTTPStatus.NOT_IMPLEMENTED or code_of(refusal.text) == "model_not_supported":
            kind = BackendRefused  # this model embeds nothing here
        prefix = "" if status == 200 else f"HTTP {status} "
        # Masked before it is cut: half a key must not stay.
        words = self._masked(words_of(refusal.text))[:SHOWN]
        self.fail(kind, f"{prefix}{words}".strip(), status=status, retry_after=wait)

    def _masked(self, text: str) -> str:
        for value in self.headers.values():
            text = without_key(text, value.removeprefix("Bearer "))
        return text
