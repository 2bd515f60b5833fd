"""The runs there were, as the commands on them look them up: by id, or as "last"."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hoptrail.journal import Journal
    from hoptrail.trace import Trace

LAST = "last"


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
    """Give the record of a run.

    Raises:
        RunNotFound: there is none.
        TraceUnreadable: it is damaged or of a newer version.
    """
    record = journal.trace(run_id_of(journal, named))
    return record.model_copy(update=became(record.run_id, record.status, journal))


def became(run_id: str, status: str, journal: Journal) -> dict[str, str]:
    """Give what has become of a run: a process that was killed could not say so."""
    killed = status == "running" and not journal.alive(run_id)
    return {"status": "interrupted"} if killed else {}
