"""The next version of an index, while it is being written."""

from __future__ import annotations

import json
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
from hoptrail.retrieval.older import bring_forward
from hoptrail.retrieval.replacement import Replacement
from hoptrail.retrieval.store import (
    FORMAT,
    Manifest,
    OlderFormat,
    SpaceRecord,
    connect,
    index_file,
    open_index,
    part_errors,
    read_manifest,
    read_space,
)
from hoptrail.retrieval.words import WordIndex
from hoptrail.space import Vectors

_SCHEMA = """
CREATE TABLE manifest (document TEXT NOT NULL);
CREATE TABLE sources (
    name TEXT PRIMARY KEY, digest TEXT NOT NULL, shadowed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
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
    """The next version of an index; whatever is not committed never happened.

    Not for concurrent use: one call at a time, from any thread. What SQLite says against it
    rises as it is; see `hoptrail.retrieval.store.sqlite_errors`. Until something changes it
    reads the present version, and copies nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._file = index_file(folder)
        self._replacement = Replacement(self._file)
        self._connection: sqlite3.Connection | None = None
        self._writing = False
        self._keeping = False
        self._damaged = False
        self._before: Manifest | None = None
        self.record: SpaceRecord | None = None
        """The space that the index was in before."""
        self.changed = False
        """Whether any passage came or went."""
        self.warnings: list[str] = []

    def claim(self) -> bool:
        """Take the index for writing; False while another ingestion has it.

        Raises:
            RetrievalError: nothing can be written here.
        """
        return self._replacement.claim()

    def begin(self) -> None:
        """Open what there is, in whatever format; what is damaged is begun anew.

        Raises:
            RetrievalError: the index cannot be read, or a newer Hoptrail wrote it.
        """
        try:
            self._open()
        except OlderFormat:
            self._open_older()
        except IndexDamaged:
            self._set_aside()

    def _open(self) -> None:
        if not self._file.exists():
            return
        self._connection, _ = open_index(self._file)
        with part_errors(self._file):
            self._before = read_manifest(self._connection)
            self.record = read_space(self._connection, self._before)

    def _open_older(self) -> None:
        try:
            bring_forward(self._replacement)
            self._open()
        except IndexDamaged:
            self._set_aside()

    def _set_aside(self) -> None:
        self._disconnect()
        self._damaged, self._before, self.record = True, None, None

    @property
    def _reading(self) -> sqlite3.Connection:
        """The version before, or this one once it differs."""
        return self._connection or self._write()

    def _write(self) -> sqlite3.Connection:
        """Give the connection to this version, which begins as a copy of the one before."""
        if self._connection is None or not self._writing:
            self._connection = self._began()
            self._writing = True
        return self._connection

    def _began(self) -> sqlite3.Connection:
        self._disconnect()
        if self._before is None:
            self._replacement.empty()
        else:
            self._replacement.copy()
        connection = connect(self._replacement.path, "rw")
        # Nobody reads this file before it is sealed, and then it is on the disk.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        if self._before is None:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        if self._keeping:
            connection.execute("SAVEPOINT vectors")
        return connection

    def sources(self) -> dict[str, str]:
        """Give the digest of each source in the index by its name."""
        return dict(self._reading.execute("SELECT name, digest FROM sources").fetchall())

    def shadowed(self) -> set[str]:
        """Give the sources of which passages were left out for the ids of other sources."""
        rows = self._reading.execute("SELECT name FROM sources WHERE shadowed").fetchall()
        return {name for (name,) in rows}

    def remove(self, source: str) -> None:
        """Take a source and its passages out; one that was never in changes nothing."""
        known = self._reading.execute("SELECT 1 FROM sources WHERE name = ?", (source,))
        if known.fetchone() is not None:
            self._take_out(source)
            self.changed = True

    def _take_out(self, source: str) -> None:
        self._write().execute("DELETE FROM passages WHERE source = ?", (source,))
        self._write().execute("DELETE FROM sources WHERE name = ?", (source,))

    def replace(self, file: SourceFile, digest: str) -> list[Skip]:
        """Put a file's passages in, in place of those it had; give what was left out of it.

        Raises:
            Unreadable: it is no document; whatever it had is out.
        """
        skipped: list[Skip] = []
        own, others = 0, 0
        self.remove(file.name)
        try:
            for passage in read(file, skipped):
                if not self._add(passage):
                    by_itself = self._source_of(passage.id) == file.name
                    own, others = own + by_itself, others + (not by_itself)
        except Unreadable:
            if self._writing:  # else nothing of it came in
                self._take_out(file.name)
            raise
        self._write().execute(
            "INSERT INTO sources VALUES (?, ?, ?)", (file.name, digest, others > 0)
        )
        self.changed = True
        if own + others:
            skipped.append((file.name, f"{own + others} passages with the id of another"))
        return skipped

    def _source_of(self, passage_id: str) -> str:
        found = self._write().execute("SELECT source FROM passages WHERE id = ?", (passage_id,))
        return str(found.fetchone()[0])

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
            self._write()
            .execute(
                "INSERT OR IGNORE INTO passages "
                '(id, source, title, text, "start", "end", mentions) VALUES (?,?,?,?,?,?,?)',
                row,
            )
            .rowcount
        )

    def count(self, *, to_embed: bool = False) -> int:
        """Count the passages, or only those without a vector."""
        condition = " WHERE vector IS NULL" if to_embed else ""
        row = self._reading.execute("SELECT count(*) FROM passages" + condition).fetchone()
        return int(row[0])

    def texts(self) -> Iterator[str]:
        """Give every passage as it is embedded and indexed: its title, a line break, its text."""
        for title, text in self._reading.execute(
            "SELECT title, text FROM passages ORDER BY number"
        ):
            yield embedded_text(title, text)

    def to_embed(self, limit: int) -> list[tuple[int, str, str]]:
        """Give number, text to embed and source of passages that have no vector yet."""
        rows = self._reading.execute(
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
        self._write().executemany(
            "UPDATE passages SET vector = ? WHERE number = ?",
            [(row.tobytes(), number) for row, number in zip(rows, numbers, strict=True)],
        )

    def keep_vectors(self) -> None:
        """Remember the vectors as they are now, for `kept_vectors`."""
        self._keeping = True
        if self._writing:
            self._write().execute("SAVEPOINT vectors")

    def kept_vectors(self) -> None:
        """Go back to the vectors that `keep_vectors` remembered."""
        if self._writing:
            self._write().execute("ROLLBACK TO vectors")

    def forget_vectors(self) -> None:
        """Take out all vectors: what comes next is another space."""
        held = self._reading.execute("SELECT 1 FROM passages WHERE vector NOT NULL LIMIT 1")
        if held.fetchone() is not None:
            self._write().execute("UPDATE passages SET vector = NULL")

    def commit(self, record: SpaceRecord | None) -> int:
        """Make this the version that readers see; give how many passages it has.

        Raises:
            RetrievalError: it cannot be put there.
        """
        if self._before and not self.changed and record is self.record:
            return self._before.passages
        self._write_blobs(record)
        manifest = Manifest(
            version=uuid.uuid4().hex,
            passages=self.count(),
            sources=len(self.sources()),
            space=record and record.space,
        )
        database = self._write()
        database.execute("DELETE FROM manifest")
        database.execute("INSERT INTO manifest VALUES (?)", (manifest.model_dump_json(),))
        database.execute("COMMIT")
        self._disconnect()
        if kept := self._replacement.publish(keep=self._damaged):
            self.warnings.append(f"the index was damaged: made anew, kept as {kept}")
        return manifest.passages

    def _write_blobs(self, record: SpaceRecord | None) -> None:
        blobs = {"words": WordIndex.build(self.texts()).dump(), "graph": self._graph().dump()}
        if record is not None:
            blobs["canaries"] = pack(canaries=record.canaries)
            if record.dumped is not None:
                blobs["embedder"] = record.dumped
        self._write().execute("DELETE FROM blobs")
        self._write().executemany("INSERT INTO blobs VALUES (?, ?)", blobs.items())

    def _graph(self) -> PassageGraph:
        rows = self._reading.execute(
            "SELECT title, mentions FROM passages ORDER BY number"
        ).fetchall()
        return PassageGraph.build(
            [json.loads(mentioned) for _, mentioned in rows], [own_name(title) for title, _ in rows]
        )

    def close(self) -> None:
        """Leave the index to others; without a `commit` it is what it was before."""
        self._disconnect()
        self._replacement.close()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def embedded_text(title: str, text: str) -> str:
    """Give what is embedded and indexed of a passage."""
    return f"{title}\n{text}" if title else text
