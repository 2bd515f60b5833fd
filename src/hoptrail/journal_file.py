"""The journal's database: how it is laid out, opened, brought up to date and written to."""

from __future__ import annotations

import os
import sqlite3
import unicodedata
from pathlib import Path

from hoptrail.errors import HoptrailError

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


class Transaction:
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


def open_journal_file(path: Path) -> sqlite3.Connection:
    """Open a journal's database, or begin it; an older one is brought up to this version.

    Raises:
        HoptrailError: it was written by a newer Hoptrail.
    """
    # The file exists with its mode before SQLite fills it: questions are private.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.create_function("folded", 1, folded, deterministic=True)
    try:
        _bring_up(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _bring_up(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a journal up to this version: all of it, or nothing.

    Raises:
        HoptrailError: it was written by a newer Hoptrail.
    """
    version = _version(connection)
    if version < _VERSION:
        with Transaction(connection):
            # Another process may have done it, or more, before this one had its turn.
            for each in range(_version(connection) + 1, _VERSION + 1):
                for statement in _SCHEMA[each]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {each}")
        version = _version(connection)
    if version > _VERSION:
        raise HoptrailError(
            f"{path} was written by a newer Hoptrail (journal version {version}, this one knows "
            f"{_VERSION}): upgrade with `pip install -U hoptrail`"
        )


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def folded(text: str) -> str:
    """Give a text as questions are compared: in any case and any Unicode composition."""
    return unicodedata.normalize("NFC", text.casefold())
