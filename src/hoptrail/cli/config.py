"""``hoptrail config``: what is set, and where it was set."""

from __future__ import annotations

from dataclasses import asdict

import click


@click.group()
def config() -> None:
    """Look at the settings."""


@config.command(short_help="Show each setting and where it came from.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def show(as_json: bool) -> None:
    """Show each setting's value and where it came from; secrets are masked."""
    from hoptrail.settings import load_settings, origins
    from hoptrail.terminal.marks import console
    from hoptrail.terminal.plain import json_text, plain
    from hoptrail.terminal.values import print_values

    settings = load_settings()
    if as_json:
        click.echo(json_text([asdict(origin) for origin in origins(settings)]))
    else:
        print_values(console(), origins(settings))
    for warning in settings.warnings:
        click.echo(plain(f"warning: {warning}"), err=True)
