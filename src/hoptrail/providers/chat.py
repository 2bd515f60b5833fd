"""The door every LangChain chat client stands behind: complete answers or typed errors."""

from __future__ import annotations

import asyncio
import sys
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from hoptrail.backend import Backend, CallOptions
from hoptrail.connections import HttpRefusal, PerLoop, TooLarge, load_certificates
from hoptrail.errors import (
    AnswerTooLarge,
    BackendError,
    BackendUnavailable,
    InvalidResponse,
    RequestRefused,
)
from hoptrail.foreign_json import TooDeep
from hoptrail.refusals import SHOWN
from hoptrail.secrecy import without_key

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages.ai import UsageMetadata

CUT_BY_LENGTH = "the answer was cut at its token limit"

_MOST_TOKENS = 10**9
"""More than a request of the largest size could hold."""
_UNKNOWN_FIELD = frozenset({400, 422})


class NotAnAnswer(Exception):
    """The server answered 200 and told of an error in the body; the message is the server's."""


_UNREADABLE = (
    *(NotAnAnswer, TooLarge, httpx.DecodingError, RecursionError),
    *(ValueError, TypeError, KeyError, IndexError, AttributeError),
)


class Answer:
    """What has come of an answer so far; gives the proof that it is complete, or raises.

    Text is made storable (no lone surrogate, no NUL), and a leading ``<think>`` block that
    leaks from a reasoning model is dropped.
    """

    def __init__(self, backend: ChatModelBackend) -> None:
        self._backend = backend
        self._told: dict[str, object] = {}
        self._usage: UsageMetadata | None = None
        self._thinking = Thinking()
        self._has_content = False

    def take(self, chunk: ChatGenerationChunk) -> None:
        """Move what belongs on the last chunk from this one; thinking leaves an empty chunk."""
        message = chunk.message
        assert isinstance(message, AIMessageChunk)
        if self._backend._finish_reason(self._told) is not None:
            # What follows the end is no part of the answer; only counts may.
            message.content, message.tool_call_chunks, chunk.text = "", [], ""
        if chunk.generation_info:
            self._told |= chunk.generation_info
            chunk.generation_info = None
        if message.usage_metadata:
            if _is_possible(message.usage_metadata):
                # Some servers count on each chunk, always from the start: the last one holds.
                self._usage = message.usage_metadata
            message.usage_metadata = None
        text = message.content
        if isinstance(text, str) and text:
            shown = self._thinking.without(storable(text))
            if shown != text:
                message.content = chunk.text = shown
        if message.tool_call_chunks or str(message.content).strip():
            self._has_content = True

    def last(self, messages: Sequence[BaseMessage]) -> ChatGenerationChunk:
        """Give the chunk that ends a complete answer.

        Raises:
            InvalidResponse: it is cut off, or empty.
        """
        held = self._thinking.rest()
        finish = self._backend._finish_reason(self._told)
        if finish is None:
            raise self._backend.invalid("the answer broke off before its end")
        if not (self._has_content or held.strip()):
            cut = " (its token limit went into thinking)" if finish == "length" else ""
            raise self._backend.invalid(f"the answer is empty{cut}")
        warnings = self._backend._warnings(messages, self._usage)
        if finish == "length":
            warnings.append(CUT_BY_LENGTH)
        metadata = {"model_name": self._backend.model, "finish_reason": finish}
        message = AIMessageChunk(
            content=held,
            usage_metadata=self._usage,
            response_metadata=metadata | ({"warnings": warnings} if warnings else {}),
            chunk_position="last",
        )
        return ChatGenerationChunk(message=message)


def _is_possible(usage: UsageMetadata) -> bool:
    """Say whether tokens were counted: a budget must not be refunded, or spent, by a number."""
    counts = (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"])
    return all(0 <= count <= _MOST_TOKENS for count in counts)


class Thinking:
    """Takes a leading ``<think>...</think>`` block out of a text that comes in pieces."""

    _OPEN, _CLOSE = "<think>", "</think>"

    def __init__(self) -> None:
        self._held: str | None = ""
        self._inside = False
        self._is_gap = False

    def without(self, piece: str) -> str:
        """Give what of the text so far can be shown now."""
        if self._held is None:
            return self._after_gap(piece) if self._is_gap else piece
        self._held += piece
        start = self._held.lstrip()
        if not self._inside:
            if len(start) < len(self._OPEN) and self._OPEN.startswith(start):
                return ""
            self._inside = start.startswith(self._OPEN)
            if not self._inside:
                return self.rest()
        _, closed, after = self._held.partition(self._CLOSE)
        if not closed:
            self._held = self._OPEN + self._held[-len(self._CLOSE) :]
            return ""
        self._held, self._is_gap = None, True
        return self._after_gap(after)

    def rest(self) -> str:
        """Give what was held back because it might have become a block."""
        held, self._held = self._held, None
        return "" if self._inside else held or ""

    def _after_gap(self, piece: str) -> str:
        piece = piece.lstrip()
        self._is_gap = not piece
        return piece


def storable(text: str) -> str:
    """Give the text with lone surrogates replaced and NUL removed: no database takes them."""
    if text.isascii():
        return text.replace("\0", "")
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def joined(
    chunks: Iterable[dict[str, Any] | None],  # Any: JSON of a foreign server
    takes_in: Callable[[dict[str, Any], dict[str, Any]], bool],
) -> Iterator[dict[str, Any]]:
    """Join what arrived in one piece, where a chunk takes in the next one: nothing waits for it."""
    last: dict[str, Any] | None = None
    for chunk in filter(None, chunks):
        if last is None or not takes_in(last, chunk):
            if last is not None:
                yield last
            last = chunk
    if last is not None:
        yield last


class ChatModelBackend(Backend):
    """A backend over a LangChain chat model, which is built once per event loop.

    The model's own streaming method is called, below LangChain's callbacks: the router's
    tokens are the only ones a LangGraph stream shows, and each token costs less.
    A subclass says how to build the model, which arguments a call takes, and what the
    vendor's refusals mean.
    """

    _library: ClassVar[str]
    """The vendor's LangChain package: most of a second to import."""

    def __init__(self, model: str | None, token: str | None = None) -> None:
        self.model = model
        self._token = token
        self._chat = PerLoop(self._build)
        self._takes_extras = True

    @abstractmethod
    def _build(self) -> BaseChatModel:
        """Build the vendor's chat model for the running event loop."""

    @abstractmethod
    def _arguments(self, options: CallOptions, *, extras: bool) -> dict[str, Any]:
        """Give the vendor's arguments; ``extras`` are those an older server may not know."""

    @abstractmethod
    def _has_extras(self, options: CallOptions) -> bool:
        """Say whether a call would send any of the extras."""

    @abstractmethod
    def _refused(self, refusal: HttpRefusal) -> BackendError:
        """Give the error that a status other than 200 stands for."""

    @abstractmethod
    def _finish_reason(self, told: Mapping[str, object]) -> str | None:
        """Give why the answer ended, or None when nothing proves that it is complete."""

    async def _ready(self) -> None:
        """Prepare the first call, off the event loop where that takes long."""
        if self._library not in sys.modules:
            await asyncio.to_thread(import_module, self._library)
        await load_certificates()

    def _warnings(self, messages: Sequence[BaseMessage], usage: UsageMetadata | None) -> list[str]:
        """Give what is suspicious about a complete answer."""
        return []

    async def stream(
        self, messages: Sequence[BaseMessage], options: CallOptions
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        """Stream the answer; the last chunk is empty and carries model, usage and warnings."""
        await self._ready()
        extras = self._takes_extras and self._has_extras(options)
        if extras:
            try:
                async with aclosing(self._attempt(messages, options, extras=True)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except RequestRefused as refused:
                if refused.status not in _UNKNOWN_FIELD:
                    raise
        async with aclosing(self._attempt(messages, options, extras=False)) as chunks:
            async for chunk in chunks:
                yield chunk
        if extras:
            # It took the very same request without them, so they were the reason.
            self._takes_extras = False

    async def generate(self, messages: Sequence[BaseMessage], options: CallOptions) -> ChatResult:
        """Give the whole answer."""
        chunks = [chunk async for chunk in self.stream(messages, options)]
        whole = chunks[0] + chunks[1:]
        assert isinstance(whole.message, AIMessageChunk)
        message = AIMessage(
            content=whole.message.content,
            additional_kwargs=whole.message.additional_kwargs,
            response_metadata=whole.message.response_metadata,
            tool_calls=whole.message.tool_calls,
            invalid_tool_calls=whole.message.invalid_tool_calls,
            usage_metadata=whole.message.usage_metadata,
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _attempt(
        self, messages: Sequence[BaseMessage], options: CallOptions, *, extras: bool
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        answer = Answer(self)
        arguments = self._arguments(options, extras=extras)
        with self.door():
            chunks = self._chat.get()._astream(list(messages), **arguments)
            assert isinstance(chunks, AsyncGenerator)
            async with aclosing(chunks):
                async for chunk in chunks:
                    answer.take(chunk)
                    yield chunk
        yield answer.last(messages)

    @contextmanager
    def door(self) -> Iterator[None]:
        """Turn whatever the vendor's client raises into a `BackendError`, by type and status."""
        try:
            yield
        except BackendError:
            raise
        except HttpRefusal as refusal:
            raise self._refused(refusal) from refusal
        except httpx.TimeoutException as error:
            raise self.unavailable("no answer in time") from error
        except (httpx.ConnectError, ConnectionError) as error:
            raise self.unavailable(f"cannot connect ({error})") from error
        except _UNREADABLE as error:
            raise self._unreadable(error) from error
        except httpx.HTTPError as error:
            raise self.unavailable(f"the connection broke ({error})") from error

    def _unreadable(self, error: Exception) -> BackendError:
        if isinstance(error, UnicodeEncodeError):  # that was the question, not the answer
            why = "a message holds half of a surrogate pair, which no request can carry"
            return RequestRefused(why, backend=self.name, model=self.model)
        if isinstance(error, TooLarge | TooDeep | RecursionError):
            why = str(error) if isinstance(error, TooLarge) else "the answer is nested too deep"
            return AnswerTooLarge(why, backend=self.name, model=self.model)
        if isinstance(error, NotAnAnswer | httpx.DecodingError):
            return self.invalid(str(error))
        return self.invalid(f"unreadable answer ({type(error).__name__})")

    def unavailable(self, message: str) -> BackendUnavailable:
        """Give the error for a backend that cannot be reached or broke off."""
        return BackendUnavailable(self._shown(message), backend=self.name, model=self.model)

    def invalid(self, message: str) -> InvalidResponse:
        """Give the error for an answer that is none; a server's words in it hold no key."""
        return InvalidResponse(self._shown(message), backend=self.name, model=self.model)

    def _shown(self, text: str) -> str:
        # Masked before it is cut: half a key must not stay.
        return without_key(text, self._token)[:SHOWN]
