"""A run while it goes, one line an event: for logs, pipes and quiet eyes."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from hoptrail.events import (
    AnswerRestarted,
    AnswerText,
    Event,
    PlanFinished,
    PlanRestarted,
    RunStarted,
    StepFinished,
    StepPlanned,
    StepStarted,
    ToolUsed,
)
from hoptrail.terminal.marks import QUIET, WARN, status_mark
from hoptrail.terminal.plain import one_line
from hoptrail.terminal.steps import needs, outcome_of, provenance, tool_line
from hoptrail.terminal.view import View
from hoptrail.trace import StepTrace

_LABEL_WIDTH = 8
_TOLD_EVERY = 1.0
"""Seconds between two lines on reading documents; what takes less is not told."""


class Lines(View):
    """Prints each event of a run as one line."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._writing = False
        self._told: float | None = None
        self._warned: set[str] = set()

    def indexing(self, done: int, total: int, what: str) -> None:
        """Tell how far the documents are read, or whom they wait for, every second."""
        now = self._clock()
        if self._told is None:
            self._told = now
        elif now - self._told >= _TOLD_EVERY:
            self._told = now
            begun = f"{done} of {total}  " if total else "waiting for "
            self._say("index", begun + one_line(what, 60))

    def show(self, event: Event) -> None:
        """Print an event's line; that the answer is being written is told once."""
        match event:
            case RunStarted():
                again = "  (resumed: what these backends finished is not asked again)"
                self._say("run", event.run_id + (again if event.resumed else ""))
            case StepPlanned() | StepStarted() | StepFinished():
                self._step(event)
            case ToolUsed():
                self._print(f"step {event.step}", tool_line(event.use))
            case PlanRestarted() | PlanFinished():
                self._plan(event)
            case AnswerText() | AnswerRestarted():
                self._answer(event)
            case _:
                pass

    def _plan(self, event: PlanRestarted | PlanFinished) -> None:
        if isinstance(event, PlanRestarted):
            self._say("plan", f"begins anew: {one_line(event.why)}", style=WARN)
            return
        source = "" if event.source == "model" else f" (source: {event.source})"
        self._say("plan", f"complete{source}", style=QUIET)
        for repair in event.repairs:
            self._say("plan", f"repaired: {one_line(repair)}", style=WARN)

    def _step(self, event: StepPlanned | StepStarted | StepFinished) -> None:
        match event:
            case StepPlanned():
                self._say(
                    "plan", f"{event.id}. {one_line(event.question)}", needs(event.depends_on)
                )
            case StepStarted():
                self._say(f"step {event.id}", f"asked: {one_line(event.asked)}", style=QUIET)
            case StepFinished():
                self._step_finished(event.step)

    def _step_finished(self, step: StepTrace) -> None:
        line = Text.assemble(status_mark(step.status), " ", outcome_of(step))
        line.append(f"  ({provenance(step)})" if provenance(step) else "", QUIET)
        self._print(f"step {step.id}", line)
        for warning in step.warnings:
            if warning not in self._warned:
                self._say(f"step {step.id}", one_line(warning), style=WARN)
        self._warned.update(step.warnings)

    def _answer(self, event: AnswerText | AnswerRestarted) -> None:
        if isinstance(event, AnswerRestarted):
            self._say("answer", f"begins anew: {one_line(event.why)}", style=WARN)
        elif not self._writing:
            self._say("answer", "is being written", style=QUIET)
        self._writing = True

    def _say(self, label: str, text: str, after: str = "", style: str = "") -> None:
        line = Text(text, style)
        if after:
            line.append(f"  {after}", QUIET)
        self._print(label, line)

    def _print(self, label: str, line: Text) -> None:
        self._console.print(Text(label.ljust(_LABEL_WIDTH), QUIET), line, soft_wrap=True)


def waiting_told(console: Console) -> Callable[[int, int, str], None]:
    """Give what tells that documents wait for somebody else's work, and not how far they are."""
    lines = Lines(console)

    def told(done: int, total: int, what: str) -> None:
        if not total:
            lines.indexing(done, total, what)

    return told
