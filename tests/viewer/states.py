"""Every state in which a run can be looked at, as a trace document each."""

from __future__ import annotations

from collections.abc import Callable

from hoptrail.request import EarlierAnswer
from hoptrail.trace import Attempt, Call, PlanTrace, StepTrace, Trace, Usage
from tests.long_trace import long_trace, running_trace
from tests.sample_trace import KAFKA, PRAGUE, answered_step, evidence, sample_trace

LOST = "AllBackendsFailed: huggingface: 503 the model is not loaded; ollama: connection refused"


def abstained() -> Trace:
    """A run whose documents do not tell."""
    trace = sample_trace()
    second = trace.steps[1]
    second.status, second.answer, second.citations = "abstained", "", []
    second.evidence = [evidence(KAFKA, 1, cited=False), evidence(PRAGUE, 2, cited=False)]
    trace.status, trace.abstained, trace.stop_reason = "abstained", True, "no_evidence"
    trace.answer, trace.short_answer = "The documents do not say.", ""
    trace.citations, trace.plan.repairs = [], []
    return trace


def failed() -> Trace:
    """A run that no backend saw to its end."""
    trace = sample_trace()
    second = trace.steps[1]
    call = second.calls[0]
    call.output, call.backend, call.model, call.error = "", "", None, LOST
    call.attempts = [
        Attempt(
            backend="ollama",
            model="qwen3:8b",
            reason="first in order",
            outcome="BackendUnavailable",
            detail="connection refused",
            ms=500,
        )
    ]
    second.status, second.error, second.answer, second.citations = "failed", LOST, "", []
    second.evidence = [evidence(PRAGUE, 1, cited=False), evidence(KAFKA, 2, cited=False)]
    trace.status, trace.stop_reason, trace.error, trace.answer = "failed", "error", LOST, ""
    trace.short_answer, trace.citations, trace.synthesis = "", [], []
    return trace


def just_begun() -> Trace:
    """A run whose plan is being written."""
    call = Call(
        purpose="plan",
        started_ms=3,
        attempts=[Attempt(backend="ollama", model="qwen3:8b", outcome="running", reason="first")],
    )
    return Trace(
        run_id="20261122-091500-be9000",
        question=sample_trace().question,
        started_at="2026-11-22T09:15:00.000+00:00",
        plan=PlanTrace(calls=[call]),
        usage=Usage(wall_ms=900),
    )


def interrupted() -> Trace:
    """A run that was stopped in its middle."""
    trace = sample_trace()
    second = trace.steps[1]
    trace.steps[1] = StepTrace(id=2, question=second.question, depends_on=[1], ready_ms=1450)
    trace.status, trace.stop_reason, trace.answer = "interrupted", "interrupted", ""
    trace.short_answer, trace.citations, trace.synthesis = "", [], []
    return trace


def chat() -> Trace:
    """A turn of a conversation, answered from a fact that was remembered."""
    step = answered_step()
    step.question = step.asked = "And who wrote it?"
    step.calls[0].purpose = "chat"
    step.earlier = [
        EarlierAnswer(
            id=0, question="", answer="The user reads Kafka.", reason="memory", similarity=0.7
        )
    ]
    trace = sample_trace()
    trace.graph, trace.question, trace.thread_id = "chat", step.question, "evening"
    trace.plan, trace.steps, trace.synthesis = PlanTrace(source="gate"), [step], []
    trace.answer = trace.short_answer = "Franz Kafka wrote it [1]."
    trace.citations = step.citations
    return trace


def iterative() -> Trace:
    """A run that was planned one step at a time."""
    trace = sample_trace()
    trace.graph = "iterative"
    first, second = trace.steps
    second.question, second.depends_on = second.asked, []
    calls = [("next", 2.0), ("next", 1450.0), ("next", 2000.0)]
    trace.plan.calls = [
        Call.model_validate(
            {
                "purpose": purpose,
                "backend": "ollama",
                "model": "qwen3:8b",
                "started_ms": at,
                "ms": 300,
                "output": '{"steps": []}',
            }
        )
        for purpose, at in calls
    ]
    first.planned_ms, second.planned_ms = 600, 1480
    trace.plan.repairs = []
    return trace


STATES: dict[str, Callable[[], Trace]] = {
    "answered": sample_trace,
    "abstained": abstained,
    "failed": failed,
    "interrupted": interrupted,
    "just begun": just_begun,
    "running": running_trace,
    "60 steps": long_trace,
    "chat": chat,
    "iterative": iterative,
}
