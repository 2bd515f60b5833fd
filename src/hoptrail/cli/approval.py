"""The question to the person: is this plan good?"""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console
from rich.text import Text

from hoptrail.cli.failure import Interrupted
from hoptrail.terminal.plain import one_line


def approved(err: Console, run_id: str, questions: Sequence[str]) -> bool | list[str]:
    """Give True for the plan as it is, or the questions that shall take its place.

    Raises:
        Interrupted: the plan was refused.
    """
    for number, question in enumerate(questions, start=1):
        err.print(Text(f"{number}. {one_line(question)}"))
    choice = click.prompt(
        "Go on with this plan? y(es), n(o), e(dit)",
        type=click.Choice(["y", "n", "e"]),
        default="y",
        show_choices=False,
        err=True,
    )
    if choice == "y":
        return True
    if choice == "n":
        raise Interrupted(f"to see the plan again: hoptrail ask --approve --resume {run_id}")
    edited = click.edit("\n".join(questions) + "\n") or ""
    return [line.strip() for line in edited.splitlines() if line.strip()] or True
