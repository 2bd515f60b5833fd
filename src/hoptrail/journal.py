"""The journal: which runs there are, and every finished piece of work of each.

A run is admitted (its row committed) before its first call, and each finished answer is
committed before anything builds on it. After a crash the same run id therefore resumes with the
same plan and asks no finished question again. SQLite in WAL mode with ``synchronous=FULL``:
what is committed survives a power cut too, for about a third of a millisecond a commit.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import sqlite3
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from hoptrail.errors import HoptrailError, RunBusy, RunNotFound, RunOfAnother
from hoptrail.trace import RunStatus, Trace, read_trace

_P = ParamSpec("_P")
_T = TypeVar("_T")

_VERSION = 1
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, question TEXT NOT NULL, options TEXT NOT NULL,
    status TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
    answer TEXT NOT NULL DEFAULT '', backends TEXT NOT NULL DEFAULT '',
    degraded INTEGER NOT NULL DEFAULT 0, wall_ms REAL NOT NULL DEFAULT 0,
    stop_reason TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS entries (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE, key TEXT NOT NULL,
    value TEXT NOT NULL, created REAL NOT NULL, PRIMARY KEY (run_id, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS runs_by_time ON runs (created);
"""


class RunRow(BaseModel):
    """A run at a glance; ``options`` is what it was asked with, to resume it alike."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    question: str
    options: dict[str, object]
    status: RunStatus
    created: datetime
    updated: datetime
    answer: str = ""
    backends: str = ""
    degraded: bool = False
    wall_ms: float = 0.0
    stop_reason: str = ""


class Journal:
    """The runs kept in one folder: ``journal.db``, one trace file a run, one lock a live run.

    The methods block on the disk; `Journal.off_loop` runs one of them on the journal's own
    thread, so that an event loop never waits for it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._connection: sqlite3.Connection | None = None
        self._files = ExitStack()
        weakref.finalize(self, self._files.close)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hoptrail-journal")

    async def off_loop(self, method: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a method of this journal on its thread; calls keep their order.

        Whoever is cancelled while waiting leaves the method to its end: what was handed in is
        written.

        Raises:
            HoptrailError: the disk refused; the other errors are those of the method.
        """
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._thread, lambda: method(*args, **kwargs))
        # Whoever was cancelled no longer hears of a failure: asyncio would report it as lost.
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.shield(work)
        except (sqlite3.Error, OSError) as error:
            raise HoptrailError(f"the journal in {self.folder} is not usable: {error}") from error

    def close(self) -> None:
        """Finish what is under way and close the files; the journal is not used afterwards."""
        self._thread.shutdown(wait=True)
        self._files.close()

    def admit(self, run_id: str, question: str, options: dict[str, object]) -> FileLock:
        """Commit the run's row and take its lock; the caller gives it back with `let_go`.

        Raises:
            RunBusy: another process, or another task of this one, is working on the run.
            RunOfAnother: the run is one of another question.
        """
        lock = self._lock(run_id)
        now = round(time.time(), 6)  # as exactly as a `datetime` tells it
        try:
            with self._writing() as connection:
                connection.execute(
                    "INSERT INTO runs (run_id, question, options, status, created, updated)"
                    " VALUES (?, ?, ?, 'running', ?, ?) ON CONFLICT (run_id) DO UPDATE"
                    " SET status = 'running', updated = excluded.updated",
                    (run_id, question, json.dumps(options), now, now),
                )
                _check_question(self.run(run_id), question)
        except BaseException:
            lock.release()
            raise
        return lock

    def let_go(self, trace: Trace, lock: FileLock) -> None:
        """Commit how a run stands, and release its lock whatever happens."""
        try:
            self.finish(trace)
        finally:
            lock.release()

    def entries(self, run_id: str) -> dict[str, str]:
        """Give the finished work of a run: key -> JSON."""
        rows = self._open().execute("SELECT key, value FROM entries WHERE run_id = ?", (run_id,))
        return {row["key"]: row["value"] for row in rows}

    def write(self, run_id: str, key: str, value: str) -> None:
        """Commit one finished piece of work."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)",
                (run_id, key, value, time.time()),
            )

    def finish(self, trace: Trace) -> None:
        """Commit how the run ended, and keep its trace."""
        self.save_trace(trace)
        backends = sorted({call.backend for step in trace.steps for call in step.calls})
        with self._writing() as connection:
            connection.execute(
                "UPDATE runs SET status = ?, updated = ?, answer = ?, backends = ?, degraded = ?,"
                " wall_ms = ?, stop_reason = ? WHERE run_id = ?",
                (
                    trace.status,
                    time.time(),
                    trace.answer,
                    ",".join(filter(None, backends)),
                    trace.degraded,
                    trace.usage.wall_ms,
                    trace.stop_reason,
                    trace.run_id,
                ),
            )

    def run(self, run_id: str) -> RunRow:
        """Give one run.

        Raises:
            RunNotFound: no run of this id was ever admitted.
        """
        row = self._open().execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None:
            raise RunNotFound(f"there is no run {run_id!r}: `hoptrail trace list` shows them")
        return _row(row)

    def runs(
        self, limit: int = 50, *, status: RunStatus | None = None, before: datetime | None = None
    ) -> list[RunRow]:
        """Give the newest runs, newest first; with ``before``, of those created before then."""
        rows = self._open().execute(
            "SELECT * FROM runs WHERE status = coalesce(?, status) AND created < ?"
            " ORDER BY created DESC LIMIT ?",
            (status, math.inf if before is None else before.timestamp(), limit),
        )
        return [_row(row) for row in rows]

    def alive(self, run_id: str) -> bool:
        """Say whether somebody is working on the run now; a killed process is not."""
        try:
            self._lock(run_id).release()
        except RunBusy:
            return True
        return False

    def save_trace(self, trace: Trace) -> None:
        """Write the run's trace file: the old one or the new one is there, never half."""
        path = self.trace_path(trace.run_id)
        partial = path.with_suffix(".partial")
        partial.write_text(trace.model_dump_json(), encoding="utf-8")
        partial.replace(path)

    def trace_path(self, run_id: str) -> Path:
        """Give where the run's trace is."""
        _check_run_id(run_id)
        return self.folder / "traces" / f"{run_id}.json"

    def trace(self, run_id: str) -> Trace:
        """Read the run's trace.

        Raises:
            RunNotFound: there is none.
            TraceUnreadable: it is damaged or of a newer version.
        """
        path = self.trace_path(run_id)
        if not path.exists():
            self.run(run_id)
            raise RunNotFound(f"run {run_id} was admitted but has no trace yet")
        return read_trace(path.read_bytes())

    def _lock(self, run_id: str) -> FileLock:
        _check_run_id(run_id)
        self._open()
        # The operating system drops the lock when its process dies, however it dies.
        path = self.folder / "locks" / f"{run_id}.lock"
        lock = FileLock(path, blocking=False, thread_local=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunBusy(f"run {run_id} is being worked on by another process") from error
        return lock

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            for folder in (self.folder / "traces", self.folder / "locks"):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = _connect(self.folder / "journal.db")
            self._files.callback(self._connection.close)
        return self._connection

    def _writing(self) -> _Transaction:
        return _Transaction(self._open())


class _Transaction:
    """``BEGIN IMMEDIATE`` … ``COMMIT``: a plain BEGIN that upgrades ignores the busy time-out."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def _connect(path: Path) -> sqlite3.Connection:
    # The file exists with its mode before SQLite fills it: questions are private.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        connection.close()
        raise HoptrailError(
            f"{path} was written by a newer Hoptrail (journal version {version}, this one knows "
            f"{_VERSION}): upgrade with `pip install -U hoptrail`"
        )
    if version < _VERSION:
        connection.executescript(_TABLES)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
    return connection


def _row(row: sqlite3.Row) -> RunRow:
    fields = dict(row)
    return RunRow.model_validate(fields | {"options": json.loads(fields["options"])})


def _check_question(row: RunRow, question: str) -> None:
    if row.question != question:
        raise RunOfAnother(
            f"run {row.run_id} asks {row.question[:200]!r}: another question needs another run"
        )


def _check_run_id(run_id: str) -> None:
    if not _RUN_ID.fullmatch(run_id):
        raise RunNotFound(f"{run_id!r} is not a run id: letters, digits, - and _, at most 64")
