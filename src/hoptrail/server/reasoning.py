"""``POST /reasoning/multi-hop``: a question in, its answer out, whole or as it comes about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hoptrail.answer import answer_of
from hoptrail.run import new_run_id
from hoptrail.server.answer_body import AnswerBody, GraphName
from hoptrail.server.event_stream import EventStream, Frames, event_json, frame
from hoptrail.server.gone import cancelled_when_gone
from hoptrail.server.live_runs import LiveRun, RunFailed
from hoptrail.server.problems import refusals
from hoptrail.server.routing import router
from hoptrail.server.served import Serving
from hoptrail.server.stream_schema import of_run, stream_of
from hoptrail.trace import Trace

routes = router("reasoning")

RUN_ID_HEADER = "X-Hoptrail-Run-Id"
BACKENDS_HEADER = "X-Hoptrail-Backends"
SPACE_HEADER = "X-Hoptrail-Embedding-Space"
RUN_ID = r"^[A-Za-z0-9_-]{1,64}$"

_EVENTS_EXAMPLE = (
    "event: RUN_STARTED\nid: 20261122-091500-4f2a9c:1\n"
    'data: {"run_id":"20261122-091500-4f2a9c","question":"...","resumed":false,'
    '"type":"RUN_STARTED"}\n\n'
)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty")
    return text


Question = Annotated[
    str, Field(min_length=1, max_length=10_000, pattern=r"\S"), AfterValidator(_not_blank)
]


class MultiHopRequest(BaseModel):
    """A question. With the ``run_id`` of an earlier run of it, that one is finished.

    ``stream`` gives its events as they happen, ``detach`` lets the run go on when you leave.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"question": "In which city was the author of The Trial born?"},
                {"question": "Who taught the teacher of Plato?", "stream": True},
            ]
        },
    )

    question: Question
    graph: GraphName = "multi-hop"
    stream: bool = False
    run_id: Annotated[str, Field(pattern=RUN_ID)] | None = None
    detach: bool = False


def told_as_events(description: str) -> dict[str, Any]:
    """Declare a stream of a run's events."""
    return stream_of(description, of_run(), _EVENTS_EXAMPLE)


@routes.post(
    "/reasoning/multi-hop",
    summary="Answer a multi-hop question",
    response_model=AnswerBody,
    responses={
        **refusals(409, 429, 502, 504),
        200: told_as_events("The answer, or with `stream` the run's events."),
    },
)
async def multi_hop(wish: MultiHopRequest, request: Request, serving: Serving) -> Response:
    """Break the question into steps, answer each from the documents, and put them together.

    `graph` is `multi-hop`, which plans all steps first, or `iterative`, which chooses each step
    from what the ones before found.
    """
    run_id = wish.run_id or new_run_id()
    events = serving.trail.astream(wish.question, run_id=run_id, graph=wish.graph)
    run = serving.runs.start(run_id, events, detach=wish.detach)
    return await told(run, request, stream=wish.stream)


async def told(run: LiveRun, request: Request, *, stream: bool) -> Response:
    """Give a run's events as they come, or wait for its end and give its answer."""
    if stream:
        return EventStream(run_frames(run), headers={RUN_ID_HEADER: run.run_id})
    async with cancelled_when_gone(request):
        trace = await run.result()
    return JSONResponse(answer_of(trace).as_json(), headers=served_by_headers(trace))


async def run_frames(run: LiveRun, after: int = 0) -> Frames:
    """Give a run's events as frames; their ids are ``RUN_ID:NUMBER``.

    Raises:
        Exception: what the run failed with before it had begun.
    """
    async with aclosing(run.follow(after)) as events:
        async for number, event in events:
            if number == 1 and isinstance(event, RunFailed):
                raise event.error
            yield frame(event_json(event), event.type, f"{run.run_id}:{number}")


def served_by_headers(trace: Trace) -> Mapping[str, str]:
    """Say in headers which run it was, which backends served it, and which embedding space."""
    backends = [call.backend for call in trace.calls() if call.backend]
    spaces = [step.embedding_space for step in trace.steps if step.embedding_space]
    return {
        RUN_ID_HEADER: trace.run_id,
        **_listed(BACKENDS_HEADER, backends),
        **_listed(SPACE_HEADER, spaces),
    }


def _listed(header: str, names: Sequence[str]) -> dict[str, str]:
    told = ", ".join(dict.fromkeys(names))
    return {header: told} if told and told.isascii() and told.isprintable() else {}
