"""Waiting for what another process does, on a machine that may have much else to do."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

from hoptrail.settings import load_settings

PATIENCE = 100.0
"""Seconds for a process to start, or to end: it takes one or two."""
_REPLIES = ("plan", "next", "step", "synthesis")


def until(happened: Callable[[], bool]) -> None:
    """Wait for something."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def kept_calls() -> int:
    """Count the calls whose replies are committed.

    A plan's first step begins while the rest of the plan still comes, so that a call that is
    under way says nothing of the plan's end.
    """
    with closing(sqlite3.connect(load_settings().home / "journal.db")) as journal:
        keys = journal.execute("SELECT key FROM entries").fetchall()
    return sum(key.partition(":")[0] in _REPLIES for (key,) in keys)
