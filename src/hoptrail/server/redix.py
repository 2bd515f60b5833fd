"""The older system's ``/redix/ask``: a conversation with memory, by whoever is up.

It runs the conversation's graph: Hugging Face is asked first, then Ollama, then the built-in
(`HOPTRAIL_BACKENDS` is the order); what is worth knowing later is remembered.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Literal

from fastapi import Request, Response
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hoptrail.errors import HoptrailError
from hoptrail.events import AnswerRestarted, AnswerText, RunFinished
from hoptrail.evidence import Citation
from hoptrail.run import new_run_id
from hoptrail.server.event_stream import EventStream, Frame, failure_frame, frame
from hoptrail.server.gone import cancelled_when_gone
from hoptrail.server.live_runs import LiveRun, RunFailed
from hoptrail.server.memories import UserName
from hoptrail.server.problems import refusals
from hoptrail.server.routing import router
from hoptrail.server.served import Serving
from hoptrail.server.stream_schema import PROBLEM, either, holding, of_model, stream_of
from hoptrail.server.succession import succeeded_by
from hoptrail.trace import Trace

routes = router("Conversation", "/redix")

_HEADERS = succeeded_by("/v1/chat/completions")
_MESSAGES: dict[str, type[BaseMessage]] = {
    "system": SystemMessage,
    "user": HumanMessage,
    "assistant": AIMessage,
}

_WHOLE = ("answered", "abstained")
"""How a turn ends that gave an answer; after any other end an error follows."""

Said = Annotated[str | None, Field(max_length=100_000)]
Name = Annotated[str | None, Field(min_length=1, max_length=200, pattern=r"\S")]


class RedixTurn(BaseModel):
    """One message of the conversation so far."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=1_000_000)


class RedixRequest(BaseModel):
    """Something said in a conversation: as ``message``, or the last of ``messages``.

    ``question`` and ``prompt`` are other names of ``message``, ``session_id`` one of
    ``thread_id``. Without a thread, ``messages`` are the conversation so far; with one, the
    server has kept it.
    """

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [
                {"message": "My cat is called Ofelie.", "thread_id": "kitchen", "user": "anna"},
                {"messages": [{"role": "user", "content": "What is my cat called?"}]},
            ]
        },
    )

    message: Said = None
    question: Said = None
    prompt: Said = None
    messages: list[RedixTurn] = Field(default_factory=list, max_length=1_000)
    thread_id: Name = None
    session_id: Name = None
    user: UserName | None = Field(None, description="Whose memory; without one, everybody's")
    stream: bool = Field(True, description="Server-sent events, or one JSON object")

    @model_validator(mode="after")
    def _says_something(self) -> RedixRequest:
        if not self.said.strip():
            raise ValueError("send a message, or messages of which the last is the user's")
        return self

    @property
    def said(self) -> str:
        """What the user says now."""
        alone = self.message or self.question or self.prompt
        if alone:
            return alone
        last = self.messages[-1] if self.messages else None
        return last.content if last is not None and last.role == "user" else ""

    @property
    def history(self) -> list[BaseMessage]:
        """What was said before; empty where the server has kept it."""
        if self.thread:
            return []
        turns = self.messages
        if turns and (turns[-1].role, turns[-1].content) == ("user", self.said):
            turns = turns[:-1]
        return [_MESSAGES[turn.role](turn.content) for turn in turns if turn.content]

    @property
    def thread(self) -> str | None:
        """The conversation this belongs to."""
        return self.thread_id or self.session_id


class RedixReply(BaseModel):
    """The answer; ``degraded`` says that no language model stood behind it.

    What was asked of memory itself ("forget my cat") is answered by the ``backend`` `memory`.
    """

    text: str = Field(examples=["Your cat is called Ofelie."])
    backend: str = Field(examples=["huggingface"])
    model: str | None = Field(examples=["openai/gpt-oss-20b"])
    degraded: bool
    abstained: bool
    run_id: str = Field(examples=["20261122-091500-4f2a9c"])
    thread_id: str | None = Field(examples=["kitchen"])
    citations: list[Citation] = Field(description="The sources, in the order of the marks")
    remembered: list[str] = Field(description="What of it is kept", examples=[[]])
    recalled: list[str] = Field(
        description="Facts that the answer could use", examples=[["My cat is called Ofelie."]]
    )
    warnings: list[str]


_EVENT = either(
    holding(text={"type": "string"}),
    holding(restart=True, why={"type": "string"}),
    holding(done=True, **of_model(RedixReply, "text")),
    PROBLEM,
)
_EXAMPLE = (
    'data: {"text":"Ofelie."}\n\ndata: {"done":true,"backend":"huggingface","model":'
    '"openai/gpt-oss-20b","degraded":false,"abstained":false,"run_id":'
    '"20261122-091500-4f2a9c","thread_id":null,"citations":[],"remembered":[],"recalled":[],'
    '"warnings":[]}\n\n'
)


@routes.post(
    "/ask",
    deprecated=True,
    response_model=RedixReply,
    responses={
        200: stream_of("The answer, as events or as JSON.", _EVENT, _EXAMPLE),
        **refusals(409, 429, 502, 503, 504),
    },
)
async def ask(
    asked: RedixRequest, request: Request, response: Response, served: Serving
) -> RedixReply | Response:
    """Say something, and get an answer: Hugging Face's, or Ollama's, or the built-in's.

    Streamed, it sends ``{"text": …}`` for each piece and ``{"done": true, …}`` with the rest of
    the JSON reply at the end. ``{"restart": true, "why": …}`` says that the text so far is void.
    An answer that fails ends with an ``error`` event instead.
    """
    run_id = new_run_id()
    events = served.trail.astream_chat(
        asked.said,
        thread_id=asked.thread,
        history=asked.history,
        user=asked.user or "default",
        run_id=run_id,
    )
    run = served.runs.start(run_id, events)
    if asked.stream:
        return EventStream(_frames(run, asked.thread), headers=_HEADERS)
    async with cancelled_when_gone(request):
        trace = await run.result()
    response.headers.update(_HEADERS)
    return _reply(trace, asked.thread)


async def _frames(run: LiveRun, thread: str | None) -> AsyncGenerator[Frame, None]:
    async with aclosing(run.follow()) as events:
        async for _, event in events:
            match event:
                case AnswerText():
                    yield frame({"text": event.delta})
                case AnswerRestarted():
                    yield frame({"restart": True, "why": event.why})
                case RunFinished() if event.trace.status in _WHOLE:
                    told = _reply(event.trace, thread).model_dump(exclude={"text"})
                    yield frame({"done": True, **told})
                case RunFailed(error=HoptrailError() as error):
                    raise error
                case RunFailed():
                    yield failure_frame(event.error)
                case _:
                    continue


def _reply(trace: Trace, thread: str | None) -> RedixReply:
    calls = list(trace.calls())
    kept = [use for step in trace.steps for use in step.tools if use.tool == "remember"]
    return RedixReply(
        text=trace.answer,
        backend=calls[-1].backend if calls else "memory",
        model=calls[-1].model if calls else None,
        degraded=trace.degraded,
        abstained=trace.abstained,
        run_id=trace.run_id,
        thread_id=thread,
        citations=trace.citations,
        remembered=[str(use.arguments["text"]) for use in kept if not use.error],
        recalled=[fact.answer for step in trace.steps for fact in step.earlier],
        warnings=[*trace.warnings, *(each for step in trace.steps for each in step.warnings)],
    )
