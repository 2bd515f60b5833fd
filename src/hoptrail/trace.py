"""The trace: one JSON document per run, complete enough to reproduce each decision.

Times are milliseconds since the start of the run, unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hoptrail.change import Change
from hoptrail.errors import TraceUnreadable
from hoptrail.evidence import Citation, Evidence
from hoptrail.request import EarlierAnswer

TRACE_VERSION = 2

RunStatus = Literal["running", "answered", "abstained", "failed", "interrupted"]
StepStatus = Literal["waiting", "running", "answered", "abstained", "failed"]


class Attempt(BaseModel):
    """One call to one backend. ``outcome`` is ``ok``, ``running``, or the name of an error class.

    ``reason`` says why this backend was chosen; ``started_ms`` and ``first_token_ms`` count from
    the start of the call it belongs to.
    """

    backend: str
    model: str | None = None
    reason: str = ""
    outcome: str = "ok"
    detail: str = ""
    started_ms: float = 0.0
    first_token_ms: float | None = None
    ms: float = 0.0


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
    """What the run spent; tokens are the backends' own counts where they tell them."""

    llm_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    wall_ms: float = 0.0


class Trace(BaseModel):
    """One run. ``stop_reason`` says why it ended: ``answered``, ``no_evidence``, ``budget:…``.

    A run that was forked from ``parent_run_id`` differs from it by ``change``.
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


def read_trace(text: str | bytes) -> Trace:
    """Read a trace document.

    Raises:
        TraceUnreadable: it is not a trace, or of a newer version than this package knows.
    """
    try:
        trace = Trace.model_validate_json(text)
    except ValueError as error:
        raise TraceUnreadable(f"not a readable trace: {error}") from error
    if trace.trace_version > TRACE_VERSION:
        raise TraceUnreadable(
            f"the trace has version {trace.trace_version}, this Hoptrail reads up to "
            f"{TRACE_VERSION}: upgrade with `pip install -U hoptrail`"
        )
    return trace


def trace_schema() -> dict[str, object]:
    """Give the published JSON Schema of the trace document."""
    schema: dict[str, object] = Trace.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = f"urn:hoptrail:trace:{TRACE_VERSION}"
    return schema
