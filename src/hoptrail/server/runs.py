"""The runs there are and were: their rows, their events, their traces; and stopping one."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Annotated

from fastapi import Header, Path, Query, Response
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field
from pydantic.json_schema import SkipJsonSchema

from hoptrail.journal import Journal, RunRow
from hoptrail.server.event_stream import EventStream, Frames, event_json, frame
from hoptrail.server.problems import Refusal, refusals
from hoptrail.server.reasoning import RUN_ID, run_frames, told_as_events
from hoptrail.server.retelling import events_of
from hoptrail.server.routing import router
from hoptrail.server.served import Served, Serving
from hoptrail.trace import RunStatus, Trace

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


RunId = Annotated[str, Path(pattern=RUN_ID, examples=[_EXAMPLE_ID], description="A run's id")]
Limit = Annotated[int, Query(ge=1, le=500, description="Most runs to give")]
Before = Annotated[
    AwareDatetime,
    BeforeValidator(_iso),
    Query(description="A time; older runs are given", examples=["2026-11-22T09:15:00Z"]),
]
LastEventId = Annotated[
    str | SkipJsonSchema[None],
    Header(
        pattern=_EVENT_IDS,
        json_schema_extra={"pattern": _EVENT_IDS},  # a union's is left out
        description="The id of the last event that was received: what came after it follows",
        examples=[f"{_EXAMPLE_ID}:3"],
    ),
]


class RunBody(RunRow):
    """A run at a glance; ``live`` says whether it is under way in this server."""

    live: bool = False


class RunList(BaseModel):
    """Runs, newest first. ``before`` of the next request is the last one's ``created``."""

    runs: list[RunBody]


class Cancelled(BaseModel):
    """Whether there was anything to cancel."""

    run_id: str = Field(examples=[_EXAMPLE_ID])
    cancelled: bool


@routes.get("", summary="List runs")
async def list_runs(
    serving: Serving,
    status: RunStatus | SkipJsonSchema[None] = None,
    limit: Limit = 50,
    before: Before | SkipJsonSchema[None] = None,
) -> RunList:
    """Give the newest runs, newest first; `before` leafs on."""
    journal = serving.trail.assembly.journal
    rows = await journal.off_loop(_rows, journal, status, limit, before)
    return RunList(runs=[_body(row, serving) for row in rows])


@routes.get("/{run_id}", summary="Look at a run", responses=refusals(404))
async def one_run(run_id: RunId, serving: Serving) -> RunBody:
    """Give a run at a glance, and whether it is under way."""
    journal = serving.trail.assembly.journal
    return _body(await journal.off_loop(_row, journal, run_id), serving)


@routes.get(
    "/{run_id}/trace.json",
    summary="The whole record of a run",
    response_model=Trace,
    responses={**refusals(404), 304: {"description": "It is as `If-None-Match` has it."}},
)
async def trace(
    run_id: RunId, serving: Serving, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """Give the trace document, of a run under way as far as it has come.

    `hoptrail trace schema` prints its JSON Schema.
    """
    document = await _document(run_id, serving)
    etag = f'"{sha256(document).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if if_none_match is not None and _names(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return Response(document, media_type="application/json", headers=headers)


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


def _rows(
    journal: Journal, status: RunStatus | None, limit: int, before: AwareDatetime | None
) -> list[RunRow]:
    return [_became(row, journal) for row in journal.runs(limit, status=status, before=before)]


def _row(journal: Journal, run_id: str) -> RunRow:
    return _became(journal.run(run_id), journal)


def _became(row: RunRow, journal: Journal) -> RunRow:
    """Give what has become of a run: a process that was killed could not say so."""
    killed = row.status == "running" and not journal.alive(row.run_id)
    return row.model_copy(update={"status": "interrupted"}) if killed else row


def _body(row: RunRow, serving: Serving) -> RunBody:
    live = serving.runs.get(row.run_id)
    return RunBody(**row.model_dump(), live=live is not None and not live.ended)


async def _document(run_id: str, serving: Served) -> bytes:
    live = serving.runs.get(run_id)
    record = live.trace if live is not None and not live.ended else None
    if record is None:
        journal = serving.trail.assembly.journal
        record = await journal.off_loop(journal.trace, run_id)
    return record.model_dump_json().encode()


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
