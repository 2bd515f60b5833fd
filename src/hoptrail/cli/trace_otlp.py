"""``hoptrail trace otlp``: runs as OpenTelemetry's spans."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hoptrail.cli.past_runs import open_journal, trace_of

if TYPE_CHECKING:
    from hoptrail.otlp import SpanWay
    from hoptrail.trace import Trace

_EXAMPLES = """\b
Examples:
  hoptrail trace otlp last > run.jsonl
  hoptrail trace otlp last --endpoint http://127.0.0.1:4318
  hoptrail trace otlp last --endpoint http://127.0.0.1:6006 --content
"""


@click.command("otlp", epilog=_EXAMPLES, short_help="Export runs as OpenTelemetry spans.")
@click.argument("run_ids", metavar="RUN_ID...", nargs=-1, required=True)
@click.option("--endpoint", metavar="URL", help="Send them to this OTLP endpoint, over HTTP.")
@click.option(
    "--file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append a line for each to this file.",
)
@click.option(
    "--content/--no-content",
    default=None,
    help="With or without questions, prompts, passages and answers. Default: as the settings say.",
)
def otlp(
    run_ids: tuple[str, ...], endpoint: str | None, file: Path | None, content: bool | None
) -> None:
    """Export runs as OpenTelemetry spans, with GenAI and OpenInference attributes.

    Each RUN_ID may be "last". Without --endpoint and --file, a line of OTLP JSON for each is
    printed. What an endpoint is sent along, such as a key, is read from
    OTEL_EXPORTER_OTLP_HEADERS.
    """
    from hoptrail.assembly import span_way
    from hoptrail.settings import load_settings

    if file == Path("-"):
        raise click.UsageError("without --file the lines go to stdout: leave it out")
    with closing(open_journal()) as journal:
        traces = [trace_of(journal, named) for named in run_ids]
    way = span_way(load_settings(otel_content=content))
    if endpoint is None and file is None:
        _print(traces, way)
    if file is not None:
        _append(traces, way, file)
    if endpoint is not None:
        _send(traces, way, endpoint)


def _print(traces: list[Trace], way: SpanWay) -> None:
    from hoptrail.otlp import otlp_line

    for trace in traces:
        click.echo(otlp_line(trace, way))


def _append(traces: list[Trace], way: SpanWay, file: Path) -> None:
    from hoptrail.otlp import append_line, otlp_line

    for trace in traces:
        line = otlp_line(trace, way)
        try:
            append_line(file, line)
        except OSError as error:
            error.add_note(f"run {trace.run_id} was not appended: name another file with --file")
            raise


def _send(traces: list[Trace], way: SpanWay, endpoint: str) -> None:
    from hoptrail.addresses import without_user
    from hoptrail.otlp import Sender, traces_address

    with closing(Sender(replace(way, address=traces_address(endpoint)))) as sender:
        for trace in traces:
            sender.send(trace)
            click.echo(f"sent run {trace.run_id} to {without_user(endpoint)}", err=True)
