"""The runs there are and were: their rows, their events, their traces; and stopping one."""

from __future__ import annotations

import asyncio
import re
from hashlib import sha256
from typing import Annotated, cast

from fastapi import Header, Path, Query, Response
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field
from pydantic.json_schema import SkipJsonSchema

from hoptrail.journal import RunFilter, RunRow, RunSort
from hoptrail.server.event_stream import EventStream, Frames, event_json, frame
from hoptrail.server.problems import Refusal, refusals
from hoptrail.server.reasoning import RUN_ID, run_frames, told_as_events
from hoptrail.server.retelling import events_of
from hoptrail.server.routing import router
from hoptrail.server.served import Served, Serving
from hoptrail.trace import RunStatus, Trace
from hoptrail.viewer import file_policy, trace_page

routes = router("runs", "/runs")

_EVENT_ID = re.compile(r"([A-Za-z0-9_-]{1,64}):([a-z]?)([0-9]{1,9})")
_EVENT_IDS = f"^{_EVENT_ID.pattern}$"
_RETOLD = "t"
"""Marks the ids of events that are told from the trace: the live ones had other numbers."""
_EXAMPLE_ID = "20261122-091500-4f2a9c"


def _iso(text: str) -> str:
    # Pydantic reads numbers as times, too; the document promises none.
    if not text[:4].isdecimal() or text[4:5] != "-":
        raise ValueError("it is no time such as 2026-11-22T09:15:00Z")
    return text


def _true_or_false(text: str) -> bool:
    # Pydantic reads `on`, `y` and `1`, too; the document promises none.
    if text not in ("true", "false"):
        raise ValueError("it is neither true nor false")
    return text == "true"


RunId = Annotated[str, Path(pattern=RUN_ID, examples=[_EXAMPLE_ID], description="A run's id")]
Time = Annotated[AwareDatetime, BeforeValidator(_iso)]
IfNoneMatch = Annotated[str | None, Header(description="The `ETag` of a copy that is held")]
LastEventId = Annotated[
    str | SkipJsonSchema[None],
    Header(
        pattern=_EVENT_IDS,
        json_schema_extra={"pattern": _EVENT_IDS},  # a union's is left out
        description="The id of the last event that was received: what came after it follows",
        examples=[f"{_EXAMPLE_ID}:3"],
    ),
]


class RunQuery(BaseModel):
    """Which runs are wanted, how they are sorted, and which of them are given."""

    status: RunStatus | SkipJsonSchema[None] = Field(None, description="How they ended")
    backend: str | SkipJsonSchema[None] = Field(
        None, max_length=200, description="A backend that answered in them", examples=["ollama"]
    )
    question: str | SkipJsonSchema[None] = Field(
        None, max_length=1000, description="A part of their question, in any case"
    )
    degraded: Annotated[bool, BeforeValidator(_true_or_false)] | SkipJsonSchema[None] = Field(
        None, description="Whether no language model stood behind some of the answer"
    )
    since: Time | SkipJsonSchema[None] = Field(
        None, description="The earliest time they began at", examples=["2026-11-22T09:15:00Z"]
    )
    before: Time | SkipJsonSchema[None] = Field(
        None, description="A time; older runs are given", examples=["2026-11-22T09:15:00Z"]
    )
    sort: RunSort = Field("newest", description="Which come first")
    limit: int = Field(50, ge=1, le=500, description="Most runs to give")
    offset: int = Field(0, ge=0, le=1_000_000_000, description="How many of them to leave out")

    @property
    def filter(self) -> RunFilter:
        """What the journal is asked for."""
        return cast("RunFilter", self.model_dump(include=set(RunFilter.__annotations__)))


class RunBody(RunRow):
    """A run at a glance; ``live`` says whether it is under way in this server."""

    live: bool = False


class RunList(BaseModel):
    """Runs, sorted. Of the newest, ``before`` of the next request is the last's ``created``."""

    runs: list[RunBody]


class Cancelled(BaseModel):
    """Whether there was anything to cancel."""

    run_id: str = Field(examples=[_EXAMPLE_ID])
    cancelled: bool


@routes.get("", summary="List runs")
async def list_runs(serving: Serving, query: Annotated[RunQuery, Query()]) -> RunList:
    """Give the runs that are wanted; `before`, or `offset`, leafs on."""
    journal, sort = serving.trail.assembly.journal, query.sort
    rows = await journal.off_loop(
        journal.runs, query.limit, sort=sort, offset=query.offset, **query.filter
    )
    return RunList(runs=[_body(row, serving) for row in rows])


@routes.get("/{run_id}", summary="Look at a run", responses=refusals(404))
async def one_run(run_id: RunId, serving: Serving) -> RunBody:
    """Give a run at a glance, and whether it is under way."""
    journal = serving.trail.assembly.journal
    return _body(await journal.off_loop(journal.run, run_id), serving)


@routes.get(
    "/{run_id}/trace.json",
    summary="The whole record of a run",
    response_model=Trace,
    responses={**refusals(404), 304: {"description": "It is as `If-None-Match` has it."}},
)
async def trace(run_id: RunId, serving: Serving, if_none_match: IfNoneMatch = None) -> Response:
    """Give the trace document, of a run under way as far as it has come.

    `hoptrail trace schema` prints its JSON Schema.
    """
    return _sent(await _document(run_id, serving), "application/json", if_none_match)


@routes.get(
    "/{run_id}/trace.html",
    summary="The whole record of a run, as a page",
    response_class=Response,
    responses={
        **refusals(404),
        200: {
            "description": "The page.",
            "content": {"text/html": {"schema": {"type": "string"}}},
        },
        304: {"description": "It is as `If-None-Match` has it."},
    },
)
async def trace_html(
    run_id: RunId, serving: Serving, if_none_match: IfNoneMatch = None
) -> Response:
    """Give a page to look at and to keep: it needs no network. What looks like a secret is masked.

    Of a run under way it shows what there is so far.
    """
    document, secrets = await _document(run_id, serving), serving.settings.secrets
    page = await asyncio.to_thread(lambda: trace_page(secrets.masked_in(document)))
    sent = _sent(page, "text/html; charset=utf-8", if_none_match)
    sent.headers["Content-Security-Policy"] = file_policy()
    sent.headers["Content-Disposition"] = f'inline; filename="{run_id}.html"'
    return sent


@routes.get(
    "/{run_id}/events",
    summary="Follow a run",
    response_class=Response,
    responses={**refusals(404), 200: told_as_events("What happened, and what happens.")},
)
async def events(run_id: RunId, serving: Serving, last_event_id: LastEventId = None) -> Response:
    """Give a run's events from its start, or from after `Last-Event-ID`; live while it is.

    Of a run that ended some while ago, they are told from its trace.
    """
    live = serving.runs.get(run_id)
    if live is not None:
        return EventStream(run_frames(live, _after(run_id, last_event_id, len(live.log))))
    journal = serving.trail.assembly.journal
    record = await journal.off_loop(journal.trace, run_id)
    return EventStream(_retold(record, last_event_id))


@routes.post("/{run_id}/cancel", summary="Stop a run", responses=refusals(404))
async def cancel(run_id: RunId, serving: Serving) -> Cancelled:
    """Stop a run that is under way; what it has finished stays, for a resume by its id."""
    live = serving.runs.get(run_id)
    if live is not None and not live.ended:
        live.cancel()
        return Cancelled(run_id=run_id, cancelled=True)
    journal = serving.trail.assembly.journal
    await journal.off_loop(journal.run, run_id)
    return Cancelled(run_id=run_id, cancelled=False)


def _body(row: RunRow, serving: Serving) -> RunBody:
    live = serving.runs.get(row.run_id)
    return RunBody(**row.model_dump(), live=live is not None and not live.ended)


async def record_of(run_id: str, serving: Served) -> Trace:
    """Give the record of a run, of one under way as far as it has come.

    Raises:
        RunNotFound: there is none.
        TraceUnreadable: it is damaged or of a newer version.
    """
    live = serving.runs.get(run_id)
    if live is not None and not live.ended and live.trace is not None:
        return live.trace
    journal = serving.trail.assembly.journal
    return await journal.off_loop(journal.trace, run_id)


async def _document(run_id: str, serving: Served) -> str:
    record = await record_of(run_id, serving)
    return serving.settings.secrets.hide_in(record.model_dump_json())


def _sent(document: str, content_type: str, if_none_match: str | None) -> Response:
    content = document.encode()
    etag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if if_none_match is not None and _names(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=content_type, headers=headers)


def _names(if_none_match: str, etag: str) -> bool:
    held = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return etag in held or "*" in held


async def _retold(record: Trace, last_event_id: str | None) -> Frames:
    """Tell a run from its trace; whoever had begun to follow it live gets its end alone.

    Raises:
        Refusal: 404, this run has no such event.
    """
    told = list(events_of(record))
    after = 0
    if last_event_id is not None:
        live = _number(record.run_id, last_event_id, "")
        after = len(told) - 1 if live else _after(record.run_id, last_event_id, len(told), _RETOLD)
    for number, event in enumerate(told[after:], after + 1):
        yield frame(event_json(event), event.type, f"{record.run_id}:{_RETOLD}{number}")


def _after(run_id: str, last_event_id: str | None, known: int, mark: str = "") -> int:
    """Give the number of the event that was received last.

    Raises:
        Refusal: 404, this run has no such event.
    """
    if last_event_id is None:
        return 0
    number = _number(run_id, last_event_id, mark)
    if number is None or number > known:
        raise Refusal(404, "this run has no event of that Last-Event-ID")
    return number


def _number(run_id: str, event_id: str, mark: str) -> int | None:
    found = _EVENT_ID.fullmatch(event_id)
    if found is None or found.group(1) != run_id or found.group(2) != mark:
        return None
    return int(found.group(3))
