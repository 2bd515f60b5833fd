"""A run while it goes, one line an event: for logs, pipes and quiet eyes."""

from __future__ import annotations

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
)
from hoptrail.terminal.marks import ARROW, QUIET, WARN, status_mark, status_style
from hoptrail.terminal.plain import amount, one_line
from hoptrail.terminal.steps import needs, outcome_of, provenance
from hoptrail.trace import StepTrace

_LABEL_WIDTH = 8


class Lines:
    """Prints each event of a run as one line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._writing = False
        self._indexed = 0.0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def indexing(self, done: int, total: int, what: str) -> None:
        """Tell how far the documents are read, every tenth of them."""
        share = done / total if total else 1.0
        if share == 1.0 or share - self._indexed >= 0.1:  # noqa: PLR2004 - a tenth
            self._indexed = share
            self._say("index", f"{done} of {total}  {one_line(what, 60)}")

    def show(self, event: Event) -> None:
        """Print an event's line; pieces of the answer's text are told once."""
        match event:
            case RunStarted():
                again = "  (resumed: what is finished is not asked again)" if event.resumed else ""
                self._say("run", event.run_id + again)
            case StepPlanned():
                after = needs(event.depends_on)
                self._say("plan", f"{event.id}. {one_line(event.question)}", after)
            case PlanRestarted():
                self._say("plan", f"begins anew: {one_line(event.why)}", style=WARN)
            case PlanFinished():
                self._plan_finished(event)
            case StepStarted():
                self._say(f"step {event.id}", f"asked: {one_line(event.asked)}", style=QUIET)
            case StepFinished():
                self._step_finished(event.step)
            case AnswerText():
                if not self._writing:
                    self._say("answer", "is being written", style=QUIET)
                self._writing = True
            case AnswerRestarted():
                self._say("answer", f"begins anew: {one_line(event.why)}", style=WARN)
            case _:
                pass

    def _plan_finished(self, event: PlanFinished) -> None:
        source = "" if event.source == "model" else f"  ({event.source})"
        self._say("plan", f"complete{source}", style=QUIET)
        for repair in event.repairs:
            self._say("plan", f"repaired: {one_line(repair)}", style=WARN)

    def _step_finished(self, step: StepTrace) -> None:
        line = Text.assemble(status_mark(step.status), " ", outcome_of(step))
        line.append(f"  ({provenance(step)})" if provenance(step) else "", QUIET)
        self._console.print(_label(f"step {step.id}"), line, soft_wrap=True)
        for warning in step.warnings:
            self._say(f"step {step.id}", one_line(warning), style=WARN)

    def _say(self, label: str, text: str, after: str = "", style: str = "") -> None:
        line = Text(text, style)
        if after:
            line.append(f"  {after}", QUIET)
        self._console.print(_label(label), line, soft_wrap=True)


def _label(label: str) -> Text:
    return Text(label.ljust(_LABEL_WIDTH), QUIET)
