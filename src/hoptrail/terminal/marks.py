"""The few marks and styles that all views share."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

QUIET = "dim"
ACCENT = "cyan"
WARN = "yellow"
BAD = "red"

CITED = "●"
ARROW = "→"

_STATUS = {
    "answered": ("✓", "green"),
    "abstained": ("?", WARN),
    "failed": ("✗", BAD),
    "interrupted": ("‖", WARN),
    "running": ("…", ACCENT),
    "waiting": ("○", QUIET),
}


def status_mark(status: str) -> Text:
    """Give the mark of a step's or a run's status."""
    mark, style = _STATUS[status]
    return Text(mark, style)


def status_style(status: str) -> str:
    """Give the style of a step's or a run's status."""
    return _STATUS[status][1]


def console(*, stderr: bool = False) -> Console:
    """Give the console on stdout or stderr; nothing printed on it is read as markup."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)
