"""The list of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from hoptrail.terminal.marks import ACCENT, QUIET, status_mark, status_style
from hoptrail.terminal.plain import duration, one_line

if TYPE_CHECKING:
    from hoptrail.journal import RunRow


_ROOMY, _VERY_ROOMY = 100, 140
"""With fewer columns the question would have no room beside them."""
_SHORTEST_QUESTION = 24
_GAP = 2
_FORK = "↳"
_HEADS = ("run", "when", "", "time", "calls", "backends", "question")
_NUMBERS = ("time", "calls")
_NARROW = ("run", "", "time", "question")
_MIDDLE = ("run", "when", "", "time", "backends", "question")


def runs_table(rows: Sequence[RunRow], width: int) -> Table:
    """Give the runs as a table, in their order, fitted to ``width`` columns."""
    roomy, whole = width >= _ROOMY, width >= _VERY_ROOMY
    shown = _HEADS if whole else _MIDDLE if roomy else _NARROW
    cells = [{**_cells(row, roomy=roomy), "question": _question(row, whole=whole)} for row in rows]
    widest = [max(Text(head).cell_len, *(each[head].cell_len for each in cells)) for head in shown]
    room = max(_SHORTEST_QUESTION, width - sum(widest[:-1]) - _GAP * len(shown))
    table = Table(box=None, header_style=QUIET, padding=(0, _GAP, 0, 0), pad_edge=False)
    for head in shown:
        table.add_column(head, no_wrap=True, justify="right" if head in _NUMBERS else "left")
    for each in cells:
        each["question"].truncate(room, overflow="ellipsis")
        table.add_row(*(each[head] for head in shown))
    return table


def _cells(row: RunRow, *, roomy: bool) -> dict[str, Text]:
    backends = row.backends.replace(",", ", ") + (" (degraded)" if row.degraded else "")
    status = status_mark(row.status)
    status.append(f" {row.status}" if roomy else "", status_style(row.status))
    return {
        "run": Text(row.run_id, ACCENT),
        "when": Text(f"{row.created.astimezone():%Y-%m-%d %H:%M}"),
        "": status,
        "time": Text(duration(row.wall_ms) if row.wall_ms else ""),
        "calls": Text(str(row.llm_calls) if row.steps or row.llm_calls else ""),
        "backends": Text(one_line(backends), QUIET),
    }


def _question(row: RunRow, *, whole: bool) -> Text:
    question = Text(one_line(row.question))
    if not row.parent_run_id:
        return question
    parent = f" {one_line(row.parent_run_id)}" if whole else ""
    return Text.assemble((f"{_FORK}{parent} ", QUIET), question)
