"""``hoptrail mcp``: the tools of a trail for the program that starts it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing
from importlib.util import find_spec

import click

from hoptrail.cli.choice import documents_options, model_options, settings_for, tool_option
from hoptrail.cli.failure import Interrupted
from hoptrail.errors import SettingsError


@click.command(short_help="Serve agents over MCP, on stdin and stdout.")
@documents_options
@model_options
@tool_option
def mcp(
    docs: tuple[str, ...],
    index: str | None,
    model: tuple[str, str] | None,
    backend: str | None,
    tools: tuple[str, ...],
) -> None:
    """Serve the Model Context Protocol on stdin and stdout.

    Tools: ask, search, get_trace; resources: the traces of runs. An MCP client starts this
    command itself: "command": "hoptrail", "args": ["mcp", "--docs", "notes/"]. It ends when the
    client closes stdin; open runs can be resumed.
    """
    if find_spec("mcp") is None:
        raise SettingsError('MCP needs its extra: pip install "hoptrail[mcp]"')
    settings = settings_for(backend, model, tools=tools or None)
    from hoptrail.cli.stdio import ProtocolStdio

    if sys.stdin.isatty():
        click.echo("an MCP client starts this command itself; Ctrl-C ends it", err=True)
    stdio = ProtocolStdio()  # before anything is loaded that might print
    from hoptrail.mcp_transport import serve_stdio
    from hoptrail.trail import Hoptrail

    with closing(Hoptrail(docs or None, index=index, settings=settings)) as trail:
        if asyncio.run(serve_stdio(trail, stdio.lines(), stdio.out)):
            raise Interrupted
