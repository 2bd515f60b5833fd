"""When what happened: one bar a step, over the time of the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hoptrail.terminal.marks import ACCENT, QUIET
from hoptrail.terminal.plain import duration
from hoptrail.trace import Call, StepTrace, Trace

QUEUE, RETRIEVAL, FIRST_TOKEN, GENERATION = "queue", "retrieval", "first token", "generation"
_CELLS = {
    QUEUE: ("·", QUIET),
    RETRIEVAL: ("░", "green"),
    FIRST_TOKEN: ("▒", ACCENT),
    GENERATION: ("█", ACCENT),
}
_MARGIN = 20
_NARROWEST, _WIDEST = 12, 80


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was waited for or done, from ``start`` to ``end`` in milliseconds of the run."""

    kind: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the waterfall; without stretches it was taken from the journal."""

    label: str
    stretches: tuple[Stretch, ...]

    @property
    def ms(self) -> float:
        """From its first to its last moment."""
        times = [time for stretch in self.stretches for time in (stretch.start, stretch.end)]
        return max(times) - min(times) if times else 0.0


def waterfall(trace: Trace, width: int) -> RenderableType:
    """Give the bars of a run on ``width`` columns, with its wall time and critical path."""
    rows = bars(trace)
    end = max([trace.usage.wall_ms, *(s.end for row in rows for s in row.stretches)])
    room = min(_WIDEST, max(_NARROWEST, width - _MARGIN))
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style=QUIET, no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for row in rows:
        took = duration(row.ms) if row.stretches else "journal"
        table.add_row(Text(row.label), draw(row.stretches, end, room), Text(took))
    return Group(table, _legend(), _totals(trace))


def bars(trace: Trace) -> list[Bar]:
    """Give the plan's, each step's and the synthesis's time as stretches."""
    rows = [Bar("plan", tuple(_of_calls(trace.plan.calls)))] if trace.plan.calls else []
    rows += [Bar(f"step {step.id}", tuple(_of_step(step))) for step in trace.steps]
    if trace.synthesis:
        rows.append(Bar("answer", tuple(_of_calls(trace.synthesis))))
    return rows


def draw(stretches: Iterable[Stretch], end: float, columns: int) -> Text:
    """Draw stretches on ``columns`` cells that stand for 0 to ``end`` milliseconds.

    A stretch takes every cell it touches, so none is too short to be seen.
    """
    cells = [Text(" ") for _ in range(columns)]
    scale = columns / end if end > 0 else 0.0
    for stretch in stretches:
        first = min(columns - 1, int(stretch.start * scale))
        last = min(columns, max(first + 1, ceil(stretch.end * scale)))
        cells[first:last] = [Text(*_CELLS[stretch.kind])] * (last - first)
    return Text().join(cells)


def _of_step(step: StepTrace) -> Iterator[Stretch]:
    if step.calls and all(call.from_journal for call in step.calls):
        return
    if step.ready_ms is not None and step.started_ms is not None:
        yield from _stretch(QUEUE, step.ready_ms, step.started_ms)
    if step.started_ms is not None and step.retrieved_ms is not None:
        yield from _stretch(RETRIEVAL, step.started_ms, step.retrieved_ms)
    yield from _of_calls(step.calls)


def _of_calls(calls: Iterable[Call]) -> Iterator[Stretch]:
    for call in calls:
        if call.from_journal:
            continue
        end = call.started_ms + call.ms
        first = _first_token(call)
        yield from _stretch(FIRST_TOKEN, call.started_ms, first)
        yield from _stretch(GENERATION, first, end)


def _first_token(call: Call) -> float:
    if call.first_token_ms is not None:
        return call.first_token_ms
    last = call.attempts[-1] if call.attempts else None
    if last is None or last.first_token_ms is None:
        return call.started_ms
    return call.started_ms + last.started_ms + last.first_token_ms


def _stretch(kind: str, start: float, end: float) -> Iterator[Stretch]:
    if end > start:
        yield Stretch(kind, start, end)


def _legend() -> Text:
    legend = Text()
    for kind, (cell, style) in _CELLS.items():
        legend.append(f"{cell} ", style).append(f"{kind}   ", QUIET)
    return legend


def _totals(trace: Trace) -> Text:
    wall = trace.usage.wall_ms
    facts = [f"wall time {duration(wall)}"] if wall else []
    facts.append(f"critical path of the steps {duration(trace.critical_path_ms())}")
    return Text(", ".join(facts), QUIET)
