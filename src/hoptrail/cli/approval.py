"""The question to the person: is this plan good?"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from hoptrail.cli.failure import Interrupted


def at_a_terminal() -> bool:
    """Say whether there is a person to ask."""
    return sys.stdin.isatty()


def approved(run_id: str, questions: Sequence[str]) -> bool | list[str]:
    """Give True for the plan as it is, or the questions that shall take its place.

    Raises:
        Interrupted: the plan was refused, by an answer, by Ctrl-C, or by leaving nothing of it.
    """
    refused = Interrupted(f"to see the plan again: hoptrail ask --approve --resume {run_id}")
    try:
        choice = _choice()
    except click.Abort as error:
        click.echo(err=True)
        raise refused from error
    if choice == "y":
        return True
    edited = click.edit("\n".join(questions) + "\n") if choice == "e" else ""
    if edited is None:
        return True  # the editor was left without a change
    if lines := [line.strip() for line in edited.splitlines() if line.strip()]:
        return lines
    raise refused


def _choice() -> str:
    choice: str = click.prompt(
        "Go on with this plan? y(es), n(o), e(dit)",
        type=click.Choice(["y", "n", "e"]),
        default="y",
        show_choices=False,
        err=True,
    )
    return choice
