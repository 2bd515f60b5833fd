"""Fakes for tests, yours and ours: each is one more implementation of the real base class."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from hoptrail.request import (
    PlanRequest,
    Request,
    RevisionRequest,
    StepRequest,
    SynthesisRequest,
    request_of,
)

Scripted = str | BaseException


@dataclass
class Asked:
    """One call to a scripted model: what was asked, and when (``time.monotonic()`` seconds)."""

    messages: list[BaseMessage]
    request: Request | None
    started: float
    ended: float | None = None

    @property
    def question(self) -> str:
        """The question of the request, or the text of the last message."""
        return self.request.question if self.request else str(self.messages[-1].text)


class ScriptedChatModel(BaseChatModel):
    """A chat model that answers from a script and remembers what it was asked.

    ``respond`` gives the text of an answer, or an exception to raise; ``script`` makes one from
    tables. ``delay`` seconds pass before the first token, ``token_delay`` between two.
    """

    respond: Callable[[Asked], Scripted]
    delay: Callable[[Asked], float] = lambda _asked: 0.0
    token_delay: float = 0.0
    calls: list[Asked] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def questions(self) -> list[str]:
        """The questions asked, in the order the calls began."""
        return [asked.question for asked in self.calls]

    def asked(self, kind: str) -> list[Asked]:
        """The calls of one kind: ``plan``, ``revision``, ``step``, ``synthesis``."""
        return [asked for asked in self.calls if asked.request and asked.request.kind == kind]

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # the base class's signature
    ) -> AsyncIterator[ChatGenerationChunk]:
        asked = Asked(messages, request_of(messages), time.monotonic())
        self.calls.append(asked)
        await asyncio.sleep(self.delay(asked))
        text = self.respond(asked)
        if isinstance(text, BaseException):
            raise text
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
        parts = [str(chunk.message.text) async for chunk in self._astream(messages)]
        return ChatResult(generations=[ChatGeneration(message=AIMessage("".join(parts).rstrip()))])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # the base class's signature
    ) -> ChatResult:
        return asyncio.run(self._agenerate(messages))


def script(
    plan: Sequence[str] | str = (),
    steps: Mapping[str, str | BaseException | None] | None = None,
    synthesis: Scripted = "done",
    revision: Sequence[str] = (),
) -> Callable[[Asked], Scripted]:
    """Give a `respond` from tables.

    ``plan`` lists the steps (or is the raw text); ``steps`` maps a question as asked to its
    answer, to None when nothing is found, or to an exception. A question that is not in the
    table is an error of the test.
    """

    def respond(asked: Asked) -> Scripted:
        match asked.request:
            case PlanRequest():
                return plan if isinstance(plan, str) else json.dumps({"steps": list(plan)})
            case RevisionRequest():
                return json.dumps({"steps": list(revision)})
            case StepRequest(question=question):
                answer = (steps or {})[question]
                return answer if isinstance(answer, BaseException) else step_reply(answer)
            case SynthesisRequest():
                return synthesis
            case None:
                raise AssertionError(f"not a request: {asked.messages!r}")

    return respond


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
