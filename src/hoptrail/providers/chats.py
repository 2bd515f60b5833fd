"""Ollama's ``/api/chat`` as ``ChatOllama`` reads it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import httpx

from hoptrail.backend import CallLimits
from hoptrail.connections import posted
from hoptrail.foreign_json import read_foreign
from hoptrail.providers.chat import NotAnAnswer, joined
from hoptrail.refusals import words_of

Line = dict[str, Any]  # Any: JSON of a foreign server, read by LangChain

_PLAIN = {"role", "content"}


class Chats:
    """Speaks ``/api/chat`` in place of the ollama package's ``AsyncClient``.

    Its one public method is what ``ChatOllama`` calls. A line stays the dict it came as, where
    that client makes two models of each token, and ours keeps the headers of a refusal.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], limits: CallLimits) -> None:
        self._url = httpx.URL(f"{base_url}/api/chat")
        self._headers = headers
        self._limits = limits

    async def chat(
        self, *, messages: Sequence[Mapping[str, object]], **parameters: object
    ) -> AsyncGenerator[Line, None]:
        """Open a streamed answer; gives the lines of the server."""
        asked = {name: value for name, value in parameters.items() if value is not None}
        told = [{name: value for name, value in each.items() if value} for each in messages]
        return self._lines({**asked, "messages": told})

    async def _lines(self, body: object) -> AsyncGenerator[Line, None]:
        async with posted(self._url, body, self._headers, self._limits) as parts:
            rest = b""
            async for part in parts:
                *lines, rest = (rest + part).split(b"\n")
                for line in joined(map(_read, filter(bytes.strip, lines)), _takes_in):
                    yield line
            if rest.strip():
                yield _read(rest)


def _read(line: bytes) -> Line:
    told = read_foreign(line)
    if not isinstance(told, dict):
        raise NotAnAnswer("the answer is no JSON object")
    if told.get("error"):
        raise NotAnAnswer(words_of(line.decode()))
    return told


def _takes_in(last: Line, line: Line) -> bool:
    if not (_is_text(last) and _is_text(line)):
        return False
    last["message"]["content"] += line["message"]["content"]
    return True


def _is_text(line: Line) -> bool:
    message = line.get("message")
    if not isinstance(message, dict) or line.get("done") or line.get("logprobs"):
        return False
    return message.keys() <= _PLAIN and isinstance(message.get("content"), str)
