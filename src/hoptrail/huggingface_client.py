"""The Hugging Face client for services that want a chat or vectors and no trail.

::

    from hoptrail import get_huggingface_client

    client = get_huggingface_client()
    vector = await client.generate_embedding("The Vltava flows through Prague.")
    answer = await client.chat([{"role": "user", "content": "Name one river."}])
    client.sync.generate_embedding("the same, waiting")

It asks Hugging Face and nobody else, through the backend and the embedder that a trail uses, with
their limits, their single repetition before the first token, and their errors.
"""

from __future__ import annotations

import asyncio
import math
import re
import threading
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.messages.ai import AIMessageChunk, UsageMetadata
from langchain_core.outputs import ChatGenerationChunk
from pydantic import BaseModel, ConfigDict

from hoptrail.addresses import host_of
from hoptrail.assembly import make_backend, make_embedder
from hoptrail.background import background
from hoptrail.errors import (
    AllBackendsFailed,
    BackendRefused,
    BackendUnavailable,
    NoBackend,
    RequestRefused,
)
from hoptrail.router import RoutedChatModel
from hoptrail.settings import Settings, load_settings
from hoptrail.space import Embedder, Vectors

ChatMessage: TypeAlias = BaseMessage | dict[str, Any] | tuple[str, str] | str  # Any: as LangChain
Piece: TypeAlias = dict[str, str | bool]

_BACKEND = "huggingface"
_MODELS = 16
"""Models that are held ready; asking for more drops those that were asked longest ago."""
_CLIENTS = 16
_TALK = (SystemMessage, HumanMessage, AIMessage, ToolMessage)
_HOTTEST = 2.0
_HUB_ID = re.compile(r"(?!.*(?:\.\.|--))[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?", re.A)
"""Stands in the path of an address that the token is sent to, so it must not leave its place."""
_CHAT_MODEL = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True, slots=True)
class HuggingFaceAnswer:
    """A whole answer; as a text it is ``text``. ``usage`` counts tokens where they were told."""

    text: str
    model: str
    backend: str = _BACKEND
    usage: dict[str, int] = field(default_factory=dict)
    finish_reason: str | None = None

    def __str__(self) -> str:
        return self.text


class HuggingFaceStatus(BaseModel):
    """How Hugging Face stands. ``available`` says whether a chat could be answered now.

    ``reason`` says why it could not, ``fix`` what to do about it.
    """

    model_config = ConfigDict(frozen=True)

    available: bool
    has_api_key: bool
    state: str
    model: str
    host: str
    embedding_model: str
    embedding_host: str
    reason: str = ""
    fix: str = ""


class HuggingFaceClient:
    """Chats and embeddings of Hugging Face, from any number of event loops.

    Raises only `hoptrail.errors.BackendError`: `BackendRefused` when key, credit or model are
    wrong, `BackendBusy` with ``retry_after``, `BackendUnavailable`, `InvalidResponse`, and
    `RequestRefused` for what was asked in a way that nobody could answer.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sync = SyncHuggingFaceClient(self)
        self._chat_model = lru_cache(_MODELS)(self._make_chat_model)
        self._embedder = lru_cache(_MODELS)(self._make_embedder)

    async def check_available(self) -> bool:
        """Say whether a chat could be answered now; a finding is kept for some seconds."""
        return (await self.status()).available

    async def status(self) -> HuggingFaceStatus:
        """Give how Hugging Face stands, without spending anything and without the key."""
        settings = self.settings
        (found,) = await self._chat_model(settings.hf_model).availability()
        url = settings.huggingface_base_url
        return HuggingFaceStatus(
            available=found.up,
            has_api_key=settings.token_for(url) is not None,
            state=found.state,
            model=settings.hf_model,
            host=host_of(url),
            embedding_model=settings.embedding_model,
            embedding_host=host_of(settings.huggingface_embedding_url or url),
            reason="" if found.up else found.detail,
            fix="" if found.up else found.fix,
        )

    async def generate_embedding(self, text: str, model: str | None = None) -> list[float]:
        """Give the unit vector of a text."""
        return (await self.generate_embeddings([text], model))[0]

    async def generate_embeddings(
        self, texts: Sequence[str], model: str | None = None
    ) -> list[list[float]]:
        """Give one unit vector per text, in order and all of one model."""
        if not texts:
            return []
        embedder = self.embedder(model)
        rows = await embedder.embed(_texts(texts, embedder.model), "passage")
        return numbers(rows)

    async def chat(
        self,
        messages: str | Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> HuggingFaceAnswer:
        """Give the whole answer.

        Messages are OpenAI's dicts, ``(role, text)`` pairs or LangChain's own; a text alone is
        one message of the user's.
        """
        model = model or self.settings.hf_model
        asked = self._chunks(messages, model, temperature, max_tokens)
        async with aclosing(asked) as stream:
            chunks = [chunk async for chunk in stream]
        whole = chunks[0] + chunks[1:]
        told = whole.response_metadata
        return HuggingFaceAnswer(
            text=str(whole.text),
            model=str(told.get("model_name") or model),
            usage=_counts(whole.usage_metadata),
            finish_reason=told.get("finish_reason"),
        )

    async def stream_chat(
        self,
        messages: str | Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> AsyncGenerator[Piece, None]:
        """Give ``{"text": …}`` for each piece as it comes and ``{"done": True}`` at the end.

        A stream that breaks off raises; ``done`` stands only for an answer that is whole. Closing
        the generator ends the call at Hugging Face.
        """
        model = model or self.settings.hf_model
        asked = self._chunks(messages, model, temperature, max_tokens)
        async with aclosing(asked) as stream:
            async for chunk in stream:
                if text := str(chunk.text):
                    yield {"text": text}
        yield {"done": True}

    async def aclose(self) -> None:
        """Forget the models that are held ready; connections end with their event loop."""
        self._chat_model.cache_clear()
        self._embedder.cache_clear()

    def embedder(self, model: str | None = None) -> Embedder:
        """Give the embedder of a model, of the settings' one without a name.

        Raises:
            RequestRefused: the name is none, or an endpoint of one's own serves another model.
        """
        own = self.settings.embedding_model
        model = model or own
        if model != own and self.settings.huggingface_embedding_url:
            raise _refused(f"the endpoint of HUGGINGFACE_EMBEDDING_URL serves {own} alone", model)
        if model != own and not _HUB_ID.fullmatch(model):
            raise _refused("the model's name is not one of Hugging Face's, as org/name", model)
        return self._embedder(model)

    async def _chunks(
        self,
        messages: str | Sequence[ChatMessage],
        model: str,
        temperature: float | None,
        max_tokens: int | None,
    ) -> AsyncGenerator[AIMessageChunk, None]:
        """Stream the answer of one attempt; its last chunk proves that it is whole."""
        if not _CHAT_MODEL.fullmatch(model):
            raise _refused("the model's name is not one of Hugging Face's, as org/name", model)
        _check_sampling(temperature, max_tokens, model)
        talk = _talk(messages, model)
        try:
            stream = self._chat_model(model)._astream(
                talk, temperature=temperature, max_tokens=max_tokens
            )
            async with aclosing(_in_time(stream, self.settings.call_timeout, model)) as chunks:
                async for chunk in chunks:
                    assert isinstance(chunk.message, AIMessageChunk)
                    yield chunk.message
        except AllBackendsFailed as error:
            raise error.causes[-1] from None
        except NoBackend:
            (found,) = await self._chat_model(model).availability()
            raise BackendRefused(
                f"{found.detail} ({found.fix})", backend=_BACKEND, model=model, fix=found.fix
            ) from None

    def _make_chat_model(self, model: str) -> RoutedChatModel:
        settings = self.settings.model_copy(update={"hf_model": model})
        return RoutedChatModel([make_backend(_BACKEND, settings)], restarts=False)

    def _make_embedder(self, model: str) -> Embedder:
        settings = self.settings.model_copy(update={"embedding_model": model})
        return make_embedder(_BACKEND, settings)


class SyncHuggingFaceClient:
    """The same client, waiting: it works inside a running event loop (a notebook) too."""

    def __init__(self, client: HuggingFaceClient) -> None:
        self._client = client

    def check_available(self) -> bool:
        """Say whether a chat could be answered now."""
        return background().run(self._client.check_available())

    def status(self) -> HuggingFaceStatus:
        """Give how Hugging Face stands."""
        return background().run(self._client.status())

    def generate_embedding(self, text: str, model: str | None = None) -> list[float]:
        """Give the unit vector of a text."""
        return background().run(self._client.generate_embedding(text, model))

    def generate_embeddings(
        self, texts: Sequence[str], model: str | None = None
    ) -> list[list[float]]:
        """Give one unit vector per text, in order and all of one model."""
        return background().run(self._client.generate_embeddings(texts, model))

    def chat(
        self,
        messages: str | Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> HuggingFaceAnswer:
        """Give the whole answer; see `HuggingFaceClient.chat`."""
        return background().run(self._client.chat(messages, model, temperature, max_tokens))

    def stream_chat(
        self,
        messages: str | Sequence[ChatMessage],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Generator[Piece, None, None]:
        """Give the pieces as they come; see `HuggingFaceClient.stream_chat`."""
        asked = self._client.stream_chat(messages, model, temperature, max_tokens)
        return background().iterate(asked)

    def close(self) -> None:
        """Forget the models that are held ready."""
        background().run(self._client.aclose())


_lock = threading.Lock()
_client_of = lru_cache(_CLIENTS)(HuggingFaceClient)


def get_huggingface_client(settings: Settings | None = None) -> HuggingFaceClient:
    """Give the process's one client for ``settings``, or for those of the environment.

    Raises:
        SettingsError: a setting cannot be used.
    """
    settings = settings or load_settings()
    with _lock:
        return _client_of(settings)


async def _in_time(
    stream: AsyncGenerator[ChatGenerationChunk, None], seconds: float, model: str
) -> AsyncGenerator[ChatGenerationChunk, None]:
    """Give a stream's chunks; whatever is tried anew, the wait for all of them has a limit.

    Raises:
        BackendUnavailable: the limit has passed.
    """
    left = seconds
    async with aclosing(stream):
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(left):
                    chunk = await anext(stream, None)
            except TimeoutError as error:
                why = f"no whole answer within {seconds:g} s"
                raise BackendUnavailable(why, backend=_BACKEND, model=model) from error
            left = max(0.0, left - (time.monotonic() - began))
            if chunk is None:
                return
            yield chunk


def numbers(rows: Vectors) -> list[list[float]]:
    """Give vectors as lists, to nine decimals: all that a float32 of a unit vector holds."""
    decimals: list[list[float]] = rows.astype("float64").round(9).tolist()
    return decimals


def _counts(usage: UsageMetadata | None) -> dict[str, int]:
    if usage is None:
        return {}
    return {
        "input_tokens": usage["input_tokens"],
        "output_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
    }


def _texts(texts: Sequence[str], model: str) -> list[str]:
    if isinstance(texts, str):
        raise _refused("texts are a list; generate_embedding takes one text", model)
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise _refused("a text is empty or no text", model)
    return list(texts)


def _talk(messages: str | Sequence[ChatMessage], model: str) -> list[BaseMessage]:
    given = [messages] if isinstance(messages, str) else list(messages)
    if not given:
        raise _refused("there is no message", model)
    try:
        talk = convert_to_messages(given)
    # LangChain raises the last of these for a message of a kind that it does not have.
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError):
        raise _refused(_SHAPE, model) from None
    for message in talk:
        if not isinstance(message, _TALK):
            raise _refused(_SHAPE, model)
        if isinstance(message, HumanMessage) and not _says_something(message):
            raise _refused("a message of the user's is empty", model)
    return talk


_SHAPE = (
    "messages have a role (system, user, assistant or tool) and a content: "
    '{"role": "user", "content": "…"}'
)


def _says_something(message: BaseMessage) -> bool:
    content = message.content
    return bool(content.strip() if isinstance(content, str) else content)


def _check_sampling(temperature: float | None, max_tokens: int | None, model: str) -> None:
    if temperature is not None and not (
        math.isfinite(temperature) and 0 <= temperature <= _HOTTEST
    ):
        raise _refused(f"temperature is a number from 0 to {_HOTTEST:g}", model)
    if max_tokens is not None and max_tokens < 1:
        raise _refused("max_tokens is at least 1", model)


def _refused(why: str, model: str) -> RequestRefused:
    return RequestRefused(why, backend=_BACKEND, model=model)
