"""``hoptrail ingest``: bring an index up to date with documents."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hoptrail.cli.choice import index_option

if TYPE_CHECKING:
    from hoptrail.corpus import Corpus
    from hoptrail.retrieval.ingest import IngestReport


@click.command(short_help="Bring an index up to date with documents.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True))
@index_option
def ingest(paths: tuple[str, ...], index: str | None) -> None:
    """Index the documents under each PATH; what has not changed is not read again.

    `hoptrail ask` with the same --docs, or with the same --index, answers from it.
    """
    from hoptrail.assembly import Assembly

    assembly = Assembly(docs=[Path(path) for path in paths], index=index)
    corpus = assembly.corpus
    assert corpus is not None  # there are paths
    report = _with_progress(corpus)
    _print(report, corpus.folder)
    assembly.close()


def _with_progress(corpus: Corpus) -> IngestReport:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from hoptrail.terminal.marks import ACCENT, QUIET, console
    from hoptrail.terminal.plain import one_line

    columns = (
        BarColumn(complete_style=ACCENT, finished_style=ACCENT),
        MofNCompleteColumn(),
        TextColumn("{task.description}", style=QUIET, markup=False),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("")

        def show(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=one_line(what, 50))

        report = asyncio.run(corpus.prepare(show))
    assert report is not None  # there are documents
    return report


def _print(report: IngestReport, folder: Path) -> None:
    from hoptrail.terminal.plain import amount, plain

    for path, reason in report.skipped:
        click.echo(plain(f"skipped {path}: {reason}"), err=True)
    for warning in report.warnings:
        click.echo(plain(f"warning: {warning}"), err=True)
    space = report.space.id if report.space else "words only"
    click.echo(
        f"{report.added} added, {report.changed} changed, {report.unchanged} unchanged, "
        f"{report.removed} removed, {len(report.skipped)} skipped"
    )
    click.echo(f"{amount(report.passages, 'passage')} ({space}) in {report.seconds:.1f} s")
    click.echo(plain(f"index: {folder}"))
