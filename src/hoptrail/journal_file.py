"""The journal's database: how it is laid out, opened, brought up to date and written to."""

from __future__ import annotations

import sqlite3
import unicodedata
from pathlib import Path

from filelock import FileLock

from hoptrail.sqlite_file import (
    BUSY_SECONDS,
    Transaction,
    check_version,
    make_private,
    opening_lock,
    version_of,
)

_VERSION = 2
_SCHEMA: dict[int, tuple[str, ...]] = {
    1: (
        """CREATE TABLE IF NOT EXISTS runs (
            run_id TEXT PRIMARY KEY, question TEXT NOT NULL, options TEXT NOT NULL,
            status TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
            answer TEXT NOT NULL DEFAULT '', backends TEXT NOT NULL DEFAULT '',
            degraded INTEGER NOT NULL DEFAULT 0, wall_ms REAL NOT NULL DEFAULT 0,
            stop_reason TEXT NOT NULL DEFAULT '')""",
        """CREATE TABLE IF NOT EXISTS entries (
            run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE, key TEXT NOT NULL,
            value TEXT NOT NULL, created REAL NOT NULL, PRIMARY KEY (run_id, key)) WITHOUT ROWID""",
        "CREATE INDEX IF NOT EXISTS runs_by_time ON runs (created)",
    ),
    2: (
        "ALTER TABLE runs ADD COLUMN graph TEXT NOT NULL DEFAULT 'multi-hop'",
        "ALTER TABLE runs ADD COLUMN parent_run_id TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE runs ADD COLUMN llm_calls INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE runs ADD COLUMN steps INTEGER NOT NULL DEFAULT 0",
        "UPDATE runs SET graph = coalesce(json_extract(options, '$.graph'), graph)"
        " WHERE json_valid(options)",
        "CREATE INDEX running_runs ON runs (status) WHERE status = 'running'",
    ),
}
"""What makes a journal of each version out of one of the version before it."""


def open_journal_file(path: Path) -> sqlite3.Connection:
    """Open a journal's database, or begin it; an older one is brought up to this version.

    Raises:
        StorageFailed: it was written by a newer Hoptrail.
    """
    make_private(path)
    with FileLock(opening_lock(path), BUSY_SECONDS, mode=0o600):
        return _opened(path)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        # Before anything is changed: a file that is refused stays as it is.
        check_version(path, "journal", version_of(connection), _VERSION)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.create_function("folded", 1, folded, deterministic=True)
        _bring_up(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _bring_up(connection: sqlite3.Connection) -> None:
    """Bring a journal up to this version: all of it, or nothing."""
    version = version_of(connection)
    if version < _VERSION:
        with Transaction(connection):
            for each in range(version + 1, _VERSION + 1):
                for statement in _SCHEMA[each]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {each}")


def folded(text: str) -> str:
    """Give a text as questions are compared: in any case and any Unicode composition."""
    return unicodedata.normalize("NFC", text.casefold())
