"""``hoptrail trace``: the runs there were, and everything one of them did."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hoptrail.journal import Journal

LAST = "last"
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

    with closing(_journal()) as journal:
        rows = [
            row.model_copy(update=_became(row.run_id, row.status, journal))
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

    with closing(_journal()) as journal:
        record = journal.trace(_last(journal) if run_id == LAST else run_id)
        record = record.model_copy(update=_became(record.run_id, record.status, journal))
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


def _journal() -> Journal:
    from hoptrail.journal import Journal
    from hoptrail.settings import load_settings

    return Journal(load_settings().home)


def _became(run_id: str, status: str, journal: Journal) -> dict[str, str]:
    """Give what has become of a run: a process that was killed could not say so."""
    killed = status == "running" and not journal.alive(run_id)
    return {"status": "interrupted"} if killed else {}


def _last(journal: Journal) -> str:
    from hoptrail.errors import RunNotFound

    newest = journal.runs(limit=1)
    if not newest:
        raise RunNotFound("there is no run yet: `hoptrail ask QUESTION` makes one")
    return newest[0].run_id
