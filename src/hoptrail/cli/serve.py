"""``hoptrail serve``: the HTTP server."""

from __future__ import annotations

import signal
from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from hoptrail.cli.choice import documents_options, model_options, settings_for, tool_option
from hoptrail.cli.failure import Interrupted
from hoptrail.errors import SettingsError

if TYPE_CHECKING:
    from hoptrail.settings import Settings

EXTRA = 'the server needs its extra: pip install "hoptrail[server]"'


class Flags(TypedDict):
    """All flags of ``hoptrail serve``."""

    host: str
    port: int
    docs: tuple[str, ...]
    index: str | None
    model: tuple[str, str] | None
    backend: str | None
    tools: tuple[str, ...]
    allow_host: tuple[str, ...]
    allow_origin: tuple[str, ...]
    access_log: bool


@click.command(short_help="Answer over HTTP.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    default=8700,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen at; 0 takes a free one.",
)
@documents_options
@model_options
@tool_option
@click.option(
    "--allow-host", multiple=True, metavar="NAME", help="Answer to this name too, as a proxy's."
)
@click.option(
    "--allow-origin", multiple=True, metavar="URL", help="Let pages of this origin call, too."
)
@click.option("--access-log", is_flag=True, help="Tell each request on stderr.")
def serve(**flags: Unpack[Flags]) -> None:
    """Answer over HTTP until Ctrl-C or SIGTERM.

    Any address that others can reach needs HOPTRAIL_API_TOKEN, which clients then send as a
    bearer token. Told to stop, the server takes no more runs and gives those under way 10
    seconds; a second Ctrl-C ends them at once. What is finished is kept, and can be resumed.
    The exit code is 130 after Ctrl-C and 0 after SIGTERM.
    """
    if not (find_spec("fastapi") and find_spec("uvicorn")):
        raise SettingsError(EXTRA)
    settings = _settings(flags)
    from hoptrail.cli.serving import Serving
    from hoptrail.server.visitors import is_loopback

    if settings.api_token is None and not is_loopback(flags["host"]):
        raise click.UsageError(
            f"others can reach {flags['host']}: set HOPTRAIL_API_TOKEN to what clients are to "
            "send as a bearer token, or listen at 127.0.0.1"
        )
    from hoptrail.trail import Hoptrail

    with closing(Hoptrail(flags["docs"] or None, index=flags["index"], settings=settings)) as trail:
        serving = Serving(trail, flags["host"], flags["port"], access_log=flags["access_log"])
        stopped_by = serving.run()
    if stopped_by == signal.SIGINT:
        raise Interrupted


def _settings(flags: Flags) -> Settings:
    settings = settings_for(flags["backend"], flags["model"], tools=flags["tools"] or None)
    added = {
        "allowed_hosts": (*settings.allowed_hosts, *flags["allow_host"]),
        "allowed_origins": (*settings.allowed_origins, *flags["allow_origin"]),
    }
    return settings.model_copy(update=added)
