"""The index file: one SQLite database a folder, sealed, and replaced as a whole.

A finished file is never written again: an ingestion writes another one and puts it in its place
(`hoptrail.retrieval.draft`). So readers see the version before or the version after, whatever
happens in between. The seal covers every byte of the file and is checked when it is opened.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from hoptrail.errors import IndexDamaged, RetrievalError
from hoptrail.retrieval.arrays import unpack
from hoptrail.retrieval.seal import is_whole
from hoptrail.space import EmbeddingSpace, Vectors

FILE_NAME = "index.db"
FORMAT = 2
FIRST_FORMAT = 1
"""Was written in place, with SQLite's write-ahead log; `hoptrail.retrieval.older` reads it."""

OPENINGS = 100
"""How often a file that is replaced while it is being opened is opened anew."""

_NOT_AS_WRITTEN = frozenset(
    (
        0,  # Python's own: a text that is no UTF-8
        sqlite3.SQLITE_ERROR,  # our statements are fixed: the schema is another
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_MISMATCH,
    )
)
_USER_VERSION = slice(60, 64)
"""Where a database's header holds the format of an index (sqlite.org/fileformat2.html)."""


class Manifest(BaseModel):
    """What one version of an index says about itself."""

    model_config = ConfigDict(frozen=True)

    version: str
    passages: int
    sources: int
    space: EmbeddingSpace | None


@dataclass(frozen=True)
class SpaceRecord:
    """The space an index is in, and all it takes to recognise it again."""

    space: EmbeddingSpace
    canaries: Vectors
    dumped: bytes | None


@dataclass(frozen=True)
class Identity:
    """Which file it is, and when it was last written: what is equal holds the same bytes."""

    device: int
    number: int
    size: int
    written_ns: int
    changed_ns: int


class OlderFormat(RetrievalError):
    """The index is of an earlier format, which `hoptrail.retrieval.older` brings forward."""


def index_file(folder: Path) -> Path:
    """Give the path of the index file in its folder."""
    return folder / FILE_NAME


@contextmanager
def sqlite_errors(file: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours: damage, or anything else."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_AS_WRITTEN:
            raise damaged(file, str(error)) from error
        raise RetrievalError(f"{file}: {error}") from error


@contextmanager
def part_errors(file: Path) -> Iterator[None]:
    """Turn what a part of a sealed file raises that is not what we write into `IndexDamaged`."""
    try:
        with sqlite_errors(file):
            yield
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
        raise damaged(file, f"a part of it cannot be read: {error}") from error


def damaged(file: Path, detail: str) -> IndexDamaged:
    """Give the error that names a damaged file and the way out."""
    return IndexDamaged(
        f"{file}: the index is not what was written ({detail}). Ingest the documents again "
        f"(`hoptrail ingest PATH --index {file.parent}`): the damaged file is kept beside the "
        "new one."
    )


def identity(file: Path | int) -> Identity | None:
    """Give the identity of what now lies at a path or behind a descriptor, or None."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def open_index(file: Path) -> tuple[sqlite3.Connection, Identity]:
    """Open a finished index file and check its seal; for use from one thread at a time.

    Raises:
        IndexDamaged: it is not what was written.
        OlderFormat: it has to be brought forward first.
        RetrievalError: there is none, it cannot be opened, or a newer Hoptrail wrote it.
    """
    for _ in range(OPENINGS):
        found = _checked(file)
        connection = connect(file, "ro&immutable=1")
        # Only then both saw the same file: another may have taken its place in between.
        if identity(file) == found:
            return connection, found
        connection.close()
    raise RetrievalError(f"{file}: it is being replaced all the time; try again")


def connect(file: Path, mode: str) -> sqlite3.Connection:
    """Open a database, for use from one thread at a time; every statement is its own commit."""
    with sqlite_errors(file):
        connection = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        # No text or vector is longer than what it lies in, whatever a damaged length says.
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 30)
        return connection


def _checked(file: Path) -> Identity:
    """Give the identity of a file whose seal and format are right."""
    try:
        with file.open("rb") as content:
            found = identity(content.fileno())
            assert found is not None  # an open file has one
            whole = is_whole(content)
            format_ = _format(content)
    except FileNotFoundError:
        raise RetrievalError(
            f"{file}: no index here; make one with `hoptrail ingest PATH --index {file.parent}`"
        ) from None
    except OSError as error:
        raise RetrievalError(f"{file}: cannot be read: {error.strerror}") from error
    if not whole and format_ == FIRST_FORMAT:
        raise OlderFormat(f"{file}: an index of format {FIRST_FORMAT}")
    if not whole:
        raise damaged(file, "its checksum is wrong" if found.size else "it is empty")
    if format_ > FORMAT:
        raise RetrievalError(
            f"{file}: written by a newer Hoptrail (index format {format_}, this one reads up to "
            f"{FORMAT}); upgrade with `pip install -U hoptrail`"
        )
    return found


def _format(content: BinaryIO) -> int:
    content.seek(0)
    return int.from_bytes(content.read(_USER_VERSION.stop)[_USER_VERSION])


def read_manifest(connection: sqlite3.Connection) -> Manifest:
    """Give the manifest.

    Raises:
        ValueError: it is none.
    """
    row = connection.execute("SELECT document FROM manifest").fetchone()
    try:
        return Manifest.model_validate_json(row[0] if row else "")
    except ValidationError:
        raise ValueError("the manifest") from None


def read_blob(connection: sqlite3.Connection, name: str) -> bytes | None:
    """Give a blob by its name."""
    row = connection.execute("SELECT content FROM blobs WHERE name = ?", (name,)).fetchone()
    return None if row is None else bytes(row[0])


def read_space(connection: sqlite3.Connection, manifest: Manifest) -> SpaceRecord | None:
    """Give the space the index is in, or None for an index of words only.

    Raises:
        ValueError: its canaries are not of its width.
    """
    canaries = read_blob(connection, "canaries")
    if manifest.space is None or canaries is None:
        return None
    found = unpack(canaries)["canaries"]
    if found.ndim != 2 or found.shape[1] != manifest.space.dimensions:
        raise ValueError("the canaries")
    return SpaceRecord(manifest.space, found, read_blob(connection, "embedder"))


def read_vectors(connection: sqlite3.Connection, dimensions: int) -> Vectors:
    """Give all vectors in the order of the passages, shape (passages, dimensions).

    Raises:
        ValueError: a passage has none, or one of another width, or one that is no direction.
    """
    rows = [row[0] for row in connection.execute("SELECT vector FROM passages ORDER BY number")]
    width = dimensions * np.dtype(np.float16).itemsize
    if any(not isinstance(row, bytes) or len(row) != width for row in rows):
        raise ValueError("the vectors")
    vectors = np.frombuffer(b"".join(rows), np.float16).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError("the vectors")
    return vectors.reshape(len(rows), dimensions)
