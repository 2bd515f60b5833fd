"""``hoptrail trace html``: a run, or two side by side, as one page that needs no network."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hoptrail.cli.page_file import STDOUT, PageFile
from hoptrail.cli.past_runs import open_journal, trace_of

if TYPE_CHECKING:
    from hoptrail.trace import Trace

_EXAMPLES = """\b
Examples:
  hoptrail trace html last --open
  hoptrail trace html 20261122-091500-4f2a9c -o run.html
  hoptrail trace html BEFORE AFTER          two runs, and how they differ
  hoptrail trace html sent.json -o - | gzip > run.html.gz
"""


@click.command("html", epilog=_EXAMPLES)
@click.argument("run_id", metavar="RUN_ID")
@click.argument("other_run_id", metavar="[OTHER_RUN_ID]", required=False)
@click.option(
    "-o", "--output", metavar="FILE", help='Where to. Default: RUN_ID.html here; "-" is stdout.'
)
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@click.option("--force", is_flag=True, help="Replace a file that is something else.")
def html(
    run_id: str, other_run_id: str | None, output: str | None, show: bool, force: bool
) -> None:
    """Write a run as one page: a file that opens without a network.

    With OTHER_RUN_ID the page compares the two. Each may be "last", or a file with a trace.
    What looks like a secret is masked; prompts, passages and answers are in the page.
    """
    if show and output == STDOUT:
        raise click.UsageError("--open needs a file: leave out `-o -`")
    with closing(open_journal()) as journal:
        traces = [trace_of(journal, named) for named in (run_id, other_run_id) if named]
    page = _page(traces)
    if output == STDOUT:
        click.echo(page.encode(), nl=False)
        return
    file = PageFile(Path(output or _name(traces)), force=force)
    file.write(page)
    click.echo(file.path)
    if show:
        import webbrowser

        if not webbrowser.open(file.path.absolute().as_uri()):
            click.echo("no browser could be started here: open the file in one", err=True)


def _page(traces: list[Trace]) -> str:
    from hoptrail.settings import load_settings
    from hoptrail.viewer import comparison_page, trace_page

    mask = load_settings().secrets.masked_in
    before, *after = (mask(trace.model_dump_json()) for trace in traces)
    if not after:
        return trace_page(before)
    from hoptrail.comparison import compare

    return comparison_page(before, after[0], mask(compare(*traces).model_dump_json()))


def _name(traces: list[Trace]) -> str:
    from hoptrail.journal import is_run_id

    # The id in a file that somebody sent may be anything.
    ids = [trace.run_id if is_run_id(trace.run_id) else "trace" for trace in traces]
    return "-".join(ids) + ".html"
