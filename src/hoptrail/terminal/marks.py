"""The few marks and styles that all views share."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.text import Text

QUIET = "dim"
ACCENT = "cyan"
WARN = "yellow"
BAD = "red"

CITED = "●"
ARROW = "→"

_PADDING = re.compile(r" +(?=\n)")
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


class _Console(Console):
    """A console that pads no line where no terminal is: what is piped on is compared and pasted."""

    def print(self, *objects: Any, **options: Any) -> None:
        if self.is_terminal or options.get("soft_wrap"):  # what is not wrapped is not padded
            super().print(*objects, **options)
            return
        with self.capture() as captured:
            super().print(*objects, **options)
        self.file.write(_PADDING.sub("", captured.get()))
        self.file.flush()


def console(*, stderr: bool = False) -> Console:
    """Give the console on stdout or stderr; nothing printed on it is read as markup."""
    return _Console(stderr=stderr, markup=False, highlight=False, emoji=False)
