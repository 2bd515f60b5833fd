"""What somebody changed in a fork, in words."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from hoptrail.change import Change
from hoptrail.terminal.plain import one_line


def change_line(change: Change) -> Text:
    """Say on one line what a fork has otherwise than its parent."""
    where = "" if change.step is None else f"step {change.step}: "
    return Text(where + "; ".join(_parts(change)))


def _parts(change: Change) -> Iterator[str]:
    if change.answer is not None:
        yield f"answered “{one_line(change.answer)}”"
    if change.question is not None:
        yield f"asked “{one_line(change.question)}”"
    if change.model is not None:
        yield f"asked of {one_line(change.model)}"
    for verb, passages in (("with", change.pinned), ("without", change.banned)):
        if passages:
            yield f"{verb} {one_line(', '.join(passages))}"
