"""A trail as a LangChain tool: an agent asks a question, and reads the answer with its sources."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Literal

from langchain_core.tools import BaseTool, ToolException
from langgraph.config import get_stream_writer
from pydantic import BaseModel, Field

from hoptrail.answer import Answer, answer_of, caveat
from hoptrail.background import background
from hoptrail.errors import (
    AllBackendsFailed,
    BackendError,
    HoptrailError,
    InvalidResponse,
    NoBackend,
    RequestRefused,
)
from hoptrail.events import Event, RunFinished

_NOT_SAID = "No answer: the documents do not say."
_NOT_KNOWN = "No answer: there are no documents to look in."

Ask = Callable[[str], AsyncGenerator[Event, None]]
"""Answers a question and tells what happens meanwhile, as `Hoptrail.astream` does."""


class AskedQuestion(BaseModel):
    """What the tool is called with."""

    question: str = Field(
        min_length=1,
        description="The whole question in natural language, understandable on its own. It may "
        "need several look-ups: ask it as one question, it is broken into steps here.",
    )


class AnswerTool(BaseTool):
    """Answers a question through the graph.

    The content is the answer with its sources, the artifact `Answer.as_json`. To an agent's tool
    call an error is a message of status ``error``, with its cause and the way out; whoever calls
    the tool with plain arguments gets the error raised. Inside a LangGraph graph the events of
    the run go to that graph's ``custom`` stream.
    """

    args_schema: type[BaseModel] = AskedQuestion
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    # An error that the agent's model reads is one it can act upon.
    handle_tool_error: Any = True
    ask: Ask = Field(exclude=True, repr=False)

    def run(
        self,
        tool_input: str | dict[str, Any],
        *args: Any,  # the base class's signature, as is the next
        tool_call_id: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the tool; see the class for what becomes of an error."""
        return BaseTool.run(
            self._as_called(tool_call_id), tool_input, *args, tool_call_id=tool_call_id, **kwargs
        )

    async def arun(
        self,
        tool_input: str | dict[str, Any],
        *args: Any,  # the base class's signature, as is the next
        tool_call_id: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the tool; see the class for what becomes of an error."""
        return await BaseTool.arun(
            self._as_called(tool_call_id), tool_input, *args, tool_call_id=tool_call_id, **kwargs
        )

    def _as_called(self, tool_call_id: str | None) -> AnswerTool:
        """Give the tool that raises its errors where no message can be marked as one."""
        if tool_call_id is not None:
            return self
        return self.model_copy(update={"handle_tool_error": False})

    def _run(self, question: str) -> tuple[str, dict[str, object]]:
        tell = _outer_stream()
        last: Event | None = None
        try:
            for last in background().iterate(self.ask(question)):
                tell(last)
            return _told(finished(last))
        except HoptrailError as error:
            raise ToolException(in_words(error)) from error

    async def _arun(self, question: str) -> tuple[str, dict[str, object]]:
        tell = _outer_stream()
        last: Event | None = None
        try:
            async with aclosing(self.ask(question)) as events:
                async for last in events:
                    tell(last)
            return _told(finished(last))
        except HoptrailError as error:
            raise ToolException(in_words(error)) from error


def with_sources(answer: Answer) -> str:
    """Give an answer as a model reads it: what it rests on, and whether it is one at all."""
    parts = [answer.text]
    if answer.abstained:
        searched = any(step.retrieval_mode not in ("", "none") for step in answer.trace.steps)
        parts.insert(0, _NOT_SAID if searched else _NOT_KNOWN)
    if answer.citations:
        sources = [
            f"[{number}] {cited.title or cited.passage_id} ({cited.source}): “{cited.quote}”"
            for number, cited in enumerate(answer.citations, start=1)
        ]
        parts.append("\n".join(["Sources:", *sources]))
    if note := caveat(answer.trace):
        parts.append(note)
    return "\n\n".join(parts)


def in_words(error: HoptrailError) -> str:
    """Say what went wrong and, where the message does not, what to do about it."""
    nobody = isinstance(error, NoBackend | AllBackendsFailed | BackendError)
    if nobody and not isinstance(error, RequestRefused | InvalidResponse):
        return f"{error}. `hoptrail doctor` says what each backend lacks."
    return str(error)


def finished(last: Event | None) -> Answer:
    """Give the answer that a run's last event tells.

    Raises:
        HoptrailError: the run waits for its plan to be approved, and nobody here can do that.
    """
    if isinstance(last, RunFinished):
        return answer_of(last.trace)
    raise HoptrailError("the run waits for its plan to be approved: use a trail without approve")


def _told(answer: Answer) -> tuple[str, dict[str, object]]:
    return with_sources(answer), answer.as_json()


def _outer_stream() -> Callable[[Event], None]:
    """Give the ``custom`` stream of the graph that calls the tool; elsewhere nobody listens."""
    try:
        return get_stream_writer()
    except (RuntimeError, KeyError):
        return lambda _event: None
