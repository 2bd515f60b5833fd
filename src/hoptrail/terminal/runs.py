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


_ROOMY = 100
"""With fewer columns the question would have no room beside date, status and backends."""
_SHORTEST_QUESTION = 24
_GAP = 2


def runs_table(rows: Sequence[RunRow], width: int) -> Table:
    """Give the runs as a table, newest first, fitted to ``width`` columns."""
    heads = ("run", "when", "", "time", "backends", "question")
    shown = range(len(heads)) if width >= _ROOMY else (0, 2, 3, 5)
    cells = [_cells(row, roomy=width >= _ROOMY) for row in rows]
    widest = [max(each[at].cell_len for each in cells) for at in shown[:-1]]
    room = max(_SHORTEST_QUESTION, width - sum(widest) - _GAP * len(shown))
    table = Table(box=None, header_style=QUIET, padding=(0, _GAP, 0, 0), pad_edge=False)
    for at in shown:
        table.add_column(heads[at], no_wrap=True, justify="right" if at == 3 else "left")
    for each in cells:
        each[-1].truncate(room, overflow="ellipsis")
        table.add_row(*(each[at] for at in shown))
    return table


def _cells(row: RunRow, *, roomy: bool) -> list[Text]:
    backends = row.backends.replace(",", ", ") + (" (degraded)" if row.degraded else "")
    status = status_mark(row.status)
    status.append(f" {row.status}" if roomy else "", status_style(row.status))
    return [
        Text(row.run_id, ACCENT),
        Text(f"{row.created.astimezone():%Y-%m-%d %H:%M}"),
        status,
        Text(duration(row.wall_ms) if row.wall_ms else ""),
        Text(one_line(backends), QUIET),
        Text(one_line(row.question)),
    ]
