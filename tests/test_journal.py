import asyncio
import gc
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from filelock import FileLock

from hoptrail import sqlite_file
from hoptrail.errors import (
    HoptrailError,
    RunBusy,
    RunNotFound,
    RunOfAnother,
    StorageFailed,
    TraceUnreadable,
)
from hoptrail.journal import Journal, is_run_id
from hoptrail.journal_file import folded
from hoptrail.secrecy import Secrets
from hoptrail.sqlite_file import Transaction, make_private
from hoptrail.trace import TRACE_VERSION, Call, StepTrace, Trace
from tests.first_journal import write_first_journal


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
    assert (row.question, row.options) == ("Which river?", {"documents": "notes"})
    again.close()


def test_an_admitted_run_keeps_its_question(journal: Journal) -> None:
    journal.admit("r1", "first", {"a": 1}).release()
    assert journal.run("r1").graph == "multi-hop"
    journal.admit("r1", "first", {"a": 2}).release()
    with pytest.raises(HoptrailError, match="first"):
        journal.admit("r1", "second", {"a": 2})
    assert not journal.alive("r1")
    assert (journal.run("r1").question, journal.run("r1").options) == ("first", {"a": 1})


@pytest.mark.promise("one-owner-per-run")
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


@pytest.mark.promise("one-owner-per-run")
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
    with pytest.raises(TraceUnreadable, match=r"r1\.json is damaged"):
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


OPENER = """
import sys
from pathlib import Path
from hoptrail.journal import Journal
sys.stdin.readline()
print([(row.run_id, row.graph) for row in Journal(Path(sys.argv[1])).runs()])
"""


def spoil(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "journal.db")
    with connection:
        connection.execute(statement)
    connection.close()


def version_of(folder: Path) -> int:
    connection = sqlite3.connect(folder / "journal.db")
    try:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return version
    finally:
        connection.close()


class TestVersions:
    def test_an_older_journal_is_brought_up_with_all_it_holds(self, tmp_path: Path) -> None:
        journal = Journal(write_first_journal(tmp_path / "home"))
        newest, oldest = journal.runs()
        assert (newest.graph, oldest.graph) == ("iterative", "multi-hop")
        assert (oldest.answer, oldest.wall_ms, oldest.parent_run_id) == ("Kafka", 12.5, "")
        assert (oldest.llm_calls, oldest.steps) == (0, 0)
        assert journal.entries("r1") == {"step:1": "kept"}
        journal.admit("r3", "Who?", {"graph": "chat"}).release()
        assert journal.run("r3").graph == "chat"
        journal.close()
        assert version_of(journal.folder) == 2

    @pytest.mark.parametrize("older", [False, True])
    def test_processes_that_open_it_at_once_do_not_collide(
        self, tmp_path: Path, older: bool
    ) -> None:
        folder = tmp_path / "home"
        if older:
            write_first_journal(folder)
        opening = [
            subprocess.Popen(
                [sys.executable, "-c", OPENER, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for each in opening:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        told = [each.communicate(timeout=50) for each in opening]
        held = "[('r2', 'iterative'), ('r1', 'multi-hop')]\n" if older else "[]\n"
        assert told == [(held, "")] * 4
        assert version_of(folder) == 2

    def test_a_migration_that_fails_leaves_the_journal_as_it_was(self, tmp_path: Path) -> None:
        folder = write_first_journal(tmp_path / "home")
        spoil(folder, "ALTER TABLE runs ADD COLUMN steps")
        with pytest.raises(sqlite3.OperationalError, match="duplicate column"):
            Journal(folder).runs()
        assert version_of(folder) == 1
        connection = sqlite3.connect(folder / "journal.db")
        columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
        connection.close()
        assert "graph" not in columns

    def test_a_row_that_is_damaged_keeps_nobody_from_the_others(self, tmp_path: Path) -> None:
        folder = write_first_journal(tmp_path / "home")
        spoil(folder, "UPDATE runs SET options = 'no JSON' WHERE run_id = 'r2'")
        journal = Journal(folder)
        assert journal.run("r1").answer == "Kafka"
        journal.close()


@pytest.fixture
def runs(journal: Journal) -> Journal:
    """Runs ``a`` to ``f``, begun in this order."""
    for run_id, question, status, backend, degraded, took in (
        ("a", "Wer schrieb Die Verwandlung?", "answered", "ollama", False, 30.0),
        ("b", "Welche STRASSE? 100% _sicher_", "failed", "", False, 10.0),
        ("c", "Cafe\u0301 in Köln?", "abstained", "huggingface", False, 20.0),
        ("d", "which river?", "answered", "extractive", True, 40.0),
        ("e", "Which town?", "answered", "my-ollama", False, 20.0),
    ):
        lock = journal.admit(run_id, question, {"graph": "multi-hop"})
        trace = Trace.model_validate(
            {"run_id": run_id, "question": question, "status": status, "degraded": degraded}
        )
        trace.usage.wall_ms, trace.usage.llm_calls = took, 3
        if backend:
            trace.plan.calls = [Call(purpose="plan", backend=backend)]
        trace.steps = [StepTrace(id=1, question="x")] * 2
        journal.let_go(trace, lock)
    journal.admit("f", "Who was killed?", {"graph": "iterative"}).release()
    return journal


class TestFilters:
    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({}, "fedcba"),
            ({"status": "answered"}, "eda"),
            ({"status": "failed"}, "b"),
            ({"backend": "ollama"}, "a"),
            ({"backend": "OLLAMA"}, ""),
            ({"backend": "ollama,"}, ""),
            ({"degraded": True}, "d"),
            ({"degraded": False}, "fecba"),
            ({"question": "WHICH"}, "ed"),
            ({"question": "straße"}, "b"),
            ({"question": "100%"}, "b"),
            ({"question": "%"}, "b"),
            ({"question": "_"}, "b"),
            ({"question": "CAF\u00c9"}, "c"),
            ({"question": "KÖLN"}, "c"),
            ({"question": "'; DROP TABLE runs; --"}, ""),
            ({"question": "\udcff"}, ""),
            ({"question": "which", "status": "answered", "degraded": True}, "d"),
            ({"sort": "oldest"}, "abcdef"),
            ({"sort": "slowest"}, "daecbf"),
            ({"sort": "fastest"}, "becadf"),
            ({"sort": "question"}, "cbadef"),
            ({"limit": 2}, "fe"),
            ({"limit": 2, "offset": 4}, "ba"),
            ({"limit": 9, "offset": 99}, ""),
        ],
    )
    def test_the_runs_that_are_wanted_are_given_in_order(
        self, runs: Journal, wanted: dict[str, Any], found: str
    ) -> None:
        assert "".join(row.run_id for row in runs.runs(**wanted)) == found

    def test_since_and_before_bound_when_they_began(self, runs: Journal) -> None:
        began = {row.run_id: row.created for row in runs.runs()}
        found = runs.runs(since=began["b"], before=began["d"])
        assert [row.run_id for row in found] == ["c", "b"]

    def test_how_a_run_went_is_in_its_row(self, runs: Journal) -> None:
        row = runs.run("a")
        assert (row.llm_calls, row.steps, row.backends) == (3, 2, "ollama"), "also the plan's"
        assert row.parent_run_id == ""

    def test_a_run_whose_process_was_killed_is_found_as_interrupted(self, runs: Journal) -> None:
        lock = runs.admit("g", "Who goes on?", {})
        assert [row.run_id for row in runs.runs(status="interrupted")] == ["f"]
        assert [row.run_id for row in runs.runs(status="running")] == ["g"]
        assert (runs.run("f").status, runs.run("g").status) == ("interrupted", "running")
        lock.release()
        assert runs.run("g").status == "interrupted"
        runs.save_trace(Trace(run_id="f", question="Who was killed?"))
        assert runs.trace("f").status == "interrupted"

    def test_what_is_left_of_a_killed_run_can_be_resumed(self, runs: Journal) -> None:
        assert runs.run("f").status == "interrupted"
        lock = runs.admit("f", "Who was killed?", {})
        assert runs.run("f").status == "running"
        lock.release()


KEY = 'my "own" k3y'


class TestSecrets:
    def test_no_known_value_reaches_the_disk(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "home", Secrets([KEY]))
        said = f"It is {KEY}."
        lock = journal.admit("r1", said, {"documents": said})
        journal.write("r1", "step:1", json.dumps({"answer": said}))
        journal.let_go(Trace(run_id="r1", question=said, answer=said, warnings=[said]), lock)
        journal.admit("r1", said, {}).release()
        assert json.loads(journal.entries("r1")["step:1"]) == {"answer": "It is …."}
        assert journal.trace("r1").warnings == ["It is …."]
        assert journal.run("r1").answer == "It is …."
        journal.close()
        for file in journal.folder.rglob("*"):
            if file.is_file():
                held = file.read_bytes()
                assert KEY.encode() not in held, file
                assert json.dumps(KEY)[1:-1].encode() not in held, file

    def test_what_only_looks_like_a_secret_is_kept_as_it_was_said(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "home", Secrets([KEY]))
        said = "hf_aB3dE6gH9jK2mN5pQ8sT1vW4"
        journal.admit("r1", said, {}).release()
        journal.save_trace(Trace(run_id="r1", question=said))
        assert journal.trace("r1").question == said


@pytest.mark.promise("one-owner-per-run")
class TestWhoOnlyLooks:
    """Whoever lists runs asks of each whether its process lives; nobody may lose a run to that."""

    def test_a_run_that_is_looked_at_can_be_taken_up(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hoptrail.journal._TAKING_SECONDS", 30.0)  # who looks may be held up
        journal.admit("r1", "q", {}).release()
        looking = FileLock(journal.folder / "locks" / "r1.lock", thread_local=False)
        looking.acquire()
        with ThreadPoolExecutor(1) as pool:
            taken = pool.submit(journal.admit, "r1", "q", {})
            looking.release()
            taken.result(40).release()

    def test_a_dead_run_is_not_noted_as_interrupted_once_it_was_taken_up_again(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal.admit("r1", "q", {}).release()
        other = Journal(journal.folder)
        locks = []

        def dead(run_id: str) -> bool:
            locks.append(other.admit(run_id, "q", {}))
            return False

        monkeypatch.setattr(journal, "alive", dead)
        assert journal.run("r1").status == "running"
        locks[0].release()
        other.close()

    def test_what_a_killed_process_left_half_written_goes(self, journal: Journal) -> None:
        lock = journal.admit("r1", "q", {})
        half = journal.folder / "traces" / "r1.partial"
        half.write_text('{"run_id": "r', encoding="utf-8")
        other = Journal(journal.folder)
        assert other.runs()[0].status == "running"
        assert half.exists(), "it is being written"
        lock.release()
        assert other.runs()[0].status == "interrupted"
        assert not half.exists()
        other.close()


def failed_at(error: type[BaseException], fault: str) -> Any:
    """Give a function that fails so."""

    def fail(*_: object, **__: object) -> None:
        raise error(fault)

    return fail


class TestWords:
    """What an error says is all that its reader has."""

    def test_of_a_run_that_asks_something_else(self, journal: Journal) -> None:
        journal.admit("r1", "x" * 300, {}).release()
        with pytest.raises(RunOfAnother) as other:
            journal.admit("r1", "another", {})
        said = f"run r1 asks {'x' * 200!r}: another question needs another run"
        assert str(other.value) == said
        assert not journal.alive("r1"), "the lock was given back"

    def test_of_a_run_that_somebody_has(self, journal: Journal) -> None:
        lock = journal.admit("r1", "q", {})
        with pytest.raises(RunBusy, match=r"^run r1 is being worked on by this process$"):
            journal.admit("r1", "q", {})
        other = Journal(journal.folder)
        with pytest.raises(RunBusy, match=r"^run r1 is being worked on by another process$"):
            other.admit("r1", "q", {})
        other.close()
        lock.release()

    def test_of_a_run_that_is_not_there(self, journal: Journal) -> None:
        for give in (journal.run, journal.trace):
            with pytest.raises(RunNotFound) as missing:
                give("r9")
            assert str(missing.value) == "there is no run 'r9': `hoptrail trace list` shows them"
        with pytest.raises(RunNotFound) as wrong:
            journal.fork("a/b", "q", {}, {})
        said = "'a/b' is not a run id: letters, digits, - and _, at most 64"
        assert str(wrong.value) == said
        journal.admit("r1", "q", {}).release()
        with pytest.raises(RunNotFound, match=r"^run r1 was admitted but has no trace yet$"):
            journal.trace("r1")

    def test_of_a_row_that_is_damaged(self, tmp_path: Path) -> None:
        folder = write_first_journal(tmp_path / "home")
        spoil(folder, "UPDATE runs SET options = 'no JSON' WHERE run_id = 'r2'")
        journal = Journal(folder)
        said = "the journal's row of run 'r2' is damaged: other runs are not"
        for look in (lambda: journal.run("r2"), journal.runs):
            with pytest.raises(StorageFailed) as damaged:
                look()
            assert str(damaged.value) == said
        journal.close()

    def test_of_a_journal_that_is_newer_or_none(self, tmp_path: Path) -> None:
        folder = write_first_journal(tmp_path / "home")
        path = folder / "journal.db"
        spoil(folder, "PRAGMA user_version = 3")
        before = path.read_bytes()
        with pytest.raises(StorageFailed) as newer:
            Journal(folder).runs()
        assert str(newer.value) == (
            f"{path} was written by a newer Hoptrail (journal version 3, this one knows 2): "
            "upgrade with `pip install -U hoptrail`"
        )
        assert path.read_bytes() == before
        for stump in (b"no database", before[:511], b"x" * 4096):
            path.write_bytes(stump)
            with pytest.raises(StorageFailed) as damaged:
                Journal(folder).runs()
            said = f"{path} is damaged, or no database: move it away to begin a new one"
            assert str(damaged.value) == said
            assert path.read_bytes() == stump

    def test_of_a_process_that_was_forked(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal.admit("r1", "q", {}).release()
        monkeypatch.setattr(os, "getpid", lambda: -1)
        said = (
            f"{journal.folder} was opened before this process was forked: "
            "make a Hoptrail of its own in each process"
        )
        with pytest.raises(StorageFailed) as forked:
            journal.runs()
        assert str(forked.value) == said
        with pytest.raises(StorageFailed) as forked:
            asyncio.run(journal.off_loop(journal.runs))
        assert str(forked.value) == said

    @pytest.mark.parametrize("error", [sqlite3.OperationalError, OSError])
    def test_of_a_disk_that_refuses(self, journal: Journal, error: type[Exception]) -> None:
        with pytest.raises(StorageFailed) as refused:
            asyncio.run(journal.off_loop(failed_at(error, "no room")))
        assert str(refused.value) == f"the journal in {journal.folder} is not usable: no room"
        with pytest.raises(KeyError):
            asyncio.run(journal.off_loop(failed_at(KeyError, "its own")))

    def test_of_a_disk_that_does_not_answer(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite_file, "DISK_SECONDS", 0.05)
        answers = threading.Event()
        with pytest.raises(StorageFailed) as slow:
            asyncio.run(journal.off_loop(answers.wait, timeout=20))
        assert str(slow.value) == (
            f"the disk under {journal.folder} has not answered for 0.05 s: see to it, then resume "
            "the run by its id"
        )
        answers.set()
        journal.close()


class TestForks:
    OPTIONS: ClassVar[dict[str, object]] = {"graph": "iterative", "parent_run_id": "r0", "n": KEY}

    def test_one_begins_with_the_work_of_another_and_can_be_resumed(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "home", Secrets([KEY]))
        before = datetime.fromtimestamp(round(time.time(), 6), UTC)
        journal.fork(
            "r1", f"Who has {KEY}?", self.OPTIONS, {"plan": json.dumps(KEY), "step:1": "x"}
        )
        row = journal.run("r1")
        assert before <= row.created == row.updated <= datetime.now(UTC)
        assert (row.question, row.status) == ("Who has …?", "interrupted")
        assert (row.graph, row.parent_run_id) == ("iterative", "r0")
        assert row.options == {**self.OPTIONS, "n": "…"}
        assert journal.entries("r1") == {"plan": '"…"', "step:1": "x"}
        journal.admit("r1", f"Who has {KEY}?", {}).release()
        journal.close()

    def test_it_began_when_its_row_says(self, journal: Journal) -> None:
        """To the last digit that a time has: a page of a list may end at it."""
        for run_id in "abcdefgh":
            journal.fork(run_id, "q", self.OPTIONS, {})
            (newest, *_) = journal.runs()
            assert journal.runs(since=newest.created) == [newest]

    def test_none_takes_the_place_of_a_run(self, journal: Journal) -> None:
        journal.admit("r1", "q", {}).release()
        with pytest.raises(RunOfAnother) as taken:
            journal.fork("r1", "another", self.OPTIONS, {"step:1": "x"})
        said = "there is a run r1 already: a fork needs an id of its own"
        assert str(taken.value) == said
        assert journal.entries("r1") == {}
        assert journal.run("r1").question == "q"


class TestEnds:
    def test_all_that_a_run_came_to_is_in_its_row(self, journal: Journal) -> None:
        lock = journal.admit("r1", "q", {"graph": "chat"})
        begun = journal.run("r1")
        assert (begun.status, begun.graph, begun.created) == ("running", "chat", begun.updated)
        trace = Trace(run_id="r1", question="q", status="failed", answer="a", stop_reason="error")
        trace.graph, trace.parent_run_id, trace.degraded = "iterative", "r0", True
        trace.usage.wall_ms, trace.usage.llm_calls = 12.5, 4
        called = [Call(purpose="plan", backend=name) for name in ("two", "one", "", "two")]
        trace.plan.calls = called
        trace.steps = [StepTrace(id=1, question="x")] * 3
        journal.let_go(trace, lock)
        row = journal.run("r1")
        assert begun.updated < row.updated
        assert (row.status, row.answer, row.stop_reason) == ("failed", "a", "error")
        assert (row.graph, row.parent_run_id, row.degraded) == ("iterative", "r0", True)
        assert (row.wall_ms, row.llm_calls, row.steps) == (12.5, 4, 3)
        assert row.backends == "one,two"
        assert not journal.alive("r1")
        assert journal.trace("r1").answer == "a"

    def test_a_trace_that_cannot_be_kept_is_a_warning_and_nothing_is_left_of_it(
        self, journal: Journal
    ) -> None:
        lock = journal.admit("r1", "q", {})
        (journal.folder / "traces" / "r1.json").mkdir()
        trace = Trace(run_id="r1", question="q", status="answered")
        journal.let_go(trace, lock)
        (warning,) = trace.warnings
        assert warning.startswith("the trace of this run could not be written: [Errno ")
        assert journal.run("r1").status == "answered"
        assert [each.name for each in (journal.folder / "traces").iterdir()] == ["r1.json"]

    def test_nor_is_what_cannot_be_cleared_away_in_anybodys_way(self, journal: Journal) -> None:
        lock = journal.admit("r1", "q", {})
        (journal.folder / "traces" / "r1.partial").mkdir()
        trace = Trace(run_id="r1", question="q", status="answered")
        journal.let_go(trace, lock)
        assert len(trace.warnings) == 1
        assert journal.run("r1").status == "answered"
        assert not journal.alive("r1")

    def test_the_lock_is_given_back_though_the_end_cannot_be_noted(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lock = journal.admit("r1", "q", {})
        monkeypatch.setattr(journal, "finish", failed_at(OSError, "no room"))
        with pytest.raises(OSError, match="no room"):
            journal.let_go(Trace(run_id="r1", question="q"), lock)
        assert not lock.is_locked

    def test_of_a_killed_run_it_is_said_why_it_stopped(self, journal: Journal) -> None:
        journal.admit("r1", "q", {}).release()
        journal.admit("r2", "q", {}).release()
        row = journal.run("r1")
        assert (row.status, row.stop_reason) == ("interrupted", "interrupted")
        connection = sqlite3.connect(journal.folder / "journal.db")
        (other,) = connection.execute("SELECT status FROM runs WHERE run_id = 'r2'").fetchone()
        connection.close()
        assert other == "running", "only the one that was asked for is looked at"

    def test_a_trace_that_says_running_is_believed_while_somebody_works(
        self, journal: Journal
    ) -> None:
        lock = journal.admit("r1", "q", {})
        journal.save_trace(Trace(run_id="r1", question="q"))
        assert journal.trace("r1").status == "running"
        lock.release()
        assert journal.trace("r1").status == "interrupted"
        journal.save_trace(Trace(run_id="r1", question="q", status="answered"))
        assert journal.trace("r1").status == "answered"

    def test_work_that_is_written_again_replaces_what_there_was(self, journal: Journal) -> None:
        journal.admit("r1", "q", {}).release()
        journal.admit("r2", "q", {}).release()
        for value in ("first", "second"):
            journal.write("r1", "step:1", value)
        journal.write("r2", "step:1", "other")
        assert journal.entries("r1") == {"step:1": "second"}


class TestFiles:
    def test_all_are_for_their_owner_alone(self, journal: Journal) -> None:
        mask = os.umask(0)
        try:
            journal.admit("r1", "q", {}).release()
        finally:
            os.umask(mask)
        modes = {
            each.name: stat.S_IMODE(each.stat().st_mode)
            for each in (journal.folder, *journal.folder.iterdir())
        }
        assert {modes[name] for name in ("home", "traces", "locks")} == {0o700}
        assert modes["journal.db"] == 0o600

    def test_their_folder_is_made_with_those_above_it(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b" / "store.db"
        make_private(path)
        make_private(path)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_what_is_committed_survives_a_power_cut(self, journal: Journal) -> None:
        """In WAL mode, each commit is brought to the disk."""
        connection = journal._open()
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert connection.execute("PRAGMA busy_timeout").fetchone()[0] == 30_000

    def test_a_write_that_fails_leaves_no_transaction_open(self, journal: Journal) -> None:
        journal.admit("r1", "q", {}).release()
        other = Journal(journal.folder)
        twice = [("r1", "half", "x", 1)] * 2
        with pytest.raises(sqlite3.IntegrityError), journal._writing() as connection:
            connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", twice)
        assert other.entries("r1") == {}
        with ThreadPoolExecutor(1) as pool:
            pool.submit(journal.write, "r1", "step:1", "x").result(20)
        other.write("r1", "step:2", "y")
        assert journal.entries("r1") == {"step:1": "x", "step:2": "y"}
        other.close()

    def test_threads_take_turns_with_its_one_connection(self, journal: Journal) -> None:
        journal.admit("r1", "q", {}).release()
        keys = [f"step:{number}" for number in range(200)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda key: journal.write("r1", key, "x"), keys))
        assert journal.entries("r1") == dict.fromkeys(keys, "x")

    def test_one_that_only_reads_keeps_nobody_from_writing(self, journal: Journal) -> None:
        journal.admit("r1", "q", {}).release()
        path = journal.folder / "journal.db"
        reader, writer, other = (
            sqlite3.connect(path, isolation_level=None, timeout=0) for _ in range(3)
        )
        count = "SELECT count(*) FROM entries"
        with Transaction(reader, reading=True) as reading:
            assert reading.execute(count).fetchone() == (0,)
            with Transaction(writer) as writing:
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    Transaction(other).__enter__()
                writing.execute("INSERT INTO entries VALUES ('r1', 'k', 'v', 1)")
            assert reading.execute(count).fetchone() == (0,), "what it sees stays as it was"
        assert reader.execute(count).fetchone() == (1,)
        for each in (reader, writer, other):
            each.close()

    def test_closing_finishes_what_is_under_way_and_the_file_can_be_moved(
        self, journal: Journal
    ) -> None:
        journal.admit("r1", "q", {}).release()
        journal.close()
        assert sorted(each.name for each in journal.folder.iterdir()) == [
            "journal.db",
            "journal.lock",
            "locks",
            "traces",
        ]
        with pytest.raises(sqlite3.ProgrammingError):
            journal.entries("r1")

    def test_what_nobody_waits_for_any_more_is_done_and_fails_in_silence(
        self, journal: Journal
    ) -> None:
        told: list[object] = []
        went_on = threading.Event()

        def fail() -> None:
            went_on.wait(20)
            raise OSError("no room")

        async def leave() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, context: told.append(context))
            asking = asyncio.ensure_future(journal.off_loop(fail))
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            went_on.set()
            assert await journal.off_loop(lambda: "next") == "next"

        asyncio.run(leave())
        gc.collect()
        assert told == []

    def test_its_work_has_a_thread_of_its_own(self, journal: Journal) -> None:
        async def names() -> set[str]:
            asked = [journal.off_loop(threading.current_thread) for _ in range(5)]
            return {thread.name for thread in await asyncio.gather(*asked)}

        assert asyncio.run(names()) == {"hoptrail-journal_0"}
        journal.close()


@pytest.mark.parametrize(
    ("text", "same", "valid"),
    [("é", "E\u0301", False), ("Straße", "STRASSE", False), ("a-B_9", "A-b_9", True)],
)
def test_questions_are_compared_in_any_case_and_ids_are_plain(
    text: str, same: str, valid: bool
) -> None:
    assert folded(text) == folded(same) != folded(text + "x")
    assert is_run_id(text) is valid
    assert not is_run_id("x" * 65)
    assert is_run_id("x" * 64)
