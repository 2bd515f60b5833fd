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


_GAP = 2
_FORK = "↳"
_STATUS = ""
_NUMBERS = ("time", "calls")
_LAYOUTS = (
    (("run", "when", _STATUS, "time", "calls", "backends", "question"), 48),
    (("run", "when", _STATUS, "time", "backends", "question"), 24),
    (("run", "when", _STATUS, "time", "question"), 24),
    (("run", _STATUS, "time", "question"), 12),
    (("run", _STATUS, "question"), 0),
)
"""Columns, and how many characters of the question must have room beside them."""


def runs_table(rows: Sequence[RunRow], width: int) -> Table:
    """Give the runs as a table, in their order, fitted to ``width`` columns."""
    for shown, least in _LAYOUTS:
        whole, roomy = shown is _LAYOUTS[0][0], "when" in shown
        cells = [_cells(row, roomy=roomy) for row in rows]
        # All but the question is whole: an id that is cut cannot be pasted.
        taken = sum(
            max(Text(head).cell_len, *(each[head].cell_len for each in cells)) + _GAP
            for head in shown[:-1]
        )
        if width - taken >= least:
            break
    table = Table(box=None, header_style=QUIET, padding=(0, _GAP, 0, 0), pad_edge=False)
    for head in shown:
        table.add_column(head, no_wrap=True, justify="right" if head in _NUMBERS else "left")
    for row, each in zip(rows, cells, strict=True):
        question = _question(row, whole=whole)
        question.truncate(max(0, width - taken), overflow="ellipsis")
        table.add_row(*(each[head] for head in shown[:-1]), question)
    return table


def _cells(row: RunRow, *, roomy: bool) -> dict[str, Text]:
    backends = row.backends.replace(",", ", ") + (" (degraded)" if row.degraded else "")
    status = status_mark(row.status)
    status.append(f" {row.status}" if roomy else "", status_style(row.status))
    return {
        "run": Text(row.run_id, ACCENT),
        "when": Text(f"{row.created.astimezone():%Y-%m-%d %H:%M}"),
        _STATUS: status,
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
