"""``hoptrail doctor``: what is up, what is not, and what to do about it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from hoptrail.cli.choice import documents_options
from hoptrail.cli.failure import ANSWERED, NO_BACKEND


@click.command()
@documents_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor(context: click.Context, docs: tuple[str, ...], index: str | None, as_json: bool) -> None:
    """Check backends, models, embedders, index and settings.

    Nothing is loaded and nothing is spent. Exit code 3 says that nothing could answer.
    """
    from hoptrail.assembly import Assembly
    from hoptrail.doctor import check_up
    from hoptrail.terminal.checkup import print_checkup
    from hoptrail.terminal.marks import console
    from hoptrail.terminal.plain import json_text

    assembly = Assembly(docs=[Path(path) for path in docs] or None, index=index)
    checkup = asyncio.run(check_up(assembly))
    assembly.close()
    if as_json:
        click.echo(json_text(checkup.model_dump(mode="json")))
    else:
        print_checkup(console(), checkup)
    context.exit(ANSWERED if checkup.can_answer else NO_BACKEND)
