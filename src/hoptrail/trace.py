"""The trace: one JSON document per run, complete enough to reproduce each decision.

Times are milliseconds since the start of the run, unless a name says otherwise.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from math import isfinite
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from hoptrail.change import Change
from hoptrail.errors import TraceUnreadable
from hoptrail.evidence import Citation, Evidence
from hoptrail.request import EarlierAnswer
from hoptrail.secrecy import masked_in

TRACE_VERSION = 2

RunStatus = Literal["running", "answered", "abstained", "failed", "interrupted"]
StepStatus = Literal["waiting", "running", "answered", "abstained", "failed"]

_LONGEST_MS = 1e15
_SHOWN = 3
"""Mistakes of an unreadable document that are told."""


class Attempt(BaseModel):
    """One call to one backend. ``outcome`` is ``ok``, ``running``, or the name of an error class.

    ``server`` is the ``host:port`` that was asked, empty where the model runs in this process.
    ``reason`` says why this backend was chosen; ``started_ms`` and ``first_token_ms`` count from
    the start of the call it belongs to. The tokens are those that one without an answer has cost
    all the same, estimated; what the answer took stands in its call.
    """

    backend: str
    server: str = ""
    model: str | None = None
    reason: str = ""
    outcome: str = "ok"
    detail: str = ""
    started_ms: float = 0.0
    first_token_ms: float | None = None
    ms: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0


class Message(BaseModel):
    """One message of a prompt, exactly as it was sent."""

    role: str
    content: str


class ToolCall(BaseModel):
    """A call of a tool that a model asked for; with an ``error`` it cannot be made."""

    tool: str
    arguments: dict[str, object] = Field(default_factory=dict)
    error: str = ""

    @property
    def written(self) -> str:
        """The call as it is written in Python: ``calculator(expression='3*4')``."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.tool}({given})"


class Call(BaseModel):
    """One question put to a language model, whichever backends it took to answer it.

    ``queued_ms`` is how long it waited, before ``started_ms``, for one of the calls at a time
    that a run may make. ``from_journal`` is true when a resumed run found the finished answer:
    nothing was paid; with ``from_run`` it is the answer of that other run, which this one was
    forked from. ``tool_calls`` are what the model asked for in place of an answer.
    """

    purpose: Literal["plan", "revision", "next", "step", "synthesis", "chat"]
    prompt: list[Message] = Field(default_factory=list)
    output: str = ""
    tool_calls: list[ToolCall] = Field(default_factory=list)
    backend: str = ""
    model: str | None = None
    reason: str = ""
    attempts: list[Attempt] = Field(default_factory=list)
    queued_ms: float = 0.0
    started_ms: float = 0.0
    first_token_ms: float | None = None
    ms: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    tokens_estimated: bool = False
    finish_reason: str = ""
    degraded: bool = False
    from_journal: bool = False
    from_run: str = ""
    error: str = ""


class ToolUse(ToolCall):
    """One call of a tool by a step; its ``output`` is evidence like any other.

    ``passage_id`` names that evidence; a call that failed has an ``error`` and gives none.
    """

    output: str = ""
    passage_id: str = ""
    started_ms: float = 0.0
    ms: float = 0.0
    from_journal: bool = False


class TracedEvidence(Evidence):
    """Evidence, and whether the step's answer cited it."""

    cited: bool = False


class StepTrace(BaseModel):
    """Everything about one step: ``question`` as planned, ``asked`` as put to the model.

    ``planned_ms`` is when it became known, ``ready_ms`` when the answers it refers to did.
    ``from_run`` names the run it was taken from unchanged; ``given`` says that its answer is
    somebody's ``change``, not a model's.
    """

    id: int
    question: str
    asked: str = ""
    depends_on: list[int] = Field(default_factory=list)
    round: int = 0
    status: StepStatus = "waiting"
    from_run: str = ""
    given: bool = False
    planned_ms: float | None = None
    ready_ms: float | None = None
    started_ms: float | None = None
    retrieved_ms: float | None = None
    finished_ms: float | None = None
    retrieval_mode: str = ""
    embedding_space: str | None = None
    evidence: list[TracedEvidence] = Field(default_factory=list)
    earlier: list[EarlierAnswer] = Field(default_factory=list)
    calls: list[Call] = Field(default_factory=list)
    tools: list[ToolUse] = Field(default_factory=list)
    reasoning: str = ""
    answer: str = ""
    citations: list[Citation] = Field(default_factory=list)
    degraded: bool = False
    warnings: list[str] = Field(default_factory=list)
    error: str = ""

    @property
    def ms(self) -> float:
        """How long it took, from its start."""
        if self.started_ms is None or self.finished_ms is None:
            return 0.0
        return self.finished_ms - self.started_ms


class PlanTrace(BaseModel):
    """How the plan came about; the steps themselves are in `Trace.steps`.

    ``source`` is ``model``, ``journal`` (a resumed run), ``gate`` (an obviously simple
    question skipped the call), ``given`` (passed in) or ``fallback`` (unreadable, so one step).
    """

    source: Literal["model", "journal", "gate", "given", "fallback"] = "model"
    repairs: list[str] = Field(default_factory=list)
    calls: list[Call] = Field(default_factory=list)
    revisions: list[str] = Field(default_factory=list)


class Usage(BaseModel):
    """What the run spent; tokens are the backends' own counts where they tell them.

    With what earlier parts of a resumed run finished, without what they left under way.
    """

    llm_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    wall_ms: float = 0.0


class Trace(BaseModel):
    """One run. ``stop_reason`` says why it ended: ``answered``, ``no_evidence``, ``budget:…``.

    A run that was forked from ``parent_run_id`` differs from it by ``change``. One that was
    ``resumed`` has an earlier part, which ended before its answer; this is the later one.
    ``voided`` are steps begun while a plan was written that its backend then broke off; what
    they cost counts.
    """

    model_config = ConfigDict(title="Hoptrail trace")

    trace_version: int = TRACE_VERSION
    run_id: str
    graph: Literal["multi-hop", "iterative", "chat"] = "multi-hop"
    thread_id: str = ""
    parent_run_id: str | None = None
    change: Change | None = None
    question: str
    status: RunStatus = "running"
    resumed: bool = False
    started_at: str = ""
    model_policy: str = ""
    documents: str = ""
    plan: PlanTrace = Field(default_factory=PlanTrace)
    steps: list[StepTrace] = Field(default_factory=list)
    voided: list[StepTrace] = Field(default_factory=list)
    synthesis: list[Call] = Field(default_factory=list)
    answer: str = ""
    short_answer: str = ""
    citations: list[Citation] = Field(default_factory=list)
    abstained: bool = False
    degraded: bool = False
    stop_reason: str = ""
    usage: Usage = Field(default_factory=Usage)
    budget: dict[str, float | None] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    error: str = ""
    versions: dict[str, str] = Field(default_factory=dict)

    def step(self, step_id: int) -> StepTrace:
        """Give the step of this id."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)

    def calls(self) -> Iterator[Call]:
        """Give every question put to a model, in the order of the story."""
        yield from self.plan.calls
        for step in (*self.voided, *self.steps):
            yield from step.calls
        yield from self.synthesis

    def critical_path_ms(self) -> float:
        """Give the longest chain of step times along the dependencies, in milliseconds."""
        longest: dict[int, float] = {}
        for step in self.steps:
            before = max((longest.get(need, 0.0) for need in step.depends_on), default=0.0)
            longest[step.id] = before + step.ms
        return max(longest.values(), default=0.0)

    def _repr_html_(self) -> str:
        """Show the run in a notebook, in a frame of its own that reaches nothing outside."""
        from hoptrail.viewer import notebook_frame  # noqa: PLC0415 # of use in notebooks only

        return notebook_frame(masked_in(self.model_dump_json()))


def read_trace(text: str | bytes, name: str = "the trace") -> Trace:
    """Read a trace document; one of an earlier version is brought up to this one.

    Args:
        text: The document.
        name: What to call it in an error, such as its file.

    Raises:
        TraceUnreadable: it is not a trace, or of a newer version than this package knows.
    """
    try:
        document = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise TraceUnreadable(f"{name} is damaged, or no JSON: {error}") from error
    version = document.get("trace_version") if isinstance(document, dict) else None
    if type(version) is not int or version < 1:
        raise TraceUnreadable(f"{name} is not a trace of Hoptrail: it tells no trace_version")
    if version > TRACE_VERSION:
        # Before its fields are looked at: a newer one may have others.
        raise TraceUnreadable(
            f"{name} has version {str(version)[:20]}, this Hoptrail reads up to "
            f"{TRACE_VERSION}: upgrade with `pip install -U hoptrail`"
        )
    try:
        _check_finite(document)
        for each in range(version, TRACE_VERSION):
            _STEPS_UP[each](document)
        return Trace.model_validate({**document, "trace_version": TRACE_VERSION})
    except ValueError as error:
        raise TraceUnreadable(f"{name} is not a readable trace: {_mistakes(error)}") from error


def _from_1(document: dict[str, Any]) -> None:
    """Tell when steps were planned and how long calls queued, as far as it can be told."""
    plan = document.get("plan")
    written = sorted(
        call["started_ms"] + call["ms"]
        for call in _objects(plan if isinstance(plan, dict) else {}, "calls")
        if _are_times(call, "started_ms", "ms") and not call.get("from_journal")
    )
    for step in _objects(document, "steps"):
        if _are_times(step, "ready_ms"):
            # One that was ready before its plan was finished began while it was written.
            before = bisect_right(written, step["ready_ms"])
            step["planned_ms"] = written[before - 1] if before else step["ready_ms"]
        first = next(iter(_objects(step, "calls")), {})
        if _are_times(step, "retrieved_ms") and _are_times(first, "started_ms"):
            first["queued_ms"] = max(0.0, round(first["started_ms"] - step["retrieved_ms"], 3))


_STEPS_UP = {1: _from_1}
"""Brings a document of each earlier version to the next one."""


def _objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Give the objects of a list; where there is none, validation will say so."""
    found = document.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _are_times(record: dict[str, Any], *names: str) -> bool:
    found = [record.get(name) for name in names]
    return all(isinstance(each, int | float) and 0 <= each < _LONGEST_MS for each in found)


def _check_finite(value: object) -> None:
    """Refuse ``1e999``, which JSON allows and no clock shows."""
    if isinstance(value, float):
        if not isfinite(value):
            raise ValueError("a number is too large")
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            _check_finite(each)


def _mistakes(error: ValueError) -> str:
    """Say what does not fit, without the values: they may be anything, and long."""
    if not isinstance(error, ValidationError):
        return str(error)
    told = error.errors(include_url=False, include_context=False, include_input=False)
    places = (".".join(str(part)[:40] for part in each["loc"]) for each in told)
    lines = [f"{place}: {each['msg']}" for place, each in zip(places, told, strict=True)]
    more = f" (and {len(lines) - _SHOWN} more)" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + more


def trace_schema() -> dict[str, object]:
    """Give the published JSON Schema of the trace document."""
    schema: dict[str, object] = Trace.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = f"urn:hoptrail:trace:{TRACE_VERSION}"
    return schema
