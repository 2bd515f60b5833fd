"""The journal: which runs there are, and every finished piece of work of each.

A run is admitted (its row committed) before its first call, and each finished answer is
committed before anything builds on it. After a crash the same run id therefore resumes with the
same plan and asks no finished question again. SQLite in WAL mode with ``synchronous=FULL``:
what is committed survives a power cut too, for about a third of a millisecond a commit.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import Literal, ParamSpec, TypedDict, TypeVar, Unpack

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from hoptrail import sqlite_file
from hoptrail.characters import whole
from hoptrail.errors import RunBusy, RunNotFound, RunOfAnother, StorageFailed
from hoptrail.journal_file import folded, open_journal_file
from hoptrail.secrecy import Secrets
from hoptrail.sqlite_file import Owner, Transaction, slow
from hoptrail.trace import RunStatus, Trace, read_trace

_P = ParamSpec("_P")
_T = TypeVar("_T")

_TAKING_SECONDS = 0.25
"""How long a run is waited for that somebody has: it may be one who only looks at it."""
_LOOKING_SECONDS = 0.01

_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
RunSort = Literal["newest", "oldest", "slowest", "fastest", "question"]
_ORDERS: dict[RunSort, str] = {
    "newest": "created DESC, run_id DESC",
    "oldest": "created, run_id",
    "slowest": "wall_ms DESC, created DESC, run_id DESC",
    "fastest": "wall_ms = 0, wall_ms, created DESC, run_id DESC",
    "question": "folded(question), created DESC, run_id DESC",
}
"""How runs are sorted; by time, those that took none yet come last."""


class RunFilter(TypedDict, total=False):
    """Which runs are wanted; what is absent or None is left open.

    ``before`` and ``since`` are times of creation; ``backend`` is one that a call was answered
    by; ``question`` is a part of the question, in any case and any Unicode composition.
    """

    status: RunStatus | None
    before: datetime | None
    since: datetime | None
    backend: str | None
    question: str | None
    degraded: bool | None


class RunRow(BaseModel):
    """A run at a glance; ``options`` is what it was asked with, to resume it alike.

    ``parent_run_id`` is the run it was forked from, or empty. ``llm_calls`` and ``steps`` are
    known at its end (and are 0 in what a Hoptrail before this one ended).
    """

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
    graph: str = "multi-hop"
    parent_run_id: str = ""
    llm_calls: int = 0
    steps: int = 0


class Journal:
    """The runs kept in one folder: ``journal.db``, one trace file a run, one lock a live run.

    The methods block on the disk; `Journal.off_loop` runs one of them on the journal's own
    thread, so that an event loop never waits for it. The known values of ``secrets`` never reach
    the disk.
    """

    def __init__(self, folder: Path, secrets: Secrets | None = None) -> None:
        self.folder = folder
        self._secrets = secrets or Secrets()
        self._connection: sqlite3.Connection | None = None
        self._locks: weakref.WeakValueDictionary[str, FileLock] = weakref.WeakValueDictionary()
        self._owner = Owner()
        self._turns = threading.RLock()
        self._files = ExitStack()
        weakref.finalize(self, self._files.close)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hoptrail-journal")

    async def off_loop(self, method: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a method of this journal on its thread; calls keep their order.

        Whoever is cancelled while waiting leaves the method to its end: what was handed in is
        written.

        Raises:
            StorageFailed: the disk refused, or does not answer, or the process was forked since;
                the other errors are those of the method.
        """
        self._owner.check(str(self.folder))
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._thread, lambda: method(*args, **kwargs))
        # Whoever was cancelled no longer hears of a failure: asyncio would report it as lost.
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(sqlite_file.DISK_SECONDS) as limit:
                return await asyncio.shield(work)
        except (sqlite3.Error, OSError) as error:
            if limit.expired():
                raise slow(self.folder) from error
            raise StorageFailed(f"the journal in {self.folder} is not usable: {error}") from error

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
        lock = self._lock(run_id, _TAKING_SECONDS)
        question = self._secrets.hide(question)
        graph = options.get("graph", "multi-hop")
        now = round(time.time(), 6)  # as exactly as a `datetime` tells it
        try:
            with self._writing() as connection:
                connection.execute(
                    "INSERT INTO runs (run_id, question, options, status, created, updated, graph)"
                    " VALUES (?, ?, ?, 'running', ?, ?, ?) ON CONFLICT (run_id) DO UPDATE"
                    " SET status = 'running', updated = excluded.updated",
                    (run_id, question, self._secrets.hide_in(json.dumps(options)), now, now, graph),
                )
                _check_question(self._row(run_id), question)
        except BaseException:
            lock.release()
            raise
        return lock

    def fork(
        self, run_id: str, question: str, options: dict[str, object], entries: dict[str, str]
    ) -> None:
        """Commit a run's row together with the finished work it begins with; it can be resumed.

        Raises:
            RunOfAnother: there is a run of this id.
        """
        _check_run_id(run_id)
        hide, now = self._secrets, round(time.time(), 6)
        row = (run_id, hide.hide(question), hide.hide_in(json.dumps(options)), now, now)
        with self._writing() as connection:
            added = connection.execute(
                "INSERT INTO runs (run_id, question, options, status, created, updated, graph,"
                " parent_run_id) VALUES (?, ?, ?, 'interrupted', ?, ?, ?, ?)"
                " ON CONFLICT (run_id) DO NOTHING",
                (*row, options["graph"], options["parent_run_id"]),
            )
            if not added.rowcount:
                raise RunOfAnother(
                    f"there is a run {run_id} already: a fork needs an id of its own"
                )
            kept = [(run_id, key, hide.hide_in(value), now) for key, value in entries.items()]
            connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", kept)

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
                (run_id, key, self._secrets.hide_in(value), time.time()),
            )

    def finish(self, trace: Trace) -> None:
        """Commit how the run ended, and keep its trace; one that cannot be kept is a warning."""
        try:
            self.save_trace(trace)
        except OSError as error:
            trace.warnings.append(f"the trace of this run could not be written: {error}")
        backends = sorted({call.backend for call in trace.calls() if call.backend})
        with self._writing() as connection:
            connection.execute(
                "UPDATE runs SET status = ?, updated = ?, answer = ?, backends = ?, degraded = ?,"
                " wall_ms = ?, stop_reason = ?, graph = ?, parent_run_id = ?, llm_calls = ?,"
                " steps = ? WHERE run_id = ?",
                (
                    trace.status,
                    time.time(),
                    self._secrets.hide(trace.answer),
                    ",".join(backends),
                    trace.degraded,
                    trace.usage.wall_ms,
                    trace.stop_reason,
                    trace.graph,
                    trace.parent_run_id or "",
                    trace.usage.llm_calls,
                    len(trace.steps),
                    trace.run_id,
                ),
            )

    def run(self, run_id: str) -> RunRow:
        """Give one run.

        Raises:
            RunNotFound: no run of this id was ever admitted.
        """
        self._settle("run_id = ?", run_id)
        return self._row(run_id)

    def runs(
        self,
        limit: int = 50,
        *,
        sort: RunSort = "newest",
        offset: int = 0,
        **wanted: Unpack[RunFilter],
    ) -> list[RunRow]:
        """Give the runs that are wanted, sorted, at most ``limit`` after the first ``offset``."""
        self._settle("TRUE")
        where, values = _conditions(wanted)
        rows = self._open().execute(
            f"SELECT * FROM runs WHERE {where} ORDER BY {_ORDERS[sort]} LIMIT ? OFFSET ?",
            (*values, limit, offset),
        )
        return [_row(row) for row in rows]

    def _row(self, run_id: str) -> RunRow:
        row = self._open().execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None:
            raise RunNotFound(f"there is no run {run_id!r}: `hoptrail trace list` shows them")
        return _row(row)

    def _settle(self, which: str, *values: str) -> None:
        """Note for killed processes, which could not, that their runs are interrupted."""
        running = self._open().execute(
            f"SELECT run_id, updated FROM runs WHERE status = 'running' AND {which}", values
        )
        for run_id, updated in running.fetchall():
            if not self.alive(run_id):
                with self._writing() as connection:
                    # Whoever has taken it up by now has made it newer.
                    connection.execute(
                        "UPDATE runs SET status = 'interrupted', stop_reason = 'interrupted'"
                        " WHERE run_id = ? AND status = 'running' AND updated = ?",
                        (run_id, updated),
                    )

    def alive(self, run_id: str) -> bool:
        """Say whether somebody is working on the run now; a killed process is not.

        What that left half-written is removed.
        """
        try:
            lock = self._lock(run_id, _LOOKING_SECONDS)
        except RunBusy:
            return True
        try:
            # As short as can be: for whoever wants to take the run up, this is somebody else.
            with suppress(OSError):
                self._partial(run_id).unlink(missing_ok=True)
        finally:
            lock.release()
        return False

    def save_trace(self, trace: Trace) -> None:
        """Write the run's trace file: the old one or the new one is there, never half."""
        path = self.trace_path(trace.run_id)
        partial = self._partial(trace.run_id)
        document = self._secrets.hide_in(trace.model_dump_json())
        try:
            partial.write_text(document, encoding="utf-8")
            partial.replace(path)
        except OSError:
            # What there is room for may be what the next run needs.
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise

    def trace_path(self, run_id: str) -> Path:
        """Give where the run's trace is."""
        _check_run_id(run_id)
        return self.folder / "traces" / f"{run_id}.json"

    def trace(self, run_id: str) -> Trace:
        """Read the run's trace; one whose process was killed is interrupted.

        Raises:
            RunNotFound: there is none.
            TraceUnreadable: it is damaged or of a newer version.
        """
        path = self.trace_path(run_id)
        if not path.exists():
            self.run(run_id)
            raise RunNotFound(f"run {run_id} was admitted but has no trace yet")
        trace = read_trace(path.read_bytes(), str(path))
        if trace.status == "running" and not self.alive(run_id):
            trace.status = "interrupted"
        return trace

    def _partial(self, run_id: str) -> Path:
        return self.trace_path(run_id).with_suffix(".partial")

    def _lock(self, run_id: str, patience: float) -> FileLock:
        _check_run_id(run_id)
        self._open()
        mine = self._locks.get(run_id)
        if mine is not None and mine.is_locked:
            raise RunBusy(f"run {run_id} is being worked on by this process")
        # The operating system drops the lock when its process dies, however it dies.
        path = self.folder / "locks" / f"{run_id}.lock"
        lock = FileLock(path, patience, thread_local=False)
        try:
            lock.acquire(poll_interval=_LOOKING_SECONDS / 2)
        except Timeout as error:
            raise RunBusy(f"run {run_id} is being worked on by another process") from error
        self._locks[run_id] = lock
        return lock

    def _open(self) -> sqlite3.Connection:
        self._owner.check(str(self.folder))
        with self._turns:
            if self._connection is None:
                # The folder first: what `mkdir` makes on the way is open to others.
                for folder in (self.folder, self.folder / "traces", self.folder / "locks"):
                    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._connection = open_journal_file(self.folder / "journal.db")
                self._files.callback(self._connection.close)
            return self._connection

    def _writing(self) -> Transaction:
        return Transaction(self._open(), self._turns)


def _conditions(wanted: RunFilter) -> tuple[str, list[object]]:
    """Give the conditions of a filter as SQL, and the values that belong into it."""
    before, since = wanted.get("before"), wanted.get("since")
    question, backend = wanted.get("question"), wanted.get("backend")
    asked: dict[str, object] = {
        "status = ?": wanted.get("status"),
        "created < ?": None if before is None else before.timestamp(),
        "created >= ?": None if since is None else since.timestamp(),
        "instr(',' || backends || ',', ?)": None if backend is None else f",{whole(backend)},",
        # Not LIKE: it folds the case of ASCII alone, and reads % and _ as patterns.
        "instr(folded(question), ?)": None if question is None else folded(whole(question)),
        "degraded = ?": wanted.get("degraded"),
    }
    given = {condition: value for condition, value in asked.items() if value is not None}
    return " AND ".join(["TRUE", *given]), [*given.values()]


def _row(row: sqlite3.Row) -> RunRow:
    fields = dict(row)
    try:
        return RunRow.model_validate(fields | {"options": json.loads(fields["options"])})
    except ValueError as error:
        raise StorageFailed(
            f"the journal's row of run {fields['run_id']!r} is damaged: other runs are not"
        ) from error


def _check_question(row: RunRow, question: str) -> None:
    if row.question != question:
        raise RunOfAnother(
            f"run {row.run_id} asks {row.question[:200]!r}: another question needs another run"
        )


def is_run_id(text: str) -> bool:
    """Say whether a run may go by this id; it can then be the name of a file."""
    return _RUN_ID.fullmatch(text) is not None


def _check_run_id(run_id: str) -> None:
    if not is_run_id(run_id):
        raise RunNotFound(f"{run_id!r} is not a run id: letters, digits, - and _, at most 64")
