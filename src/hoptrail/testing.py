"""Fakes for tests, yours and ours: each is one more implementation of the real base class."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from hoptrail.backend import DEFAULT_LIMITS, Availability, Backend, CallLimits, CallOptions
from hoptrail.errors import BackendError
from hoptrail.plan import fill
from hoptrail.request import (
    NextStepRequest,
    PlanRequest,
    Request,
    RevisionRequest,
    StepOutcome,
    StepRequest,
    SynthesisRequest,
    request_of,
)

Scripted = str | BaseException


@dataclass
class Asked:
    """One call to a scripted model: what was asked, and when (``time.monotonic()`` seconds).

    ``tools`` names those that were bound to the model.
    """

    messages: list[BaseMessage]
    request: Request | None
    started: float
    ended: float | None = None
    tools: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The question of the request, or the text of the last message."""
        return self.request.question if self.request else str(self.messages[-1].text)


class ScriptedChatModel(BaseChatModel):
    """A chat model that answers from a script and remembers what it was asked.

    ``respond`` gives the text of an answer, a message (``tool_call`` makes one that asks for a
    tool), or an exception to raise; ``script`` makes one from tables. ``wait`` is awaited and
    ``delay`` seconds pass before the first token, ``token_delay`` between two.
    """

    respond: Callable[[Asked], Scripted | AIMessage]
    wait: Callable[[Asked], Awaitable[object]] | None = None
    delay: Callable[[Asked], float] = lambda _asked: 0.0
    token_delay: float = 0.0
    calls: list[Asked] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,  # the base class's signature
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools: each call remembers which it was offered."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools])

    @property
    def questions(self) -> list[str]:
        """The questions asked, in the order the calls began."""
        return [asked.question for asked in self.calls]

    def asked(self, kind: str) -> list[Asked]:
        """The calls of one kind, such as ``plan``, ``step`` or ``synthesis``."""
        return [asked for asked in self.calls if asked.request and asked.request.kind == kind]

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # the base class's signature
    ) -> AsyncIterator[ChatGenerationChunk]:
        tools = tuple(tool["function"]["name"] for tool in kwargs.get("tools", ()))
        asked = Asked(messages, request_of(messages), time.monotonic(), tools=tools)
        self.calls.append(asked)
        if self.wait is not None:
            await self.wait(asked)
        await asyncio.sleep(self.delay(asked))
        text = self.respond(asked)
        if isinstance(text, BaseException):
            raise text
        if isinstance(text, AIMessage):
            whole = AIMessageChunk(
                content=text.content,
                tool_calls=text.tool_calls,
                invalid_tool_calls=text.invalid_tool_calls,
            )
            yield ChatGenerationChunk(message=whole)
        else:
            for token in text.split(" "):
                await asyncio.sleep(self.token_delay)
                yield ChatGenerationChunk(message=AIMessageChunk(content=f"{token} "))
        asked.ended = time.monotonic()

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # the base class's signature
    ) -> ChatResult:
        parts = [chunk.message async for chunk in self._astream(messages, **kwargs)]
        chunks = [part for part in parts if isinstance(part, AIMessageChunk)]
        message = AIMessage(
            "".join(str(chunk.text) for chunk in chunks).rstrip(),
            tool_calls=[call for chunk in chunks for call in chunk.tool_calls],
            invalid_tool_calls=[call for chunk in chunks for call in chunk.invalid_tool_calls],
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # the base class's signature
    ) -> ChatResult:
        return asyncio.run(self._agenerate(messages, **kwargs))


def tool_call(name: str, **arguments: object) -> AIMessage:
    """Give the message by which a model asks for a tool to be called."""
    return tool_calls((name, arguments))


def tool_calls(*calls: tuple[str, Mapping[str, object]]) -> AIMessage:
    """Give the message by which a model asks for several tools at once."""
    made = [
        {"name": name, "args": dict(arguments), "id": f"call_{at}", "type": "tool_call"}
        for at, (name, arguments) in enumerate(calls)
    ]
    return AIMessage.model_validate({"content": "", "tool_calls": made})


class FakeClock:
    """Seconds that pass only when told to: a clock and a sleep for breakers and routers."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        """Give the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        """Let time pass as a sleeper sees it."""
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@dataclass
class Reply:
    """What a `ScriptedBackend` does with one call.

    ``text`` is streamed word by word, ``token_delay`` seconds apart; with ``error`` it is
    raised after ``error_after`` words (None: after all of them).
    """

    text: str = ""
    error: BackendError | None = None
    error_after: int | None = 0
    token_delay: float = 0.0


@dataclass
class BackendCall:
    """One call to a scripted backend; ``ended`` says how: ``answered``, or an exception's name."""

    messages: list[BaseMessage]
    options: CallOptions
    ended: str = ""


@dataclass(eq=False)
class ScriptedBackend(Backend):
    """A backend that answers from a script and remembers what it was asked.

    ``replies`` are used one after the other, the last one again and again; a text is an answer,
    an error is raised. ``delay`` seconds pass before the first token, ``probe_delay`` before a
    probe tells ``state``.
    """

    name: str = "scripted"
    replies: Sequence[str | BackendError | Reply] = ("scripted answer",)
    model: str | None = "scripted"
    delay: float = 0.0
    state: Literal["up", "down", "loading", "unconfigured", "misconfigured", "model_missing"] = "up"
    probe_delay: float = 0.0
    degraded: bool = False
    limits: CallLimits = DEFAULT_LIMITS
    calls: list[BackendCall] = field(default_factory=list)
    probes: int = 0

    async def probe(self) -> Availability:
        """Tell ``state``."""
        self.probes += 1
        await asyncio.sleep(self.probe_delay)
        return Availability(backend=self.name, model=self.model, state=self.state)

    async def stream(
        self, messages: Sequence[BaseMessage], options: CallOptions
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        """Stream the next reply of the script."""
        reply = self._next_reply()
        call = BackendCall(list(messages), options)
        self.calls.append(call)
        try:
            await asyncio.sleep(self.delay)
            words = reply.text.split(" ") if reply.text else []
            for word in words if reply.error is None else words[: reply.error_after]:
                await asyncio.sleep(reply.token_delay)
                yield ChatGenerationChunk(message=AIMessageChunk(content=f"{word} "))
            if reply.error is not None:
                raise reply.error
            yield self._last(len(words))
            call.ended = "answered"
        except BaseException as error:
            call.ended = type(error).__name__
            raise

    async def generate(self, messages: Sequence[BaseMessage], options: CallOptions) -> ChatResult:
        """Give the next reply of the script in one piece."""
        chunks = [chunk async for chunk in self.stream(messages, options)]
        text = "".join(str(chunk.message.text) for chunk in chunks)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text.rstrip()))])

    def _next_reply(self) -> Reply:
        reply = self.replies[min(len(self.calls), len(self.replies) - 1)]
        if isinstance(reply, str):
            return Reply(reply)
        return Reply(error=reply) if isinstance(reply, BackendError) else reply

    def _last(self, words: int) -> ChatGenerationChunk:
        counts = {"input_tokens": 1, "output_tokens": words, "total_tokens": 1 + words}
        told = {"model_name": self.model, "finish_reason": "stop"}
        message = AIMessageChunk.model_validate(
            {"content": "", "usage_metadata": counts, "response_metadata": told}
        )
        return ChatGenerationChunk(message=message)


def script(
    plan: Sequence[str] | str = (),
    steps: Mapping[str, str | BaseException | None] | None = None,
    synthesis: Scripted = "done",
    revision: Sequence[str] = (),
    chat: Scripted = "hello",
) -> Callable[[Asked], Scripted]:
    """Give a `respond` from tables.

    ``plan`` lists the steps (or is the raw text); ``steps`` maps a question as asked to its
    answer, to None when nothing is found, or to an exception. A question that is not in the
    table is an error of the test. Asked for the next step, it gives the first of ``plan`` that
    has not been asked, its references filled. ``chat`` answers conversations.
    """

    def respond(asked: Asked) -> Scripted:
        match asked.request:
            case PlanRequest():
                return plan if isinstance(plan, str) else json.dumps({"steps": list(plan)})
            case RevisionRequest():
                return json.dumps({"steps": list(revision)})
            case NextStepRequest(steps=done):
                return _next_of(list(plan), done)
            case StepRequest(question=question):
                answer = (steps or {})[question]
                return answer if isinstance(answer, BaseException) else step_reply(answer)
            case SynthesisRequest():
                return synthesis
            case _:
                return chat

    return respond


def _next_of(plan: Sequence[str], done: Sequence[StepOutcome]) -> str:
    answers = {step.id: step.answer for step in done}
    return json.dumps({"steps": [fill(step, answers) for step in plan[len(done) :][:1]]})


def step_reply(answer: str | None, passages: Sequence[int] = (1,)) -> str:
    """Give a step's reply in the form a language model is asked for."""
    return json.dumps(
        {
            "reasoning": "scripted",
            "found": answer is not None,
            "answer": answer or "",
            "passages": list(passages) if answer is not None else [],
        }
    )
