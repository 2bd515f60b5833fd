import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hoptrail.errors import HoptrailError, RunBusy, RunNotFound, TraceUnreadable
from hoptrail.journal import Journal
from hoptrail.trace import TRACE_VERSION, Trace


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "home")


def test_what_is_written_is_there_for_the_next_process(journal: Journal) -> None:
    journal.admit("r1", "Which river?", {"documents": "notes"}).release()
    journal.write("r1", "step:1", '{"answer": "Vltava"}')
    journal.close()
    again = Journal(journal.folder)
    assert again.entries("r1") == {"step:1": '{"answer": "Vltava"}'}
    row = again.run("r1")
    assert (row.question, row.options, row.status) == (
        "Which river?",
        {"documents": "notes"},
        "running",
    )
    again.close()


def test_an_admitted_run_keeps_its_question(journal: Journal) -> None:
    journal.admit("r1", "first", {"a": 1}).release()
    journal.admit("r1", "first", {"a": 2}).release()
    with pytest.raises(HoptrailError, match="first"):
        journal.admit("r1", "second", {"a": 2})
    assert not journal.alive("r1")
    assert (journal.run("r1").question, journal.run("r1").options) == ("first", {"a": 1})


def test_a_run_is_worked_on_by_one_at_a_time(journal: Journal) -> None:
    lock = journal.admit("r1", "q", {})
    with pytest.raises(RunBusy, match="r1"):
        Journal(journal.folder).admit("r1", "q", {})
    lock.release()
    journal.admit("r1", "q", {}).release()


HOLDER = """
import sys, time
from pathlib import Path
from hoptrail.journal import Journal
journal = Journal(Path(sys.argv[1]))
lock = journal.admit("r1", "q", {})
journal.write("r1", "step:1", "kept")
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_its_work_and_no_lock(journal: Journal) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(journal.folder)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunBusy):
            journal.admit("r1", "q", {})
        os.kill(holder.pid, signal.SIGKILL)
    journal.admit("r1", "q", {}).release()
    assert journal.entries("r1") == {"step:1": "kept"}


def test_how_a_run_ended_is_listed_newest_first(journal: Journal) -> None:
    for run_id in ("r1", "r2"):
        journal.admit(run_id, f"question {run_id}", {}).release()
        trace = Trace(run_id=run_id, question="q", status="answered", answer="42", degraded=True)
        trace.usage.wall_ms = 12.5
        journal.finish(trace)
    rows = journal.runs()
    assert [row.run_id for row in rows] == ["r2", "r1"]
    assert (rows[0].status, rows[0].answer, rows[0].degraded) == ("answered", "42", True)
    assert journal.runs(limit=1) == rows[:1]
    assert journal.trace("r1").usage.wall_ms == 12.5


@pytest.mark.parametrize("run_id", ["", "../x", "a/b", "a\n", "x" * 65, "é"])
def test_a_run_id_is_never_a_path(journal: Journal, run_id: str) -> None:
    with pytest.raises(RunNotFound, match="not a run id"):
        journal.admit(run_id, "q", {})
    with pytest.raises(RunNotFound, match="not a run id"):
        journal.trace(run_id)


def test_a_run_nobody_admitted_is_not_found(journal: Journal) -> None:
    with pytest.raises(RunNotFound, match="trace list"):
        journal.trace("r9")
    with pytest.raises(RunNotFound):
        journal.run("r9")


def test_a_trace_of_a_newer_version_is_refused_and_a_damaged_one_too(journal: Journal) -> None:
    journal.admit("r1", "q", {}).release()
    newer = Trace(run_id="r1", question="q", trace_version=TRACE_VERSION + 1)
    journal.save_trace(newer)
    with pytest.raises(TraceUnreadable, match="upgrade"):
        journal.trace("r1")
    journal.trace_path("r1").write_text('{"run_id": "r1"', encoding="utf-8")
    with pytest.raises(TraceUnreadable):
        journal.trace("r1")


def test_a_journal_of_a_newer_version_is_left_alone(journal: Journal) -> None:
    journal.admit("r1", "q", {}).release()
    journal.close()
    path = journal.folder / "journal.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(HoptrailError, match="newer Hoptrail"):
        Journal(journal.folder).runs()


def test_questions_are_private(journal: Journal) -> None:
    journal.admit("r1", "q", {}).release()
    mode = stat.S_IMODE((journal.folder / "journal.db").stat().st_mode)
    assert mode == 0o600
