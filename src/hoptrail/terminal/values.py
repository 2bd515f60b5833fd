"""The settings, each with where its value came from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from hoptrail.terminal.marks import ACCENT, QUIET
from hoptrail.terminal.plain import one_line

if TYPE_CHECKING:
    from hoptrail.settings import Origin

_DEFAULT = "default"
_COMMENT_AT = 60


def print_values(out: Console, origins: Iterable[Origin]) -> None:
    """Print each setting as a line of a ``.env`` file; those that somebody set stand out."""
    for each in origins:
        default = each.origin == _DEFAULT
        line = Text(f"{each.name}=", QUIET if default else "")
        line.append(one_line(each.value), QUIET if default else ACCENT)
        line.pad_right(max(0, _COMMENT_AT - line.cell_len))
        line.append(f"  # {one_line(each.origin)}", QUIET)
        out.print(line, soft_wrap=True)
