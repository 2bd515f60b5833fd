"""The answer of a run, as the caller gets it."""

from __future__ import annotations

from html import escape

from pydantic import BaseModel, ConfigDict

from hoptrail.evidence import Citation
from hoptrail.secrecy import masked
from hoptrail.trace import Attempt, Call, StepTrace, ToolUse, Trace, Usage


class Answer(BaseModel):
    """What a question was answered with.

    ``text`` cites passages as ``[1]``, which is ``citations[0]``; ``short`` is the bare answer,
    empty when ``abstained``. ``degraded`` says that no language model stood behind some of it.
    ``trace`` is the whole record.
    """

    model_config = ConfigDict(frozen=True)

    question: str
    text: str
    short: str
    citations: tuple[Citation, ...]
    abstained: bool
    degraded: bool
    stop_reason: str
    trace: Trace

    @property
    def run_id(self) -> str:
        """The id to look the run up by, or to resume it."""
        return self.trace.run_id

    @property
    def usage(self) -> Usage:
        """LLM calls, tokens and milliseconds."""
        return self.trace.usage

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went less than well, in sentences."""
        return tuple(self.trace.warnings)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        """Show the answer in a notebook, and the run that led to it under a fold."""
        sources = [
            f"[{n}] {each.title} ({each.source})" for n, each in enumerate(self.citations, 1)
        ]
        told = escape(masked("\n".join([self.text, *(["", *sources] if sources else ())])))
        return (
            f'<div style="white-space: pre-wrap">{told}</div>'
            f"<details><summary>How it was found</summary>{self.trace._repr_html_()}</details>"
        )

    def as_json(self) -> dict[str, object]:
        """Give the object that ``hoptrail ask --json`` prints: its keys are a promise."""
        change = self.trace.change
        return {
            "run_id": self.run_id,
            "parent_run_id": self.trace.parent_run_id,
            "change": None if change is None else change.model_dump(mode="json"),
            "question": self.question,
            "answer": self.text,
            "short_answer": self.short,
            "abstained": self.abstained,
            "degraded": self.degraded,
            "stop_reason": self.stop_reason,
            "citations": [citation.model_dump() for citation in self.citations],
            "steps": [step_json(step) for step in self.trace.steps],
            "usage": self.usage.model_dump(),
            "warnings": list(self.warnings),
        }


def answer_of(trace: Trace) -> Answer:
    """Give the answer that a finished run's trace holds."""
    return Answer(
        question=trace.question,
        text=trace.answer,
        short=trace.short_answer,
        citations=tuple(trace.citations),
        abstained=trace.abstained,
        degraded=trace.degraded,
        stop_reason=trace.stop_reason,
        trace=trace,
    )


def caveat(trace: Trace) -> str:
    """Say what somebody must know who reads a run's text alone: whether a model is behind it."""
    if not trace.degraded:
        return ""
    if not trace.abstained:
        return "Note: no language model stood behind some of this; check the sources."
    # What the built-in says to that in a conversation is this very thing.
    return "" if trace.graph == "chat" else "Note: no language model looked; one may find it."


def step_json(step: StepTrace) -> dict[str, object]:
    """Give one step of the object that ``hoptrail ask --json`` prints."""
    last = step.calls[-1] if step.calls else Call(purpose="step")
    attempts = [attempt for call in step.calls for attempt in call.attempts]
    return {
        "id": step.id,
        "question": step.question,
        "asked": step.asked,
        "depends_on": step.depends_on,
        "status": step.status,
        "from_run": step.from_run,
        "given": step.given,
        "answer": step.answer,
        "abstained": step.status == "abstained",
        "backend": last.backend,
        "model": last.model,
        "ms": round(step.ms, 1),
        "retrieval_mode": step.retrieval_mode,
        "embedding_space": step.embedding_space,
        "evidence": [
            {
                "passage_id": item.passage.id,
                "source": item.passage.source,
                "title": item.passage.title,
                "rank": item.rank,
                "score": item.score,
                "cited": item.cited,
            }
            for item in step.evidence
        ],
        "context_steps": [
            {"id": known.id, "similarity": known.similarity, "reason": known.reason}
            for known in step.earlier
        ],
        "attempts": [_attempt_json(attempt) for attempt in attempts],
        "tools": [_use_json(use) for use in step.tools],
        "warnings": step.warnings,
    }


def _use_json(use: ToolUse) -> dict[str, object]:
    return use.model_dump(include={"tool", "arguments", "output", "passage_id", "error", "ms"})


def _attempt_json(attempt: Attempt) -> dict[str, object]:
    return {
        "backend": attempt.backend,
        "model": attempt.model,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "ms": round(attempt.ms, 1),
    }
