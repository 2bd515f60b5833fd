"""When what happened: one bar a step, over the time of the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hoptrail.terminal.marks import ACCENT, BAD, QUIET, WARN
from hoptrail.terminal.plain import duration
from hoptrail.trace import Attempt, Call, StepTrace, Trace

WAITING, QUEUE, RETRIEVAL = "waiting for answers", "queue", "retrieval"
PAUSE, FAILED, TOOL = "pause", "failed attempt", "tool"
FIRST_TOKEN, GENERATION = "first token", "generation"
_CELLS = {
    WAITING: ("·", QUIET),
    QUEUE: ("~", WARN),
    RETRIEVAL: ("░", "green"),
    PAUSE: ("-", QUIET),
    FAILED: ("×", BAD),
    FIRST_TOKEN: ("▒", ACCENT),
    GENERATION: ("█", ACCENT),
    TOOL: ("▓", "magenta"),
}
_MARGIN = 20
_NARROWEST, _WIDEST = 12, 80
_SHORTEST_MS = 1.0
"""A shorter wait is the run's own bookkeeping."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was waited for or done, from ``start`` to ``end`` in milliseconds of the run."""

    kind: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the waterfall; without stretches ``kept`` says where its answer is from."""

    label: str
    stretches: tuple[Stretch, ...]
    kept: str = ""

    @property
    def ms(self) -> float:
        """From the first moment at which something could be done to the last."""
        work = [each for each in self.stretches if each.kind != WAITING] or self.stretches
        return max(each.end for each in work) - min(each.start for each in work) if work else 0.0


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
        took = row.kept or (duration(row.ms) if row.stretches else "")
        table.add_row(Text(row.label), draw(row.stretches, end, room), Text(took))
    return Group(table, _legend(rows), _totals(trace))


def bars(trace: Trace) -> list[Bar]:
    """Give the plan's, each step's and the synthesis's time as stretches."""
    rows = [_of_calls_alone("plan", trace.plan.calls)] if trace.plan.calls else []
    rows += [_of_step(step) for step in trace.steps]
    if trace.synthesis:
        rows.append(_of_calls_alone("answer", trace.synthesis))
    return rows


def draw(stretches: Iterable[Stretch], end: float, columns: int) -> Text:
    """Draw stretches on ``columns`` cells that stand for 0 to ``end`` milliseconds.

    A stretch takes every cell it touches, so none is too short to be seen, and a failed attempt
    is never drawn over.
    """
    cells = [Text(" ") for _ in range(columns)]
    scale = columns / end if end > 0 else 0.0
    for stretch in sorted(stretches, key=lambda each: each.kind == FAILED):
        first = max(0, min(columns - 1, int(stretch.start * scale)))
        last = min(columns, max(first + 1, ceil(stretch.end * scale)))
        cells[first:last] = [Text(*_CELLS[stretch.kind])] * (last - first)
    return Text().join(cells)


def _of_calls_alone(label: str, calls: list[Call]) -> Bar:
    stretches = tuple(_of_calls(calls))
    return Bar(label, stretches, "" if stretches else _kept(calls))


def _of_step(step: StepTrace) -> Bar:
    kept = "given" if step.given else "kept" if step.from_run else _kept(step.calls)
    return Bar(f"step {step.id}", () if kept else tuple(_of_work(step)), kept)


def _kept(calls: list[Call]) -> str:
    """Say where calls are from that were not made in this run."""
    if not calls or not all(call.from_journal or call.from_run for call in calls):
        return ""
    return "kept" if any(call.from_run for call in calls) else "journal"


def _of_work(step: StepTrace) -> Iterator[Stretch]:
    yield from _wait(WAITING, step.planned_ms, step.ready_ms)
    yield from _wait(QUEUE, step.ready_ms, step.started_ms)
    yield from _stretch(RETRIEVAL, step.started_ms, step.retrieved_ms)
    yield from _of_calls(step.calls)
    for use in step.tools:
        if not use.from_journal:
            yield from _stretch(TOOL, use.started_ms, use.started_ms + use.ms)


def _of_calls(calls: Iterable[Call]) -> Iterator[Stretch]:
    for call in calls:
        if not (call.from_journal or call.from_run):
            start, end = call.started_ms, call.started_ms + call.ms
            yield from _wait(QUEUE, start - call.queued_ms, start)
            if call.attempts:
                yield from _of_attempts(call, end)
            else:
                yield from _of_answer(start, call.first_token_ms, end)


def _of_attempts(call: Call, end: float) -> Iterator[Stretch]:
    """Tell the attempts one after the other, with the pauses between them."""
    last = call.started_ms
    for attempt in call.attempts:
        start = call.started_ms + attempt.started_ms
        yield from _wait(PAUSE, last, start)
        last = start + attempt.ms
        if attempt.outcome in ("ok", "running"):
            last = max(last, end)
            yield from _of_answer(start, _first_token(call, attempt), last)
        else:
            yield from _stretch(FAILED, start, last)


def _first_token(call: Call, attempt: Attempt) -> float | None:
    if attempt.first_token_ms is None:
        return call.first_token_ms
    return call.started_ms + attempt.first_token_ms


def _of_answer(start: float, first_token: float | None, end: float) -> Iterator[Stretch]:
    first = start if first_token is None else min(max(start, first_token), end)
    yield from _stretch(FIRST_TOKEN, start, first)
    yield from _stretch(GENERATION, first, end)


def _wait(kind: str, start: float | None, end: float | None) -> Iterator[Stretch]:
    return (each for each in _stretch(kind, start, end) if each.end - each.start > _SHORTEST_MS)


def _stretch(kind: str, start: float | None, end: float | None) -> Iterator[Stretch]:
    if start is not None and end is not None and end > start:
        yield Stretch(kind, start, end)


def _legend(rows: Iterable[Bar]) -> Columns:
    seen = {stretch.kind for row in rows for stretch in row.stretches}
    told = ((kind, *cell) for kind, cell in _CELLS.items() if kind in seen)
    entries = (Text.assemble((cell, style), (f" {kind}", QUIET)) for kind, cell, style in told)
    return Columns(entries, padding=(0, 3))


def _totals(trace: Trace) -> Text:
    wall = trace.usage.wall_ms
    facts = [f"wall time {duration(wall)}"] if wall else []
    facts.append(f"critical path of the steps {duration(trace.critical_path_ms())}")
    return Text(", ".join(facts), QUIET)
