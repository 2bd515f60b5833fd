import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from hoptrail.errors import HoptrailError, RunBusy, RunNotFound, TraceUnreadable
from hoptrail.journal import Journal
from hoptrail.secrecy import Secrets
from hoptrail.trace import TRACE_VERSION, Call, StepTrace, Trace


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


FIRST_VERSION = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, question TEXT NOT NULL, options TEXT NOT NULL,
    status TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
    answer TEXT NOT NULL DEFAULT '', backends TEXT NOT NULL DEFAULT '',
    degraded INTEGER NOT NULL DEFAULT 0, wall_ms REAL NOT NULL DEFAULT 0,
    stop_reason TEXT NOT NULL DEFAULT '');
CREATE TABLE entries (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE, key TEXT NOT NULL,
    value TEXT NOT NULL, created REAL NOT NULL, PRIMARY KEY (run_id, key)) WITHOUT ROWID;
CREATE INDEX runs_by_time ON runs (created);
INSERT INTO runs VALUES
    ('r1', 'Who?', '{"documents": "notes"}', 'answered', 1, 2, 'Kafka', 'ollama', 0, 12.5, ''),
    ('r2', 'Who?', '{"graph": "iterative"}', 'failed', 2, 3, '', '', 0, 1, 'error');
INSERT INTO entries VALUES ('r1', 'step:1', 'kept', 1);
PRAGMA user_version = 1;
"""
OPENER = """
import sys
from pathlib import Path
from hoptrail.journal import Journal
sys.stdin.readline()
print([(row.run_id, row.graph) for row in Journal(Path(sys.argv[1])).runs()])
"""


def of_first_version(folder: Path) -> Path:
    folder.mkdir()
    connection = sqlite3.connect(folder / "journal.db")
    connection.executescript(FIRST_VERSION)
    connection.close()
    return folder


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
        journal = Journal(of_first_version(tmp_path / "home"))
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
            of_first_version(folder)
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
        folder = of_first_version(tmp_path / "home")
        spoil(folder, "ALTER TABLE runs ADD COLUMN steps")
        with pytest.raises(sqlite3.OperationalError, match="duplicate column"):
            Journal(folder).runs()
        assert version_of(folder) == 1
        connection = sqlite3.connect(folder / "journal.db")
        columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
        connection.close()
        assert "graph" not in columns

    def test_a_row_that_is_damaged_keeps_nobody_from_the_others(self, tmp_path: Path) -> None:
        folder = of_first_version(tmp_path / "home")
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
        ids=str,
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


class TestSecrets:
    KEY = 'my "own" k3y'

    def test_no_known_value_reaches_the_disk(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "home", Secrets([self.KEY]))
        said = f"It is {self.KEY}."
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
                assert self.KEY.encode() not in held, file
                assert json.dumps(self.KEY)[1:-1].encode() not in held, file

    def test_what_only_looks_like_a_secret_is_kept_as_it_was_said(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "home", Secrets([self.KEY]))
        said = "hf_aB3dE6gH9jK2mN5pQ8sT1vW4"
        journal.admit("r1", said, {}).release()
        journal.save_trace(Trace(run_id="r1", question=said))
        assert journal.trace("r1").question == said


@pytest.mark.promise("one-owner-per-run")
class TestWhoOnlyLooks:
    """Whoever lists runs asks of each whether its process lives; nobody may lose a run to that."""

    def test_a_run_that_is_looked_at_can_be_taken_up(self, journal: Journal) -> None:
        journal.admit("r1", "q", {}).release()
        looking = FileLock(journal.folder / "locks" / "r1.lock", thread_local=False)
        looking.acquire()
        with ThreadPoolExecutor(1) as pool:
            taken = pool.submit(journal.admit, "r1", "q", {})
            looking.release()
            taken.result(20).release()

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
