"""Runs that a server has, without anybody having asked for them."""

from __future__ import annotations

from hoptrail.trace import Trace
from tests.serving import Server


def keep(server: Server, trace: Trace) -> str:
    """Put a run into the server's journal; give its id."""
    journal = server.trail.assembly.journal

    async def write() -> None:
        options: dict[str, object] = {"graph": trace.graph}
        lock = await journal.off_loop(journal.admit, trace.run_id, trace.question, options)
        await journal.off_loop(journal.let_go, trace, lock)

    server.run(write())
    return trace.run_id
