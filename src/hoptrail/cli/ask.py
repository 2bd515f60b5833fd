"""``hoptrail ask``: one question, one answer."""

from __future__ import annotations

import sys
from typing import Unpack

import click

from hoptrail.cli import approval
from hoptrail.cli.choice import documents_options, model_options, tool_option
from hoptrail.cli.failure import ABSTAINED, ANSWERED
from hoptrail.cli.wish import Flags, wish_of


@click.command(short_help="Answer a question.")
@click.argument("question", required=False)
@documents_options
@model_options
@tool_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--stream", is_flag=True, help="Print the answer as it is written.")
@click.option(
    "--graph",
    type=click.Choice(["multi-hop", "iterative"]),
    help="Plan all steps first (multi-hop, unless said otherwise), or choose them one at a time.",
)
@click.option("--approve", is_flag=True, help="Show the plan and wait for a yes.")
@click.option("--resume", metavar="RUN_ID", help="Finish an earlier run: what is finished stays.")
@click.option("--max-steps", type=click.IntRange(1), help="Most steps of the plan.")
@click.option("--max-llm-calls", type=click.IntRange(1), help="Most model calls of the run.")
@click.option("--deadline", type=click.FloatRange(0, min_open=True), help="Seconds it may take.")
@click.option(
    "--trace-html",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the run as a page there, however it ends.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.pass_context
def ask(context: click.Context, question: str | None, **flags: Unpack[Flags]) -> None:
    """Answer QUESTION; "-" reads it from stdin.

    The answer goes to stdout, the progress to stderr. Without documents the model answers from
    its own knowledge.
    """
    if flags["as_json"] and flags["stream"]:
        raise click.UsageError("--json prints one object at the end: leave out --stream")
    if flags["approve"] and not approval.at_a_terminal():
        raise click.UsageError("--approve asks on a terminal, and stdin is none")
    if flags["approve"] and flags["graph"] == "iterative":
        raise click.UsageError("--approve shows a whole plan, and --graph iterative never has one")
    from hoptrail.cli.asking import Asking

    answer = Asking(wish_of(_text(question), flags)).answer()
    context.exit(ABSTAINED if answer.abstained else ANSWERED)


def _text(question: str | None) -> str:
    return (sys.stdin.read() if question == "-" else question or "").strip()
