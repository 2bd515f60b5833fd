"""An index of the first format, brought to the present one without its documents.

That format was one database too, written in place with SQLite's write-ahead log, and covered by
a digest over its rows.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from hoptrail.errors import RetrievalError
from hoptrail.retrieval.replacement import Replacement
from hoptrail.retrieval.store import (
    FORMAT,
    Manifest,
    OlderFormat,
    connect,
    damaged,
    open_index,
    part_errors,
)

PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 0.05

_PASSAGES = (
    'SELECT number, id, source, title, "start", "end", text, mentions, vector '
    "FROM passages ORDER BY number"
)


def bring_forward(replacement: Replacement) -> None:
    """Replace an index of the first format by one of the present format; it has to be claimed.

    Raises:
        IndexDamaged: it is not what was written.
    """
    file = replacement.file
    replacement.empty()
    with (
        part_errors(file),
        closing(connect(file, "rw")) as old,
        closing(connect(replacement.path, "rw")) as new,
    ):
        manifest = _verified(old, file)
        old.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")
        new.execute("ALTER TABLE sources ADD COLUMN shadowed INTEGER NOT NULL DEFAULT 0")
        new.execute("UPDATE manifest SET document = ?", (manifest.model_dump_json(),))
        new.execute(f"PRAGMA user_version = {FORMAT}")
    replacement.publish()


def migrate(file: Path) -> None:
    """Bring the index forward as soon as nobody else writes it; blocks meanwhile.

    Raises:
        IndexDamaged: it is not what was written.
        RetrievalError: another ingestion is writing it, or nothing can be written there.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    with closing(Replacement(file)) as replacement:
        while not replacement.claim():
            if time.monotonic() > until:
                raise RetrievalError(f"{file}: another ingestion is writing this index")
            time.sleep(PAUSE_SECONDS)
        try:
            open_index(file)[0].close()
        except OlderFormat:
            bring_forward(replacement)


def _verified(old: sqlite3.Connection, file: Path) -> Manifest:
    # The digest is over the rows: what finds them is not in it.
    (sound,) = old.execute("PRAGMA integrity_check(1)").fetchone()
    if sound != "ok":
        raise damaged(file, sound)
    (document,) = old.execute("SELECT document FROM manifest").fetchone()
    if json.loads(document)["checksum"] != _checksum(old):
        raise damaged(file, "its checksum is wrong")
    return Manifest.model_validate_json(document)


def _checksum(old: sqlite3.Connection) -> str:
    """Give the BLAKE2b digest of all rows, as the first format had it."""
    digest = hashlib.blake2b(digest_size=16)
    for row in old.execute("SELECT name, digest FROM sources ORDER BY name"):
        digest.update(json.dumps(row).encode())
    for *fields, vector in old.execute(_PASSAGES):
        digest.update("\0".join(map(str, fields)).encode())
        digest.update(vector or b"")
    for name, content in old.execute("SELECT name, content FROM blobs ORDER BY name"):
        digest.update(name.encode())
        digest.update(content)
    return digest.hexdigest()
