"""One chat model over several backends: the first that is up answers, the others stand by.

Before the first token a failure is silent; after it the stream says ``attempt_restarted``, the
text so far is void, and the next attempt starts anew. This is the only place that retries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.utils import message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, PrivateAttr

from hoptrail.attempts import Call
from hoptrail.backend import Availability, Backend, CallOptions
from hoptrail.background import background
from hoptrail.breaker import RetryBudget
from hoptrail.expense import Expense
from hoptrail.request import request_of, schema_of
from hoptrail.routed import RESTARTED, RoutedMessageChunk, gathered, routed
from hoptrail.standing import Standing
from hoptrail.structured import structured_output

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]

_NOT_OURS = frozenset({"stream", "stream_usage", "parallel_tool_calls", "strict"})


class RoutedChatModel(BaseChatModel):
    """A LangChain chat model that asks the first of ``backends`` that is up.

    Calls take ``deadline`` (seconds that are left for this call: with it, a call waits for a
    benched backend instead of failing), ``attempts`` (a list that the attempts are entered into
    while they are made), ``expense`` (reserves each of them, and may refuse to), ``temperature``,
    ``max_tokens``, ``stop``, and ``output_schema`` or OpenAI's ``response_format``; a typed request
    on the last message brings its own schema. Every answer says in
    ``response_metadata["hoptrail"]`` which backend gave it, why that one, and what was tried
    before. With ``restarts`` False a stream that broke off after its first token raises, for a
    reader who cannot take text back.

    Raises `hoptrail.errors.AllBackendsFailed`, `NoBackend` or `RequestRefused`, each with its
    ``attempts``. ``clock`` gives monotonic seconds.
    """

    backends: tuple[Backend, ...]
    clock: Clock = time.monotonic
    sleep: Sleep = asyncio.sleep
    restarts: bool = True

    _standings: tuple[Standing, ...] = PrivateAttr()
    _retries: RetryBudget = PrivateAttr(default_factory=RetryBudget)

    def __init__(self, backends: Sequence[Backend], **fields: Any) -> None:  # Any: as its base
        super().__init__(backends=tuple(backends), **fields)
        self._standings = tuple(Standing(backend, self.clock) for backend in self.backends)

    @property
    def policy(self) -> str:
        """The order of backends and models, as one line: ``ollama:qwen3:8b > extractive``."""
        return " > ".join(
            f"{backend.name}:{backend.model}" if backend.model else backend.name
            for backend in self.backends
        )

    async def availability(self) -> list[Availability]:
        """Give how each backend stands, in order; asks those of whom nothing is known.

        One that is benched is told as ``down``, and is not asked.
        """
        async with asyncio.TaskGroup() as group:
            probes = [group.create_task(each.availability()) for each in self._standings]
        return [probe.result() for probe in probes]

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Let the model call tools; ``tool_choice`` holds where the backend knows it."""
        choice = {"any": "required"}.get(tool_choice or "", tool_choice)
        offered = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=offered, tool_choice=choice, **kwargs)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Answer in the form of a schema, whether or not the backend can be held to it."""
        return structured_output(self, schema, include_raw=include_raw)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        deadline, attempts = kwargs.pop("deadline", None), kwargs.pop("attempts", None)
        expense: Expense | None = kwargs.pop("expense", None)
        options = _options(messages, stop, kwargs)
        self._retries.earn()
        call = Call(self._standings, self._retries, self.clock, self.sleep, deadline)
        if attempts is not None:
            call.attempts = attempts
        # Only LangChain's newer event protocol passes its manager on, and its blocks of text
        # cannot be taken back: there a stream that broke off raises.
        call.may_restart = self.restarts and run_manager is None
        while True:
            turn = await call.next_turn()
            with turn:
                if expense is not None:
                    most = expense.limit(call.attempts, free=turn.standing.backend.degraded)
                    options = options.model_copy(update={"output_budget": most})
                if turn.restart is not None:
                    yield _news(turn.restart)
                async with aclosing(turn.pieces(messages, options)) as pieces:
                    async for piece in pieces:
                        yield routed(piece)
                yield turn.last()
                return

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        try:
            # Streamed as well: only a stream tells a slow answer from one that never comes.
            chunks = [chunk async for chunk in self._astream(messages, stop, **kwargs)]
        except asyncio.CancelledError as cancelled:
            # LangChain tells its callbacks how a call ended, except of this end.
            if run_manager is not None:
                await run_manager.on_llm_error(cancelled)
            raise
        message = message_chunk_to_message(gathered(chunks))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return background().run(self._agenerate(messages, stop, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        # The manager is only passed on as the mark of who reads; nothing is told to it.
        mark: Any = run_manager
        return background().iterate(self._astream(messages, stop, mark, **kwargs))

    @property
    def _llm_type(self) -> str:
        return "hoptrail"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"policy": self.policy}


def _options(
    messages: Sequence[BaseMessage], stop: list[str] | None, given: dict[str, Any]
) -> CallOptions:
    """Read a call's arguments; a typed request on the last message brings its own schema."""
    wished = {name: value for name, value in given.items() if name not in _NOT_OURS}
    if response_format := wished.pop("response_format", None):
        wished["output_schema"] = _schema_in(response_format)
    elif "output_schema" not in wished and (request := request_of(messages)):
        wished["output_schema"] = schema_of(request)
    if unknown := wished.keys() - CallOptions.model_fields.keys():
        raise TypeError(f"unknown arguments of a call: {', '.join(sorted(unknown))}")
    if wished.get("tools"):
        # A schema would forbid the very calls the tools are there for.
        wished["output_schema"] = None
    return CallOptions(stop=tuple(stop) if stop else None, **wished)


def _schema_in(response_format: dict[str, Any]) -> dict[str, Any]:
    """Give the schema in OpenAI's form; `json_object` allows any object."""
    wrapped = response_format.get("json_schema", {})
    schema: dict[str, Any] = wrapped.get("schema", {"type": "object"})
    return schema


def _news(restart: dict[str, str]) -> ChatGenerationChunk:
    message = RoutedMessageChunk(content="", response_metadata={RESTARTED: restart})
    return ChatGenerationChunk(message=message)
