"""What a run tells while it goes; the trace holds the same for afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from hoptrail.trace import StepTrace, ToolUse, Trace


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run is admitted: its id can be resumed from now on.

    ``trace`` is its record, which fills up while the run goes.
    """

    run_id: str
    question: str
    resumed: bool = False
    trace: Trace | None = None
    type: str = "RUN_STARTED"


@dataclass(frozen=True, slots=True)
class StepPlanned:
    """A step became known, perhaps while the plan is still being written."""

    id: int
    question: str
    depends_on: tuple[int, ...] = ()
    round: int = 0
    type: str = "STEP_PLANNED"


@dataclass(frozen=True, slots=True)
class PlanRestarted:
    """The plan written so far is void: its backend broke off, another starts anew."""

    why: str
    type: str = "PLAN_RESTARTED"


@dataclass(frozen=True, slots=True)
class PlanFinished:
    """The whole plan is known; ``repairs`` says what was wrong with it."""

    repairs: tuple[str, ...] = ()
    source: str = "model"
    type: str = "PLAN_FINISHED"


@dataclass(frozen=True, slots=True)
class PlanProposed:
    """The run waits for somebody to approve its plan, or to give another."""

    run_id: str
    questions: tuple[str, ...]
    type: str = "PLAN_PROPOSED"


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step has the answers it refers to and is on its way; ``asked`` is the question put."""

    id: int
    asked: str
    type: str = "STEP_STARTED"


@dataclass(frozen=True, slots=True)
class ToolUsed:
    """A step called a tool and got its result, or its error."""

    step: int
    use: ToolUse
    type: str = "TOOL_CALL_RESULT"


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step ended: answered, abstained or failed. ``step`` is its whole record."""

    step: StepTrace
    type: str = "STEP_FINISHED"


@dataclass(frozen=True, slots=True)
class AnswerText:
    """A piece of the final answer."""

    delta: str
    type: str = "TEXT_MESSAGE_CONTENT"


@dataclass(frozen=True, slots=True)
class AnswerRestarted:
    """The answer text sent so far is void: drop it, it starts anew."""

    why: str
    type: str = "TEXT_MESSAGE_RESTARTED"


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run ended; ``trace`` is its one record."""

    trace: Trace
    type: str = "RUN_FINISHED"


Event = (
    RunStarted
    | StepPlanned
    | PlanRestarted
    | PlanFinished
    | PlanProposed
    | StepStarted
    | ToolUsed
    | StepFinished
    | AnswerText
    | AnswerRestarted
    | RunFinished
)
