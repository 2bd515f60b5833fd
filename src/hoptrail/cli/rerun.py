"""``hoptrail trace rerun``: a run again, with something changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from hoptrail.cli.choice import ModelName, documents_options
from hoptrail.cli.failure import ABSTAINED, ANSWERED

if TYPE_CHECKING:
    from hoptrail.change import Change

_EXAMPLES = """\b
Examples:
  hoptrail trace rerun last --step 2 --answer "Prague"
  hoptrail trace rerun last --step 2 --question "Where did #1 grow up?"
  hoptrail trace rerun last -m ollama:qwen3:8b
  hoptrail trace rerun last --ban "notes/travel.md#1"
"""


class ChangeFlags(TypedDict):
    """The flags that say what is changed."""

    step: int | None
    answer: str | None
    question: str | None
    model: tuple[str, str] | None
    pinned: tuple[str, ...]
    banned: tuple[str, ...]


class Flags(ChangeFlags):
    """All flags of ``hoptrail trace rerun``."""

    docs: tuple[str, ...]
    index: str | None
    as_json: bool
    stream: bool
    trace_html: str | None
    quiet: bool


@click.command(epilog=_EXAMPLES)
@click.argument("run_id", metavar="RUN_ID")
@click.option("--step", type=click.IntRange(1), metavar="N", help="Which step is changed.")
@click.option("--answer", metavar="TEXT", help="What the step has answered.")
@click.option("--question", metavar="TEXT", help="What the step is asked; or the run, without N.")
@click.option(
    "-m", "--model", type=ModelName(), help="Who is asked what is asked anew: ollama:qwen3:8b."
)
@click.option(
    "--pin",
    "pinned",
    multiple=True,
    metavar="PASSAGE_ID",
    help="A passage that the step, or every step, is given; may be given several times.",
)
@click.option(
    "--ban",
    "banned",
    multiple=True,
    metavar="PASSAGE_ID",
    help="A passage that the step, or no step, is given; may be given several times.",
)
@documents_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--stream", is_flag=True, help="Print the answer as it is written.")
@click.option(
    "--trace-html",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the new run as a page there, however it ends.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.pass_context
def rerun(context: click.Context, run_id: str, **flags: Unpack[Flags]) -> None:
    """Answer a run's question with something changed. RUN_ID may be "last".

    It is a run of its own: what does not depend on the change is kept from RUN_ID, and not asked
    again. Documents, tools and limits are those of RUN_ID. `hoptrail trace show --json` tells the
    passage ids.
    """
    if flags["as_json"] and flags["stream"]:
        raise click.UsageError("--json prints one object at the end: leave out --stream")
    change = _change_of(flags)
    from hoptrail.cli.rerunning import Rerunning
    from hoptrail.cli.wish import wish_like

    wish = wish_like(run_id, _said(flags), also=flags["model"])
    answer = Rerunning(wish, change).answer()
    context.exit(ABSTAINED if answer.abstained else ANSWERED)


def _said(flags: Flags) -> dict[str, object]:
    """Give what was said besides the change."""
    return {name: value for name, value in flags.items() if name not in ChangeFlags.__annotations__}


def _change_of(flags: ChangeFlags) -> Change:
    from pydantic import ValidationError

    from hoptrail.change import Change

    model = flags["model"]
    try:
        return Change(
            step=flags["step"],
            answer=flags["answer"],
            question=flags["question"],
            model=model and ":".join(model),
            pinned=flags["pinned"],
            banned=flags["banned"],
        )
    except ValidationError as error:
        told = [each["msg"].removeprefix("Value error, ") for each in error.errors()]
        raise click.UsageError("; ".join(told)) from None
