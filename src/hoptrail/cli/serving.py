"""The course of one ``hoptrail serve``: index, listen, say so, serve."""

from __future__ import annotations

import asyncio
from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from hoptrail.server.app import create_app
from hoptrail.server.launch import address_of, listener, server_of
from hoptrail.terminal.answer import print_skipped
from hoptrail.terminal.lines import waiting_told
from hoptrail.terminal.marks import console
from hoptrail.terminal.plain import plain

if TYPE_CHECKING:
    from hoptrail.backend import Availability
    from hoptrail.trail import Hoptrail


class Serving:
    """A trail to be served at an address; `run` serves it."""

    def __init__(self, trail: Hoptrail, host: str, port: int, *, access_log: bool) -> None:
        self._trail = trail
        self._app = create_app(trail, host=host)
        self._listener = listener(host, port)
        self._server = server_of(self._app, access_log=access_log, on_started=self._tell)

    def run(self) -> int | None:
        """Serve until a signal; gives the signal.

        Raises:
            RetrievalError: the documents or the index cannot be read.
        """
        with closing(self._listener):
            asyncio.run(self._serve())
        return self._server.stopped_by

    async def _serve(self) -> None:
        report = await self._trail.prepare(waiting_told(console(stderr=True)))
        if report is not None and report.skipped:
            print_skipped(console(stderr=True), report.skipped)
        _ = self._trail.graph  # compiled now rather than while the first one waits
        await self._server.serve(sockets=[self._listener])

    async def _tell(self) -> None:
        """Say on stderr where the server listens, what is up, and what it answers from."""
        assembly = self._trail.assembly
        doors = f"OpenAI's API: /v1 · MCP: {_MCP} · every route: /openapi.json"
        click.echo(f"Hoptrail listens at {address_of(self._listener)}  ({doors})", err=True)
        backends = await assembly.router.availability()
        documents = assembly.documents or "none (--docs PATH names some)"
        for line in (*map(_line, backends), f"documents: {documents}"):
            click.echo(plain(f"  {line}"), err=True)
        if not any(found.up and found.backend != "extractive" for found in backends):
            click.echo(_DEGRADED, err=True)


_MCP = "/mcp" if find_spec("mcp") else 'off, pip install "hoptrail[mcp]"'
_DEGRADED = "! no language model is up: `hoptrail doctor` says what each backend lacks"


def _line(found: Availability) -> str:
    name = f"{found.backend}:{found.model}" if found.model else found.backend
    return f"{name}: {found.state}" + (f" ({found.detail})" if found.detail else "")
