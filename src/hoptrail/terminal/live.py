"""A run while it goes, as a tree that grows."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from hoptrail.events import (
    AnswerRestarted,
    AnswerText,
    Event,
    PlanFinished,
    PlanRestarted,
    RunFinished,
    RunStarted,
    StepFinished,
    StepPlanned,
    StepStarted,
    ToolUsed,
)
from hoptrail.terminal.marks import ACCENT, ARROW, QUIET, WARN, status_mark
from hoptrail.terminal.plain import duration, one_line, plain
from hoptrail.terminal.steps import needs, outcome_of, provenance, tool_line
from hoptrail.terminal.view import View
from hoptrail.trace import StepTrace, ToolUse

FRAMES_PER_SECOND = 10
_BAR_WIDTH = 30


@dataclass(frozen=True)
class _Row:
    """One step as it is known so far; ``since`` is when it started, on the monotonic clock.

    ``used`` is the last tool it called.
    """

    id: int
    question: str
    depends_on: tuple[int, ...] = ()
    round: int = 0
    since: float | None = None
    used: ToolUse | None = None
    done: StepTrace | None = None


class LiveTree(View):
    """Shows a run as a tree: each step with its state, answer, model, evidence and time.

    The display is drawn by a thread of its own; what it reads is replaced, never changed.
    """

    def __init__(self, console: Console, question: str) -> None:
        self._title = Text(one_line(question), "bold")
        self._rows: dict[int, _Row] = {}
        self._notes: tuple[str, ...] = ()
        self._doing = "getting ready"
        self._progress: tuple[int, int, str] | None = None
        self._answer = ""
        self._settled = False
        self._spinner = Spinner("dots", style=ACCENT)
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=FRAMES_PER_SECOND,
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def settle(self) -> None:
        """Leave what is shown standing, and draw no more."""
        self._doing = self._answer = ""
        self._settled = True
        self._live.stop()

    def indexing(self, done: int, total: int, what: str) -> None:
        """Show how far the documents are read, or whom they wait for."""
        self._progress = (done, total, what) if done < total or not total else None

    def show(self, event: Event) -> None:
        """Take an event into the tree."""
        match event:
            case RunStarted():
                self._doing, self._progress = "planning", None
            case PlanRestarted():
                self._rows, self._notes = {}, (*self._notes, f"plan begun anew: {event.why}")
            case PlanFinished():
                self._notes += tuple(f"plan repaired: {repair}" for repair in event.repairs)
                self._doing = ""
            case StepPlanned() | StepStarted() | ToolUsed() | StepFinished():
                self._show_step(event)
            case AnswerText():
                self._answer += event.delta
            case AnswerRestarted():
                self._answer = ""
                self._notes += (f"answer begun anew: {event.why}",)
            case RunFinished():
                self._doing = self._answer = ""
            case _:
                pass

    def _show_step(self, event: StepPlanned | StepStarted | ToolUsed | StepFinished) -> None:
        match event:
            case StepPlanned():
                row = _Row(event.id, event.question, event.depends_on, event.round)
            case StepStarted():
                row = self._rows.get(event.id, _Row(event.id, event.asked))
                row = replace(row, question=event.asked, since=time.monotonic())
            case ToolUsed():
                row = replace(self._rows.get(event.step, _Row(event.step, "")), used=event.use)
            case StepFinished():
                step = event.step
                row = self._rows.get(step.id, _Row(step.id, step.asked or step.question))
                row = replace(row, done=step)
        self._rows = {**self._rows, row.id: row}

    def _render(self) -> RenderableType:
        tree = Tree(self._title, guide_style=QUIET)
        if self._progress:
            tree.add(_reading(*self._progress))
        for row in self._rows.values():
            tree.add(self._step(row))
        for note in self._notes:
            tree.add(Text(one_line(note), WARN))
        if self._answer:
            tree.add(self._busy(Text(plain(self._answer), QUIET)))
        elif self._doing and not self._progress:
            tree.add(self._busy(Text(self._doing, QUIET)))
        return tree

    def _step(self, row: _Row) -> RenderableType:
        mark: RenderableType = status_mark(row.done.status if row.done else "waiting")
        if row.since is not None and row.done is None:
            mark = status_mark("interrupted") if self._settled else self._spinner
        return _aligned(mark, Text(f"{row.id}"), Group(*_lines(row)))

    def _busy(self, text: Text) -> RenderableType:
        return _aligned(self._spinner, text)


def _lines(row: _Row) -> list[Text]:
    question = Text(one_line(row.question))
    if row.done is not None:
        who = provenance(row.done)
        answer = Text(f"{ARROW} ", QUIET).append_text(outcome_of(row.done))
        return [question, answer, *([Text(who, QUIET)] if who else [])]
    if row.since is not None:
        question.append(f"  {duration((time.monotonic() - row.since) * 1000)}", QUIET)
    elif row.depends_on:
        question.append(f"  {needs(row.depends_on)}", QUIET)
    return [question, tool_line(row.used)] if row.used else [question]


def _reading(done: int, total: int, what: str) -> RenderableType:
    if not total:
        return Text(f"waiting for {one_line(what, 60)}", QUIET)
    bar = ProgressBar(total=total, completed=done, width=_BAR_WIDTH, complete_style=ACCENT)
    return _aligned(bar, Text(f"{done} of {total}  {one_line(what, 40)}", QUIET))


def _aligned(*cells: RenderableType) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(*cells)
    return grid
