"""The index file: one SQLite database a folder, written in one transaction.

Readers see the version before or the version after an ingestion, whatever happens in between.
Everything an index holds is covered by one checksum, which is verified when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from hoptrail.errors import IndexDamaged, RetrievalError
from hoptrail.retrieval.arrays import unpack
from hoptrail.space import EmbeddingSpace, Vectors

FILE_NAME = "index.db"
FORMAT = 1
BUSY_SECONDS = 2.0


class Manifest(BaseModel):
    """What one version of an index says about itself."""

    model_config = ConfigDict(frozen=True)

    version: str
    passages: int
    sources: int
    space: EmbeddingSpace | None
    checksum: str


@dataclass(frozen=True)
class SpaceRecord:
    """The space an index is in, and all it takes to recognise it again."""

    space: EmbeddingSpace
    canaries: Vectors
    dumped: bytes | None


def index_file(folder: Path) -> Path:
    """Give the path of the index file in its folder."""
    return folder / FILE_NAME


@contextmanager
def sqlite_errors(file: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours: damage, a busy index, anything else."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or not code:
            raise damaged(file, str(error)) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise RetrievalError(
                f"{file}: another ingestion is writing this index; try again when it is done"
            ) from error
        raise RetrievalError(f"{file}: {error}") from error


def damaged(file: Path, detail: str) -> IndexDamaged:
    """Give the error that names a damaged file and the way out."""
    return IndexDamaged(
        f"{file}: the index is not what was written ({detail}). "
        "Ingest the documents again: the damaged file is kept beside the new one."
    )


def connect(file: Path, *, writing: bool = False) -> sqlite3.Connection:
    """Open the index file, for use from one thread at a time.

    Raises:
        IndexDamaged: it is no database.
        RetrievalError: there is none, it cannot be opened, or a newer Hoptrail wrote it.
    """
    if writing:
        _create(file)
    elif not file.exists():
        raise RetrievalError(f"{file}: no index here; make one with `hoptrail ingest`")
    mode = "rw" if os.access(file.parent, os.W_OK) else "ro&immutable=1"
    with sqlite_errors(file):
        connection = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _check_format(connection, file)
        except BaseException:
            connection.close()
            raise
    return connection


def _create(file: Path) -> None:
    """Make the file, if there is none, for its owner alone."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise RetrievalError(f"{file}: cannot be written: {error.strerror}") from error


def _check_format(connection: sqlite3.Connection, file: Path) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > FORMAT:
        raise RetrievalError(
            f"{file}: written by a newer Hoptrail (index format {found}, this one reads up to "
            f"{FORMAT}); upgrade with `pip install -U hoptrail`"
        )


def read_manifest(connection: sqlite3.Connection, file: Path) -> Manifest:
    """Give the manifest of the version that the connection sees.

    Raises:
        RetrievalError: nothing was ever ingested here.
        IndexDamaged: the manifest cannot be read.
    """
    (tables,) = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE name = 'manifest'"
    ).fetchone()
    if not tables:
        raise RetrievalError(f"{file}: no ingestion was ever finished here; ingest again")
    row = connection.execute("SELECT document FROM manifest").fetchone()
    try:
        return Manifest.model_validate_json(row[0] if row else "")
    except ValidationError as error:
        raise damaged(file, "its manifest cannot be read") from error


def verify(connection: sqlite3.Connection, file: Path) -> Manifest:
    """Check that everything is there as it was written, and give the manifest.

    Raises:
        RetrievalError: nothing was ever ingested here.
        IndexDamaged: the checksum is wrong.
    """
    manifest = read_manifest(connection, file)
    if checksum(connection) != manifest.checksum:
        raise damaged(file, "its checksum is wrong")
    return manifest


def checksum(connection: sqlite3.Connection) -> str:
    """Give the BLAKE2b digest of all rows."""
    digest = hashlib.blake2b(digest_size=16)
    for row in connection.execute("SELECT name, digest FROM sources ORDER BY name"):
        digest.update(json.dumps(row).encode())
    passages = connection.execute(
        'SELECT number, id, source, title, "start", "end", text, mentions, vector '
        "FROM passages ORDER BY number"
    )
    for *fields, vector in passages:
        digest.update("\0".join(map(str, fields)).encode())
        digest.update(vector or b"")
    for name, content in connection.execute("SELECT name, content FROM blobs ORDER BY name"):
        digest.update(name.encode())
        digest.update(content)
    return digest.hexdigest()


def read_blob(connection: sqlite3.Connection, name: str) -> bytes | None:
    """Give a blob by its name."""
    row = connection.execute("SELECT content FROM blobs WHERE name = ?", (name,)).fetchone()
    return None if row is None else bytes(row[0])


def read_space(connection: sqlite3.Connection, manifest: Manifest) -> SpaceRecord | None:
    """Give the space the index is in, or None for an index of words only."""
    canaries = read_blob(connection, "canaries")
    if manifest.space is None or canaries is None:
        return None
    return SpaceRecord(
        manifest.space, unpack(canaries)["canaries"], read_blob(connection, "embedder")
    )


def read_vectors(connection: sqlite3.Connection) -> Vectors:
    """Give all vectors in the order of the passages, shape (passages, dimensions)."""
    (count,) = connection.execute("SELECT count(*) FROM passages").fetchone()
    joined = b"".join(
        row[0] for row in connection.execute("SELECT vector FROM passages ORDER BY number")
    )
    return np.frombuffer(joined, np.float16).reshape(count, -1).astype(np.float32)
