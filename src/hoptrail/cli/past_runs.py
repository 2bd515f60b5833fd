"""The runs there were, as the commands on them look them up: by id, as "last", or as a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hoptrail.journal import Journal
    from hoptrail.trace import Trace

LAST = "last"
_STDIN = "-"


def open_journal() -> Journal:
    """Give the journal under the home folder; whoever opens it closes it."""
    from hoptrail.journal import Journal
    from hoptrail.settings import load_settings

    return Journal(load_settings().home)


def run_id_of(journal: Journal, named: str) -> str:
    """Give the id of a run; ``last`` names the newest.

    Raises:
        RunNotFound: there is no run yet.
    """
    if named != LAST:
        return named
    from hoptrail.errors import RunNotFound

    newest = journal.runs(limit=1)
    if not newest:
        raise RunNotFound("there is no run yet: `hoptrail ask QUESTION` makes one")
    return newest[0].run_id


def trace_of(journal: Journal, named: str) -> Trace:
    """Give the record of a run, or the one in a file that somebody sent; ``-`` is stdin.

    Raises:
        RunNotFound: there is none.
        TraceUnreadable: it is damaged or of a newer version.
    """
    from hoptrail.errors import RunNotFound
    from hoptrail.journal import is_run_id
    from hoptrail.trace import read_trace

    if named == _STDIN:
        return read_trace(sys.stdin.buffer.read(), "stdin")
    if is_run_id(named):
        return journal.trace(run_id_of(journal, named))
    path = Path(named)
    if not path.exists() or path.is_dir():
        raise RunNotFound(f"{named!r} is neither the id of a run nor a file with a trace")
    return read_trace(path.read_bytes(), named)
