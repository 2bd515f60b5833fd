"""``/v1/chat/completions``: every graph as a model that OpenAI's clients can ask."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import Header, Request, Response

from hoptrail.errors import AnswerTorn, HoptrailError
from hoptrail.events import Event
from hoptrail.run import GraphName, new_run_id
from hoptrail.server.completion import Chunks, Completion, Heading, ReasoningField, completion
from hoptrail.server.completion_request import CompletionRequest
from hoptrail.server.event_stream import EventStream, Frame, Frames, failure_json, frame
from hoptrail.server.gone import cancelled_when_gone
from hoptrail.server.live_runs import LiveRun, RunFailed
from hoptrail.server.models import graph_of
from hoptrail.server.problems import problem_of, refusals
from hoptrail.server.routing import router
from hoptrail.server.served import Serving
from hoptrail.server.stream_schema import PROBLEM, Schema, either, holding, stream_of
from hoptrail.trail import Hoptrail

routes = router("OpenAI", "/v1")

REQUEST_ID_HEADER = "x-request-id"
"""Where OpenAI's clients look for the id to name when something went wrong."""

Spelling = Annotated[
    ReasoningField,
    Header(alias="Hoptrail-Reasoning", description="The field that steps are told in"),
]
_EXAMPLE = (
    'data: {"id":"chatcmpl-20261122-091500-4f2a9c","object":"chat.completion.chunk",'
    '"created":1795338900,"model":"hoptrail/multi-hop","choices":[{"index":0,"delta":'
    '{"role":"assistant","content":"Prague"},"finish_reason":null}]}\n\ndata: [DONE]\n\n'
)
_PLAIN: Schema = {"type": "object"}
_CHUNK = holding(
    id={"type": "string"},
    object="chat.completion.chunk",
    created={"type": "integer"},
    model={"type": "string"},
    choices={"type": "array", "items": holding(index=0, delta=_PLAIN, finish_reason={})},
)
_STREAM = stream_of(
    "The answer, or with `stream` its chunks.", either(_CHUNK, PROBLEM), _EXAMPLE, last="[DONE]"
)


@routes.post(
    "/chat/completions",
    response_model=Completion,
    responses={**refusals(404, 415, 429, 502, 504), 200: _STREAM},
)
async def complete(
    asked: CompletionRequest,
    request: Request,
    served: Serving,
    spelling: Spelling = "reasoning_content",
) -> Response:
    """Answer the last message: the steps are the reasoning, the answer is the content.

    With `stream` it comes in chunks, as server-sent events. hoptrail/multi-hop and
    hoptrail/iterative answer the last message alone; hoptrail/chat reads those before it too.
    """
    graph, run_id = graph_of(asked.model), new_run_id()
    heading = Heading(run_id, asked.model, graph != "chat", spelling, _ignored(asked, graph))
    headers = {REQUEST_ID_HEADER: run_id}
    live = served.runs.start(run_id, _events(served.trail, asked, graph, run_id))
    if asked.stream:
        chunks = Chunks(heading, usage=asked.wants_usage)
        return EventStream(_frames(live, chunks), headers=headers, on_error=_failure)
    async with cancelled_when_gone(request):
        trace = await live.result()
    whole = completion(heading, trace).model_dump_json()
    return Response(whole, headers=headers, media_type="application/json")


def _events(
    trail: Hoptrail, asked: CompletionRequest, graph: GraphName, run_id: str
) -> AsyncGenerator[Event, None]:
    if graph == "chat":
        return trail.astream_chat(
            asked.question, history=asked.history, user=asked.remembered, run_id=run_id
        )
    return trail.astream(asked.question, run_id=run_id, graph=graph)


def _ignored(asked: CompletionRequest, graph: GraphName) -> list[str]:
    alone = graph != "chat" and len(asked.messages) > 1
    return [*asked.ignored, *(["messages before the last"] if alone else [])]


async def _frames(live: LiveRun, chunks: Chunks) -> Frames:
    async with aclosing(live.follow()) as told:
        async for _, event in told:
            if isinstance(event, RunFailed):
                raise event.error
            for chunk in chunks.of(event):
                yield frame(chunk)
    if not chunks.complete:
        raise HoptrailError("the run waits for its plan to be approved, which nobody can do here")
    yield frame("[DONE]")


def _failure(error: Exception) -> Frame:
    if not isinstance(error, AnswerTorn):
        return frame(failure_json(error))
    detail = problem_of(error).error.model_dump()
    return frame({"error": {**detail, "run_id": error.run_id, "answer": error.answer}})
