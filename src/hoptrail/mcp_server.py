"""The MCP door: a trail's questions, searches and traces as tools and resources.

`build_mcp_server` makes the server, for any transport of the official SDK; `hoptrail.mcp_transport`
has those that Hoptrail is served over.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp_types import CallToolResult, Resource, ResourceLink, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

from hoptrail.answer import Answer, answer_of
from hoptrail.answer_tool import finished, in_words, with_sources
from hoptrail.errors import HoptrailError, RunNotFound
from hoptrail.events import Event, PlanFinished, PlanRestarted, StepFinished, StepPlanned
from hoptrail.evidence import Citation, Retrieval
from hoptrail.evidence_retriever import needs_documents
from hoptrail.journal import RunRow
from hoptrail.trace import StepTrace, Trace

if TYPE_CHECKING:
    from hoptrail.trail import Hoptrail

T = TypeVar("T")
Events = AsyncGenerator[Event, None]

GONE = "hoptrail.gone"
"""The key of an ASGI scope for the event that the client has left."""

_INSTRUCTIONS = """\
Answers questions that take several look-ups, from the user's documents, with sources. Put the \
whole question to `ask`; it is broken into steps here. `search` gives passages without an answer. \
`get_trace` tells how an answer came about."""
_READ_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False)
_JSON = "application/json"
_RECENT = 20
_MOST_PASSAGES = 50
_LONGEST_MESSAGE = 300


class StepTold(BaseModel):
    """A step in brief; `get_trace` and the trace resource tell the rest."""

    id: int
    question: str
    status: str
    answer: str
    backend: str


class Asked(BaseModel):
    """What `ask` gives. ``degraded``: no language model stood behind some of it."""

    answer: str
    abstained: bool
    degraded: bool
    stop_reason: str
    citations: list[Citation]
    steps: list[StepTold]
    warnings: list[str]
    run_id: str


class Passage(BaseModel):
    """A passage as it was found."""

    id: str
    text: str
    title: str
    source: str
    rank: int
    score: float


class Searched(BaseModel):
    """What `search` gives. ``mode``: ``hybrid``, ``lexical`` or ``external``."""

    passages: list[Passage]
    mode: str
    space: str | None
    warnings: list[str]


class Traced(BaseModel):
    """What `get_trace` gives: a run without its prompts and passages.

    ``run`` has the keys of ``hoptrail ask --json``; the whole trace is the resource ``uri``.
    """

    uri: str
    graph: str
    status: str
    started_at: str
    error: str
    run: dict[str, object]


def build_mcp_server(
    trail: Hoptrail, own: Callable[[Events], Events] | None = None
) -> MCPServer[None]:
    """Give the MCP server of a trail.

    ``own`` wraps the events of each run, for a host that admits and counts runs itself.
    """
    tools = _Tools(trail, own or _as_they_are)
    with _root_logger_kept():
        server = _Server(
            "hoptrail", title="Hoptrail", version=version("hoptrail"), instructions=_INSTRUCTIONS
        )
    server.tools = tools
    for tool in (tools.ask, tools.search, tools.get_trace):
        server.add_tool(tool, description=inspect.getdoc(tool), annotations=_READ_ONLY)
    server.resource(
        "trace://{run_id}", name="trace", title="The whole record of a run", mime_type=_JSON
    )(tools.trace)
    server.resource("runs://recent", name="runs", title="The newest runs", mime_type=_JSON)(
        tools.recent
    )
    return server


class _Server(MCPServer[None]):
    """A server whose list of resources holds the newest runs."""

    tools: _Tools

    async def list_resources(self) -> list[Resource]:
        rows = await self.tools.rows()
        return [*await super().list_resources(), *map(_resource, rows)]


class _Tools:
    """What clients may call and read; the docstrings are what a model is told."""

    def __init__(self, trail: Hoptrail, own: Callable[[Events], Events]) -> None:
        self._trail = trail
        self._own = own
        self._journal = trail.assembly.journal

    async def ask(
        self,
        question: Annotated[
            str, Field(min_length=1, description="The whole question, understandable on its own.")
        ],
        context: Context[None],
        graph: Annotated[
            Literal["multi-hop", "iterative"],
            Field(
                description="multi-hop plans all steps first; iterative chooses each step from "
                "what the ones before found."
            ),
        ] = "multi-hop",
    ) -> Annotated[CallToolResult, Asked]:
        """Answer a question from the documents, also one that takes several look-ups.

        Gives the answer with its sources, or says that the documents do not have it.
        """
        answer = await _apart(self._answer(question, graph, context), context)
        return _result(with_sources(answer), _asked(answer), _link(answer.run_id))

    async def search(
        self,
        query: Annotated[str, Field(min_length=1, description="What to look for.")],
        context: Context[None],
        k: Annotated[int, Field(ge=1, le=_MOST_PASSAGES, description="Most passages.")] = 5,
    ) -> Annotated[CallToolResult, Searched]:
        """Find passages in the documents, by words and by meaning, without answering."""
        found = await _apart(self._found(query, k), context)
        texts = [
            f"[{each.rank}] {each.passage.title} ({each.passage.source})\n{each.passage.text}"
            for each in found.evidence
        ]
        return _result("\n\n".join(texts) or "Nothing was found.", _searched(found))

    async def get_trace(
        self,
        run_id: Annotated[str, Field(description="The run_id that `ask` gave.")],
        context: Context[None],
    ) -> Annotated[CallToolResult, Traced]:
        """Tell how an answer came about: plan, evidence, backends, times and warnings."""
        trace = await _apart(self._kept(run_id), context)
        return _result(_told(trace), _traced(trace), _link(run_id))

    async def trace(self, run_id: str) -> str:
        """Everything about one run: prompts and outputs, passages and scores, attempts, times."""
        try:
            return (await self._kept(run_id)).model_dump_json()
        except RunNotFound as error:
            raise ResourceNotFoundError(in_words(error)) from error
        except HoptrailError as error:
            raise ResourceError(in_words(error)) from error

    async def recent(self) -> list[dict[str, object]]:
        """The newest runs, newest first, with their questions and answers."""
        fields = {"run_id", "question", "status", "answer", "created", "degraded", "wall_ms"}
        return [row.model_dump(mode="json", include=fields) for row in await self.rows()]

    async def rows(self) -> list[RunRow]:
        """Give the newest runs.

        Raises:
            ResourceError: the journal cannot be read.
        """
        try:
            return await self._journal.off_loop(self._journal.runs, _RECENT)
        except HoptrailError as error:
            raise ResourceError(in_words(error)) from error

    async def _answer(
        self,
        question: str,
        graph: Literal["multi-hop", "iterative"],
        context: Context[None],
    ) -> Answer:
        progress = _Progress(total_known=graph == "multi-hop")
        last: Event | None = None
        async with aclosing(self._own(self._trail.astream(question, graph=graph))) as events:
            async for last in events:
                if (step := progress.finished(last)) is not None:
                    await context.report_progress(progress.done, progress.total, _line(step))
        return finished(last)

    async def _found(self, query: str, k: int) -> Retrieval:
        search = needs_documents(self._trail.assembly.parts.search)
        return await search(query, k)

    async def _kept(self, run_id: str) -> Trace:
        return await self._journal.off_loop(self._journal.trace, run_id)


class _Progress:
    """Counts finished steps; a total is known once a plan is whole."""

    def __init__(self, *, total_known: bool) -> None:
        self.done = 0
        self._total_known = total_known
        self._whole = False
        self._open: set[int] = set()

    @property
    def total(self) -> int | None:
        """How many steps there will have been, so far as is known."""
        return self.done + len(self._open) if self._whole and self._total_known else None

    def finished(self, event: Event) -> StepTrace | None:
        """Take an event in; gives the step that it finishes."""
        match event:
            case StepPlanned():
                self._open.add(event.id)
            case PlanFinished():
                self._whole = True
            case PlanRestarted():
                self._whole = False
                self._open.clear()
            case StepFinished(step=step):
                self.done += 1
                self._open.discard(step.id)
                return step
            case _:
                pass
        return None


async def _apart(work: Coroutine[Any, Any, T], context: Context[None]) -> T:
    """Await work in a task of its own, which is cancelled when the client leaves.

    The SDK's cancellation (anyio's) comes anew at every await; a cancelled run has things to
    await until it has written down how far it came.

    Raises:
        ToolError: what it failed with, in words.
    """
    request = context.request_context.request
    gone: asyncio.Event | None = request.scope.get(GONE) if request is not None else None
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_outcome(work))
        if gone is not None:
            watch = group.create_task(_cancel_when(gone, task))
            task.add_done_callback(lambda _task: watch.cancel())
    if task.cancelled():
        raise ToolError("the client has left")
    outcome = task.result()
    if isinstance(outcome, HoptrailError):
        raise ToolError(in_words(outcome)) from outcome
    return outcome


async def _outcome(work: Coroutine[Any, Any, T]) -> T | HoptrailError:
    try:
        return await work
    except HoptrailError as error:
        return error


async def _cancel_when(gone: asyncio.Event, task: asyncio.Task[Any]) -> None:
    await gone.wait()
    task.cancel()


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Undo what the SDK does to the root logger: that is the program's to set up."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def _as_they_are(events: Events) -> Events:
    return events


def _result(text: str, told: BaseModel, *links: ResourceLink) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=text), *links],
        structured_content=told.model_dump(mode="json"),
    )


def _link(run_id: str) -> ResourceLink:
    return ResourceLink(type="resource_link", uri=f"trace://{run_id}", name=run_id, mime_type=_JSON)


def _resource(row: RunRow) -> Resource:
    return Resource(
        uri=f"trace://{row.run_id}",
        name=row.run_id,
        title=_brief(row.question),
        description=_brief(f"{row.status}: {row.answer}".rstrip(": ")),
        mime_type=_JSON,
    )


def _asked(answer: Answer) -> Asked:
    return Asked(
        answer=answer.text,
        abstained=answer.abstained,
        degraded=answer.degraded,
        stop_reason=answer.stop_reason,
        citations=list(answer.citations),
        steps=[
            StepTold(
                id=step.id,
                question=step.asked or step.question,
                status=step.status,
                answer=step.answer,
                backend=step.calls[-1].backend if step.calls else "",
            )
            for step in answer.trace.steps
        ],
        warnings=list(answer.warnings),
        run_id=answer.run_id,
    )


def _searched(found: Retrieval) -> Searched:
    passages = [
        Passage(
            id=each.passage.id,
            text=each.passage.text,
            title=each.passage.title,
            source=each.passage.source,
            rank=each.rank,
            score=each.score,
        )
        for each in found.evidence
    ]
    return Searched(
        passages=passages, mode=found.mode, space=found.space, warnings=list(found.warnings)
    )


def _traced(trace: Trace) -> Traced:
    return Traced(
        uri=f"trace://{trace.run_id}",
        graph=trace.graph,
        status=trace.status,
        started_at=trace.started_at,
        error=trace.error,
        run=answer_of(trace).as_json(),
    )


def _told(trace: Trace) -> str:
    head = f"Run {trace.run_id} ({trace.graph}), {trace.status}: {trace.question}"
    steps = [f"{step.id}. {_line(step)}" for step in trace.steps]
    end = with_sources(answer_of(trace)) if trace.answer else trace.error
    return "\n\n".join(filter(None, [head, "\n".join(steps), end]))


def _line(step: StepTrace) -> str:
    outcome = step.answer or {"abstained": "not found"}.get(step.status, step.status)
    return _brief(f"{step.asked or step.question} → {outcome}")


def _brief(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[: _LONGEST_MESSAGE - 1]}…"
