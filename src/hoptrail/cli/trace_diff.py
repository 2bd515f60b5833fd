"""``hoptrail trace diff``: two runs side by side."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from hoptrail.cli.past_runs import open_journal, trace_of

if TYPE_CHECKING:
    from hoptrail.journal import Journal
    from hoptrail.trace import Trace

_DIFFERENT = 1


@click.command(short_help="Compare two runs.")
@click.argument("before", metavar="RUN")
@click.argument("after", metavar="[OTHER]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if they differ.")
@click.pass_context
def diff(
    context: click.Context, before: str, after: str | None, as_json: bool, exit_code: bool
) -> None:
    """Show how OTHER differs from RUN: what differs first, then step by step.

    Each is a run's id, "last", or a trace file. With RUN alone it is compared with the run it
    was forked from. Times and tokens are told, and are no difference.

    The exit code is 0 also when they differ, unless --exit-code is given.
    """
    from hoptrail.comparison import compare
    from hoptrail.terminal.comparison import print_comparison
    from hoptrail.terminal.marks import console
    from hoptrail.terminal.plain import json_text

    with closing(open_journal()) as journal:
        ours, theirs = _runs(journal, before, after)
    compared = compare(ours, theirs)
    if as_json:
        click.echo(json_text(compared.model_dump(mode="json")))
    else:
        print_comparison(console(), compared, ours, theirs)
    context.exit(_DIFFERENT if exit_code and compared.first else 0)


def _runs(journal: Journal, before: str, after: str | None) -> tuple[Trace, Trace]:
    """Give both records; one alone is the second, and its parent the first.

    Raises:
        RunNotFound: there is none, or the only one named has no parent.
    """
    from hoptrail.errors import RunNotFound

    run = trace_of(journal, before)
    if after is not None:
        return run, trace_of(journal, after)
    if not run.parent_run_id:
        raise RunNotFound(
            f"run {run.run_id} was not forked from another: name the run to compare it with"
        )
    return trace_of(journal, run.parent_run_id), run
