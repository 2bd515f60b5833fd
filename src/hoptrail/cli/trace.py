"""``hoptrail trace``: the runs there were, and everything one of them did."""

from __future__ import annotations

from contextlib import closing

import click

from hoptrail.cli.past_runs import became, open_journal, trace_of

_WIDE = 1000
"""Columns of a pipe: what is searched or cut there is not cut here."""


@click.group()
def trace() -> None:
    """Look at the runs there were."""


@trace.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_runs(limit: int, as_json: bool) -> None:
    """List the newest runs, newest first."""
    from hoptrail.terminal.marks import console
    from hoptrail.terminal.plain import json_text
    from hoptrail.terminal.runs import runs_table

    with closing(open_journal()) as journal:
        rows = [
            row.model_copy(update=became(row.run_id, row.status, journal))
            for row in journal.runs(limit)
        ]
    if as_json:
        click.echo(json_text([row.model_dump(mode="json") for row in rows]))
    elif rows:
        out = console()
        if not out.is_terminal:
            out.width = _WIDE
        out.print(runs_table(rows, out.width))
    else:
        click.echo("there is no run yet: `hoptrail ask QUESTION` makes one", err=True)


@trace.command()
@click.argument("run_id", metavar="RUN_ID")
@click.option("--json", "as_json", is_flag=True, help="Print the trace document.")
@click.option("--prompts", is_flag=True, help="Show what was sent to the models, and the replies.")
def show(run_id: str, as_json: bool, prompts: bool) -> None:
    """Show everything a run did. RUN_ID may be "last"."""
    from hoptrail.terminal.marks import console
    from hoptrail.terminal.plain import json_text
    from hoptrail.terminal.record import print_record

    with closing(open_journal()) as journal:
        record = trace_of(journal, run_id)
    if as_json:
        click.echo(json_text(record.model_dump(mode="json")))
    else:
        print_record(console(), record, prompts=prompts)


@trace.command()
def schema() -> None:
    """Print the JSON Schema of the trace document."""
    from hoptrail.terminal.plain import json_text
    from hoptrail.trace import trace_schema

    click.echo(json_text(trace_schema()))
