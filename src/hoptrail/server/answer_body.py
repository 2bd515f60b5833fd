"""The answer of a run as the OpenAPI document describes it; `Answer.as_json` makes it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, JsonValue

from hoptrail.change import Change
from hoptrail.evidence import Citation
from hoptrail.trace import StepStatus, Usage


class EvidenceBody(BaseModel):
    """A passage that a step was given."""

    passage_id: str
    source: str
    title: str
    rank: int
    score: float
    cited: bool


class ContextBody(BaseModel):
    """An earlier answer that a step was given."""

    id: int
    similarity: float | None
    reason: str


class AttemptBody(BaseModel):
    """One call to one backend; ``outcome`` is ``ok`` or the name of an error."""

    backend: str
    model: str | None
    outcome: str
    reason: str
    ms: float


class ToolBody(BaseModel):
    """One call of a tool; what it gave is the passage ``passage_id``, or else there is an error."""

    tool: str
    arguments: dict[str, JsonValue]
    output: str
    passage_id: str
    error: str
    ms: float


class StepBody(BaseModel):
    """One step: which backend answered it, and in which embedding space its passages were found."""

    id: int
    question: str
    asked: str
    depends_on: list[int]
    status: StepStatus
    from_run: str = Field(description="The run it was kept from, or empty")
    given: bool = Field(description="Its answer is a change, not a model's")
    answer: str
    abstained: bool
    backend: str
    model: str | None
    ms: float
    retrieval_mode: str
    embedding_space: str | None
    evidence: list[EvidenceBody]
    context_steps: list[ContextBody]
    attempts: list[AttemptBody]
    tools: list[ToolBody]
    warnings: list[str]


class AnswerBody(BaseModel):
    """The answer of a run: the object that ``hoptrail ask --json`` prints."""

    run_id: str = Field(examples=["20261122-091500-4f2a9c"])
    parent_run_id: str | None = Field(description="The run it was forked from")
    change: Change | None = Field(description="What it has otherwise than its parent")
    question: str = Field(examples=["In which city was the author of The Trial born?"])
    answer: str = Field(examples=["Prague [1]"])
    short_answer: str = Field(examples=["Prague"])
    abstained: bool
    degraded: bool = Field(description="No language model stood behind some of it")
    stop_reason: str = Field(examples=["answered"])
    citations: list[Citation]
    steps: list[StepBody]
    usage: Usage
    warnings: list[str]


GraphName = Literal["multi-hop", "iterative"]
