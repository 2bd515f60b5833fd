"""The next version of an index, while it is being written."""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hoptrail.errors import IndexDamaged
from hoptrail.evidence import Passage
from hoptrail.retrieval.arrays import pack
from hoptrail.retrieval.documents import Skip, SourceFile, Unreadable, read
from hoptrail.retrieval.entities import mentions, own_name
from hoptrail.retrieval.graph import PassageGraph
from hoptrail.retrieval.store import (
    FORMAT,
    Manifest,
    SpaceRecord,
    checksum,
    connect,
    index_file,
    read_space,
    sqlite_errors,
    verify,
)
from hoptrail.retrieval.words import WordIndex
from hoptrail.space import Vectors

_SCHEMA = """
CREATE TABLE manifest (document TEXT NOT NULL);
CREATE TABLE sources (name TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE passages (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    "start" INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    mentions TEXT NOT NULL,
    vector BLOB
);
CREATE INDEX passages_of_source ON passages (source);
CREATE INDEX passages_to_embed ON passages (number) WHERE vector IS NULL;
CREATE TABLE blobs (name TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
"""


class Draft:
    """One transaction over an index: whatever is not committed never happened.

    Not for concurrent use: one call at a time, from any thread. What SQLite says against it
    rises as it is; see `hoptrail.retrieval.store.sqlite_errors`.

    Raises:
        RetrievalError: another ingestion holds the index, or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._file = index_file(folder)
        self._connection: sqlite3.Connection | None = None
        self._before: Manifest | None = None
        self.record: SpaceRecord | None = None
        """The space that the index was in before."""
        self.changed = False
        """Whether any passage came or went."""
        self.warnings: list[str] = []

    @property
    def _database(self) -> sqlite3.Connection:
        assert self._connection is not None, "begin() comes first"
        return self._connection

    def begin(self) -> None:
        """Take the index for writing; a damaged one is set aside, to start anew."""
        try:
            with sqlite_errors(self._file):
                self._begin()
        except IndexDamaged:
            self.close()
            self.warnings.append(f"the index was damaged: made anew, kept as {self._set_aside()}")
            self._begin()

    def _begin(self) -> None:
        self._connection = connect(self._file, writing=True)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("BEGIN IMMEDIATE")
        self._before = self._manifest_before()
        if self._before is not None:
            self.record = read_space(self._database, self._before)

    def _manifest_before(self) -> Manifest | None:
        (written,) = self._database.execute("PRAGMA user_version").fetchone()
        if written:
            return verify(self._database, self._file)
        for statement in _SCHEMA.split(";"):
            self._database.execute(statement)
        self._database.execute(f"PRAGMA user_version = {FORMAT}")
        return None

    def _set_aside(self) -> Path:
        """Keep the damaged file for whoever wants to look at it, out of the way."""
        kept = self._file.with_suffix(".damaged")
        os.replace(self._file, kept)
        for rest in ("-wal", "-shm"):
            self._file.with_name(self._file.name + rest).unlink(missing_ok=True)
        return kept

    def sources(self) -> dict[str, str]:
        """Give the digest of each source in the index by its name."""
        return dict(self._database.execute("SELECT name, digest FROM sources").fetchall())

    def remove(self, source: str) -> None:
        """Take a source and its passages out; one that was never in changes nothing."""
        self._database.execute("DELETE FROM passages WHERE source = ?", (source,))
        gone = self._database.execute("DELETE FROM sources WHERE name = ?", (source,))
        self.changed |= bool(gone.rowcount)

    def replace(self, file: SourceFile, digest: str) -> list[Skip]:
        """Put a file's passages in, in place of those it had; give what was left out of it.

        Raises:
            Unreadable: it is no document; whatever it had is out.
        """
        skipped: list[Skip] = []
        taken = 0
        self.remove(file.name)
        try:
            for passage in read(file, skipped):
                taken += not self._add(passage)
        except Unreadable:
            self.remove(file.name)
            raise
        self._database.execute("INSERT INTO sources VALUES (?, ?)", (file.name, digest))
        self.changed = True
        if taken:
            skipped.append((file.name, f"{taken} passages with the id of another"))
        return skipped

    def _add(self, passage: Passage) -> bool:
        row = (
            passage.id,
            passage.source,
            passage.title,
            passage.text,
            passage.start,
            passage.end,
            json.dumps(mentions(passage.title, passage.text), ensure_ascii=False),
        )
        return bool(
            self._database.execute(
                "INSERT OR IGNORE INTO passages "
                '(id, source, title, text, "start", "end", mentions) VALUES (?,?,?,?,?,?,?)',
                row,
            ).rowcount
        )

    def count(self, *, to_embed: bool = False) -> int:
        """Count the passages, or only those without a vector."""
        condition = " WHERE vector IS NULL" if to_embed else ""
        row = self._database.execute("SELECT count(*) FROM passages" + condition).fetchone()
        return int(row[0])

    def texts(self) -> Iterator[str]:
        """Give every passage as it is embedded and indexed: its title, a line break, its text."""
        for title, text in self._database.execute(
            "SELECT title, text FROM passages ORDER BY number"
        ):
            yield embedded_text(title, text)

    def to_embed(self, limit: int) -> list[tuple[int, str, str]]:
        """Give number, text to embed and source of passages that have no vector yet."""
        rows = self._database.execute(
            "SELECT number, title, text, source FROM passages WHERE vector IS NULL "
            "ORDER BY number LIMIT ?",
            (limit,),
        ).fetchall()
        return [
            (number, embedded_text(title, text), source) for number, title, text, source in rows
        ]

    def set_vectors(self, numbers: Sequence[int], vectors: Vectors) -> None:
        """Store the vectors of passages, at half precision (which costs no recall)."""
        rows = vectors.astype(np.float16)
        self._database.executemany(
            "UPDATE passages SET vector = ? WHERE number = ?",
            [(row.tobytes(), number) for row, number in zip(rows, numbers, strict=True)],
        )

    def keep_vectors(self) -> None:
        """Remember the vectors as they are now, for `kept_vectors`."""
        self._database.execute("SAVEPOINT vectors")

    def kept_vectors(self) -> None:
        """Go back to the vectors that `keep_vectors` remembered."""
        self._database.execute("ROLLBACK TO vectors")

    def forget_vectors(self) -> None:
        """Take out all vectors: what comes next is another space."""
        self._database.execute("UPDATE passages SET vector = NULL WHERE vector NOT NULL")

    def commit(self, record: SpaceRecord | None) -> int:
        """Make this the version that readers see; give how many passages it has."""
        if self._before and not self.changed and record is self.record:
            return self._before.passages
        self._write_blobs(record)
        manifest = Manifest(
            version=uuid.uuid4().hex,
            passages=self.count(),
            sources=len(self.sources()),
            space=record and record.space,
            checksum=checksum(self._database),
        )
        self._database.execute("DELETE FROM manifest")
        self._database.execute("INSERT INTO manifest VALUES (?)", (manifest.model_dump_json(),))
        self._database.execute("COMMIT")
        return manifest.passages

    def _write_blobs(self, record: SpaceRecord | None) -> None:
        blobs = {"words": WordIndex.build(self.texts()).dump(), "graph": self._graph().dump()}
        if record is not None:
            blobs["canaries"] = pack(canaries=record.canaries)
            if record.dumped is not None:
                blobs["embedder"] = record.dumped
        self._database.execute("DELETE FROM blobs")
        self._database.executemany("INSERT INTO blobs VALUES (?, ?)", blobs.items())

    def _graph(self) -> PassageGraph:
        rows = self._database.execute(
            "SELECT title, mentions FROM passages ORDER BY number"
        ).fetchall()
        return PassageGraph.build(
            [json.loads(mentioned) for _, mentioned in rows], [own_name(title) for title, _ in rows]
        )

    def close(self) -> None:
        """End the transaction; without a `commit` the index is what it was before."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def embedded_text(title: str, text: str) -> str:
    """Give what is embedded and indexed of a passage."""
    return f"{title}\n{text}" if title else text
