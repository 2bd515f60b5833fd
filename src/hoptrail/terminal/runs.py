"""The list of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from hoptrail.terminal.marks import ACCENT, QUIET, status_mark, status_style
from hoptrail.terminal.plain import duration, one_line

if TYPE_CHECKING:
    from hoptrail.journal import RunRow


_ROOMY = 100
"""With fewer columns the question would have no room beside date, status and backends."""


def runs_table(rows: Sequence[RunRow], width: int) -> Table:
    """Give the runs as a table, newest first, fitted to ``width`` columns."""
    roomy = width >= _ROOMY
    table = Table(box=box.SIMPLE_HEAD, header_style=QUIET, pad_edge=False, expand=False)
    table.add_column("run", style=ACCENT, no_wrap=True)
    if roomy:
        table.add_column("when", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    if roomy:
        table.add_column("backends", style=QUIET, overflow="ellipsis", no_wrap=True)
    table.add_column("question", ratio=1, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, roomy))
    return table


def _cells(row: RunRow, roomy: bool) -> list[Text]:
    when = [Text(f"{row.created.astimezone():%Y-%m-%d %H:%M}")] if roomy else []
    backends = row.backends.replace(",", ", ") + (" (degraded)" if row.degraded else "")
    status = status_mark(row.status)
    status.append(f" {row.status}" if roomy else "", status_style(row.status))
    return [
        Text(row.run_id),
        *when,
        status,
        Text(duration(row.wall_ms) if row.wall_ms else ""),
        *([Text(one_line(backends))] if roomy else []),
        Text(one_line(row.question)),
    ]
