"""``hoptrail trace``: the runs there were, and everything one of them did."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Unpack

import click

from hoptrail.cli.moment import Moment
from hoptrail.cli.past_runs import open_journal, trace_of
from hoptrail.cli.rerun import rerun
from hoptrail.cli.trace_diff import diff
from hoptrail.cli.trace_html import html
from hoptrail.cli.trace_otlp import otlp

if TYPE_CHECKING:
    from hoptrail.journal import RunFilter, RunSort

_WIDE = 1000
"""Columns of a pipe: what is searched or cut there is not cut here."""
_MOST = 1_000_000
"""Runs of one list; SQLite could not even read a number of any length."""
_STATUSES = ("running", "answered", "abstained", "failed", "interrupted")
_SORTS = ("newest", "oldest", "slowest", "fastest", "question")
_EXAMPLES = """\b
Examples:
  hoptrail trace list --status failed --since 2h
  hoptrail trace list --backend ollama --sort slowest --limit 5
  hoptrail trace list --question kafka --degraded --json
"""


@click.group()
def trace() -> None:
    """Look at the runs there were."""


@trace.command("list", epilog=_EXAMPLES)
@click.option("--status", type=click.Choice(_STATUSES), help="Only runs that ended so.")
@click.option("--backend", metavar="NAME", help="Only runs in which this backend answered.")
@click.option("--question", metavar="TEXT", help="Only runs with this in their question.")
@click.option("--degraded/--not-degraded", default=None, help="With, or without, a degraded part.")
@click.option("--since", type=Moment(), help="Only runs begun since then: 2h, 3d, 2026-11-22.")
@click.option("--sort", type=click.Choice(_SORTS), default="newest", show_default=True)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, _MOST))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_runs(sort: RunSort, limit: int, as_json: bool, **wanted: Unpack[RunFilter]) -> None:
    """List the runs there were, newest first unless said otherwise."""
    from hoptrail.terminal.marks import console
    from hoptrail.terminal.plain import json_text
    from hoptrail.terminal.runs import runs_table

    with closing(open_journal()) as journal:
        rows = journal.runs(limit, sort=sort, **wanted)
    if as_json:
        click.echo(json_text([row.model_dump(mode="json") for row in rows]))
    elif rows:
        out = console()
        if not out.is_terminal:
            out.width = _WIDE
        out.print(runs_table(rows, out.width))
    elif any(value is not None for value in wanted.values()):
        click.echo("no run is like that: `hoptrail trace list` shows the newest", err=True)
    else:
        click.echo("there is no run yet: `hoptrail ask QUESTION` makes one", err=True)


@trace.command()
@click.argument("run_id", metavar="RUN_ID")
@click.option("--json", "as_json", is_flag=True, help="Print the trace document.")
@click.option("--prompts", is_flag=True, help="Show what was sent to the models, and the replies.")
def show(run_id: str, as_json: bool, prompts: bool) -> None:
    """Show everything a run did. RUN_ID may be "last", or a file with a trace ("-" is stdin)."""
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


trace.add_command(diff)
trace.add_command(html)
trace.add_command(otlp)
trace.add_command(rerun)
