"""One step of a finished run, whole: what was asked, of whom, from what, with which answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hoptrail.request import EarlierAnswer
from hoptrail.terminal.answer import citation_line
from hoptrail.terminal.calls import Fact, call_facts
from hoptrail.terminal.evidence import evidence_table
from hoptrail.terminal.marks import ARROW, QUIET, WARN, status_mark
from hoptrail.terminal.plain import one_line
from hoptrail.terminal.steps import needs, outcome_of, provenance, tool_line
from hoptrail.trace import StepTrace


def step_card(
    step: StepTrace, width: int, usual: str = "", *, prompts: bool = False
) -> RenderableType:
    """Give the whole record of a step on a terminal ``width`` columns wide.

    ``usual`` is the reason for which the run's backend was chosen in general.
    """
    title = Text(one_line(step.question))
    if after := needs(step.depends_on):
        title.append(f"  {after}", QUIET)
    answer = Text(f"{ARROW} ", QUIET).append_text(outcome_of(step))
    lines: list[RenderableType] = [title, answer]
    if who := provenance(step):
        lines.append(Text(who, QUIET))
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        status_mark(step.status),
        Text(str(step.id)),
        Group(*lines, fact_grid(_facts(step, width, usual, prompts)), Text()),
    )
    return grid


def fact_grid(facts: Iterable[Fact]) -> Table:
    """Give facts below each other, their labels in a column; a repeated label is left out."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style=QUIET, no_wrap=True)
    last = ""
    for label, fact in facts:
        grid.add_row("" if label == last else label, fact)
        last = label
    return grid


def _facts(step: StepTrace, width: int, usual: str, prompts: bool) -> Iterator[Fact]:
    if step.asked and step.asked != step.question:
        yield "asked", Text(one_line(step.asked))
    for known in step.earlier:
        yield "knows", _known(known)
    for call in step.calls:
        yield from call_facts(call, usual, prompts=prompts)
    for use in step.tools:
        yield "tool", tool_line(use)
    yield from _passages(step, width)
    for number, citation in enumerate(step.citations, start=1):
        yield "cites", citation_line(number, citation)
    if step.reasoning:
        yield "because", Text(one_line(step.reasoning))
    for warning in step.warnings:
        yield "warning", Text(one_line(warning), WARN)


def _passages(step: StepTrace, width: int) -> Iterator[Fact]:
    if step.evidence:
        space = f", {one_line(step.embedding_space)}" if step.embedding_space else ""
        yield "passages", Text(f"{one_line(step.retrieval_mode)}{space}", QUIET)
        yield "passages", evidence_table(step.evidence, width)


def _known(known: EarlierAnswer) -> Text:
    near = "" if known.similarity is None else f" {known.similarity:.2f}"
    place = f"step {known.id}, " if known.id else ""
    why = Text(f"  {place}{known.reason}{near}", QUIET)
    return Text(one_line(known.answer)).append_text(why)
