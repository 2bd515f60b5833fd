"""A finished run told again from its trace, when the log of its events is gone."""

from __future__ import annotations

from collections.abc import Iterator

from hoptrail.errors import HoptrailError
from hoptrail.events import (
    AnswerText,
    Event,
    PlanFinished,
    RunFinished,
    RunStarted,
    StepFinished,
    StepPlanned,
)
from hoptrail.server.live_runs import RunFailed
from hoptrail.trace import Trace


def events_of(trace: Trace) -> Iterator[Event | RunFailed]:
    """Give the events of a run, as far as its trace knows them.

    A run that is under way in another process has no end yet.
    """
    yield RunStarted(trace.run_id, trace.question, trace=trace)
    for step in trace.steps:
        yield StepPlanned(step.id, step.question, tuple(step.depends_on), step.round)
    yield PlanFinished(tuple(trace.plan.repairs), trace.plan.source)
    for step in trace.steps:
        if step.status not in ("waiting", "running"):
            yield StepFinished(step)
    if trace.answer:
        yield AnswerText(trace.answer)
    if trace.status == "failed":
        yield RunFailed(HoptrailError(trace.error))
    elif trace.status != "running":
        yield RunFinished(trace)
