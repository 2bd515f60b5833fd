"""OpenAI's chat completions as the servers really stream them."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

import httpx

from hoptrail.backend import CallLimits
from hoptrail.connections import HttpRefusal, posted
from hoptrail.foreign_json import read_foreign
from hoptrail.providers.chat import NotAnAnswer, joined
from hoptrail.refusals import is_loading, words_of

Chunk = dict[str, Any]  # Any: JSON of a foreign server, read by LangChain

_DRAIN_SECONDS = 0.05
_OTHER_FIELDS = (b":", b"event:", b"id:", b"retry:")
_ERROR_WITHOUT_EVENT = (b"{", b"[")
_THOUGHTS = ("reasoning_content", "reasoning")


class Completions:
    """Speaks ``/v1/chat/completions`` in place of huggingface_hub's ``AsyncInferenceClient``.

    Its one public method is what ``ChatHuggingFace`` calls, so nothing here leans on the Hub
    library's private parts. What the wire taught: `[DONE]` is spelled in several ways or
    missing, text may hold line separators that are no line ends, usage comes anywhere.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], limits: CallLimits) -> None:
        self._url = httpx.URL(f"{base_url}/v1/chat/completions")
        self._headers = headers
        self._limits = limits

    async def chat_completion(
        self, *, messages: Sequence[Mapping[str, object]], stream: bool, **parameters: object
    ) -> AsyncGenerator[Chunk, None]:
        """Open a streamed completion; gives OpenAI chunks."""
        assert stream
        asked = {name: value for name, value in parameters.items() if value is not None}
        return self._chunks({**asked, "messages": messages, "stream": True})

    async def _chunks(self, body: object) -> AsyncGenerator[Chunk, None]:
        async with posted(self._url, body, self._headers, self._limits) as parts:
            rest = b""
            async for part in parts:
                *lines, rest = (rest + part).split(b"\n")
                ended = [at for at, line in enumerate(lines) if _is_done(line)]
                for chunk in joined(map(_read, lines[: ended[0]] if ended else lines), _takes_in):
                    yield chunk
                if ended:
                    await _drain(parts)
                    return
            for chunk in _leftover(rest):
                yield chunk


def _leftover(line: bytes) -> list[Chunk]:
    """Read what came after the last line end; a torn piece holds nothing."""
    try:
        chunk = _read(line)
    except (NotAnAnswer, ValueError):
        return []
    return [chunk] if chunk else []


async def _drain(parts: AsyncIterator[bytes]) -> None:
    """Read what little may follow the end, so that the connection can be used again."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in parts:
                pass
    except (TimeoutError, httpx.HTTPError):
        return


def _is_done(line: bytes) -> bool:
    return line.startswith(b"data:") and line[5:].strip() == b"[DONE]"


def _read(line: bytes) -> Chunk | None:
    """Give the chunk of one line, tidied; None for a line that holds none."""
    line = line.removeprefix(codecs.BOM_UTF8).strip()
    if line.startswith(b"data:"):
        line = line[5:].strip()
    elif not line.startswith(_ERROR_WITHOUT_EVENT):
        if line and not line.startswith(_OTHER_FIELDS):
            raise NotAnAnswer("the answer is no stream of events")
        return None
    if not line:
        return None
    chunk = read_foreign(line)
    if not isinstance(chunk, dict) or chunk.get("error") is not None:
        raise told_by(chunk, line.decode("utf-8", "replace"))
    choices = chunk["choices"]
    if not _counted(chunk.get("usage")):
        chunk["usage"] = None
    if not choices:
        return chunk
    return chunk if _tidied(choices[0]) or chunk["usage"] else None


def _tidied(choice: dict[str, Any]) -> bool:  # Any: JSON of a foreign server
    """Bring a choice into the form LangChain reads; say whether it holds anything."""
    delta = choice["delta"] = choice.get("delta") or choice.get("message") or {}
    if "role" in delta:
        delta["role"] = "assistant"
    for name in _THOUGHTS:
        if delta.get(name):
            return True
    return bool(delta.get("content") or delta.get("tool_calls") or choice.get("finish_reason"))


def _takes_in(last: Chunk, chunk: Chunk) -> bool:
    if not (_is_text(last) and _is_text(chunk)):
        return False
    last["choices"][0]["delta"]["content"] += chunk["choices"][0]["delta"]["content"]
    return True


def _is_text(chunk: Chunk) -> bool:
    if len(chunk["choices"]) != 1 or chunk["usage"]:
        return False
    choice = chunk["choices"][0]
    if choice.get("finish_reason") or choice.get("logprobs"):
        return False
    delta = choice["delta"]
    return isinstance(delta.get("content"), str) and not delta.get("tool_calls")


def _counted(usage: object) -> bool:
    """Say whether a usage block holds the counts that LangChain reads."""
    if not isinstance(usage, dict):
        return False
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return all(type(usage.get(name, 0)) is int for name in names)


def told_by(body: object, text: str) -> Exception:
    """Give the error that a body with status 200 tells of."""
    if not isinstance(body, dict):
        return NotAnAnswer("the answer is no JSON object")
    error = body["error"]
    status = (
        (error.get("http_status_code") or error.get("code")) if isinstance(error, dict) else None
    )
    if isinstance(status, int) and status >= 400:
        return HttpRefusal(status, {}, text)
    if is_loading(body) or body.get("error_type") == "overloaded":
        return HttpRefusal(429, {}, text)
    return NotAnAnswer(words_of(text))
