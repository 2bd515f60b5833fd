"""A journal as the first version of Hoptrail left it, with two runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_SCRIPT = """
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


def write_first_journal(folder: Path) -> Path:
    """Write ``journal.db`` into a folder, and give the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        connection.executescript(_SCRIPT)
    return folder
