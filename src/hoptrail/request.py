"""What a language model is asked, as types: plan, next step, step, revision, synthesis, chat.

A request travels on the last message it is rendered to (`hoptrail.prompts`), so that a backend
which works on the typed request never has to parse a prompt, and so that the router can
constrain the output with `schema` where the backend is able to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from hoptrail.evidence import Evidence

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

REQUEST_KEY = "hoptrail_request"


class EarlierAnswer(BaseModel):
    """An earlier step's answer that a step is told about.

    ``reason`` is ``reference`` (the step names it), ``similar`` (nearest by embedding, with
    its ``similarity``) or ``memory`` (a fact kept across runs).
    """

    model_config = ConfigDict(frozen=True)

    id: int
    question: str
    answer: str
    reason: Literal["reference", "similar", "memory"] = "reference"
    similarity: float | None = None


class StepOutcome(BaseModel):
    """How a step ended, as the synthesis is told: ``passages`` are numbers into its list."""

    model_config = ConfigDict(frozen=True)

    id: int
    question: str
    status: Literal["answered", "abstained", "failed"]
    answer: str = ""
    passages: tuple[int, ...] = ()


class PlanRequest(BaseModel):
    """Break ``question`` into at most ``max_steps`` steps, which may call ``tools``."""

    model_config = ConfigDict(frozen=True)
    kind: ClassVar[str] = "plan"

    question: str
    max_steps: int = 8
    tools: tuple[str, ...] = ()


class RevisionRequest(BaseModel):
    """Some steps found nothing: ask differently for what is left of ``question``.

    New steps are numbered from ``first_id`` and may refer to the answered ones as ``#k``.
    """

    model_config = ConfigDict(frozen=True)
    kind: ClassVar[str] = "revision"

    question: str
    steps: tuple[StepOutcome, ...]
    first_id: int
    max_steps: int = 4


class NextStepRequest(BaseModel):
    """Give the one look-up that ``question`` needs next, or none when the steps suffice.

    The step will have the number ``next_id``; its question is complete, for there is nothing
    it has to wait for. ``left`` more steps may follow it. It may call ``tools``.
    """

    model_config = ConfigDict(frozen=True)
    kind: ClassVar[str] = "next"

    question: str
    steps: tuple[StepOutcome, ...] = ()
    next_id: int = 1
    left: int = 7
    tools: tuple[str, ...] = ()


class StepRequest(BaseModel):
    """Answer one step's ``question`` from ``evidence`` and ``earlier`` answers.

    ``from_documents`` is false when there is no index: then the model answers from its own
    knowledge. ``tools`` names those that may be called before the answer; what they returned
    is evidence. ``failures`` tells of calls that failed.
    """

    model_config = ConfigDict(frozen=True)
    kind: ClassVar[str] = "step"

    question: str
    main_question: str
    evidence: tuple[Evidence, ...] = ()
    earlier: tuple[EarlierAnswer, ...] = ()
    from_documents: bool = True
    tools: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


class SynthesisRequest(BaseModel):
    """Answer ``question`` from how its steps ended; ``evidence`` is numbered from 1."""

    model_config = ConfigDict(frozen=True)
    kind: ClassVar[str] = "synthesis"

    question: str
    steps: tuple[StepOutcome, ...]
    evidence: tuple[Evidence, ...] = ()


class ChatTurn(BaseModel):
    """One message of a conversation so far."""

    model_config = ConfigDict(frozen=True)

    role: Literal["user", "assistant", "system"]
    text: str


class ChatRequest(BaseModel):
    """Answer the last ``question`` of a conversation, which followed ``history``.

    ``facts`` were recalled from memory; ``evidence`` was found in the documents, if there are
    any (``from_documents``).
    """

    model_config = ConfigDict(frozen=True)
    kind: ClassVar[str] = "chat"

    question: str
    history: tuple[ChatTurn, ...] = ()
    facts: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    from_documents: bool = False


class StepReply(BaseModel):
    """What a backend answers to a `StepRequest`; ``passages`` are 1-based evidence numbers."""

    model_config = ConfigDict(frozen=True)

    reasoning: str = ""
    found: bool = True
    answer: str = ""
    passages: tuple[int, ...] = ()


Request = (
    PlanRequest | RevisionRequest | NextStepRequest | StepRequest | SynthesisRequest | ChatRequest
)

PLAN_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"steps": {"type": "array", "items": {"type": "string"}}},
    "required": ["steps"],
    "additionalProperties": False,
}

STEP_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "reasoning": {"type": "string"},
        "found": {"type": "boolean"},
        "answer": {"type": "string"},
        "passages": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["reasoning", "found", "answer", "passages"],
    "additionalProperties": False,
}


def schema_of(request: Request) -> dict[str, object] | None:
    """Give the JSON schema that the reply to ``request`` follows, or None for free text."""
    match request:
        case PlanRequest() | RevisionRequest() | NextStepRequest():
            return PLAN_SCHEMA
        case StepRequest():
            return STEP_SCHEMA
        case SynthesisRequest() | ChatRequest():
            return None


def request_of(messages: Sequence[BaseMessage]) -> Request | None:
    """Give the typed request that the last message carries, or None for a plain conversation."""
    if not messages:
        return None
    request = messages[-1].additional_kwargs.get(REQUEST_KEY)
    if isinstance(request, Request):
        return request
    return None
