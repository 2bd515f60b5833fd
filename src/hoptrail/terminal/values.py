"""The settings, each with where its value came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from hoptrail.terminal.marks import ACCENT, QUIET
from hoptrail.terminal.plain import one_line

if TYPE_CHECKING:
    from hoptrail.settings import Origin

_DEFAULT = "default"


def values_table(origins: Sequence[Origin]) -> Table:
    """Give the settings as a table; those that somebody set stand out."""
    table = Table(box=None, header_style=QUIET, padding=(0, 2, 0, 0))
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("from", overflow="fold")
    for each in origins:
        style = QUIET if each.origin == _DEFAULT else ""
        table.add_row(
            Text(each.name, style),
            Text(one_line(each.value), style or ACCENT),
            Text(one_line(each.origin), style),
        )
    return table
