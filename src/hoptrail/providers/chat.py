"""The door every LangChain chat client stands behind: complete answers or typed errors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING

import httpx
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from hoptrail.backend import Backend, CallOptions
from hoptrail.connections import HttpRefusal, PerLoop, TooLarge
from hoptrail.errors import BackendError, BackendUnavailable, InvalidResponse, RequestRefused

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

CUT_BY_LENGTH = "the answer was cut at its token limit"

_UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
_UNKNOWN_FIELD = frozenset({400, 422})


class ChatModelBackend(Backend):
    """A backend over a LangChain chat model, which is built once per event loop.

    The model's own streaming method is called, below LangChain's callbacks: the router's
    tokens are the only ones a LangGraph stream shows, and each token costs less.
    A subclass says how to build the model, which arguments a call takes, and what the
    vendor's refusals mean.
    """

    def __init__(self, model: str | None) -> None:
        self.model = model
        self._chat = PerLoop(self._build)
        self._takes_extras = True

    @abstractmethod
    def _build(self) -> BaseChatModel:
        """Build the vendor's chat model for the running event loop."""

    @abstractmethod
    def _arguments(self, options: CallOptions, *, extras: bool) -> dict[str, object]:
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
        """Prepare the first call; the model's name is known afterwards."""

    def _warnings(self, messages: Sequence[BaseMessage], usage: Mapping[str, object]) -> list[str]:
        """Give what is suspicious about a complete answer."""
        return []

    async def stream(
        self, messages: Sequence[BaseMessage], options: CallOptions
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        """Stream the answer; the last chunk is empty and carries model, usage and warnings."""
        await self._ready()
        if self._takes_extras and self._has_extras(options):
            async with aclosing(self._attempt(messages, options, extras=True)) as chunks:
                try:
                    async for chunk in chunks:
                        yield chunk
                    return
                except RequestRefused as refused:
                    if refused.status not in _UNKNOWN_FIELD:
                        raise
        async with aclosing(self._attempt(messages, options, extras=False)) as chunks:
            async for chunk in chunks:
                yield chunk
        # It took the same request without them, so they were the reason.
        self._takes_extras = not self._has_extras(options)

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
            chat = self._chat.get()
            async for chunk in chat._astream(list(messages), **arguments):
                if answer.take(chunk):
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
        except (TooLarge, httpx.DecodingError) as error:
            raise self.invalid(str(error)) from error
        except httpx.HTTPError as error:
            raise self.unavailable(f"the connection broke ({error})") from error
        except _UNREADABLE as error:
            raise self.invalid(f"unreadable answer ({type(error).__name__})") from error

    def unavailable(self, message: str) -> BackendUnavailable:
        """Give the error for a backend that cannot be reached or broke off."""
        return BackendUnavailable(message, backend=self.name, model=self.model)

    def invalid(self, message: str) -> InvalidResponse:
        """Give the error for an answer that is none."""
        return InvalidResponse(message, backend=self.name, model=self.model)
