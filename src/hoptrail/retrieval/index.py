"""The index: a question in, evidence out.

Words (BM25) and vectors (exact cosine) are each divided by their best score for the question and
added half and half; the passage graph then walks from what that found. The arrays are in memory,
the texts stay on disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hoptrail.errors import BackendError, IndexDamaged, SpaceMismatch
from hoptrail.evidence import Evidence, Passage, Retrieval
from hoptrail.retrieval.graph import PassageGraph
from hoptrail.retrieval.older import migrate
from hoptrail.retrieval.store import (
    FORMAT,
    Identity,
    Manifest,
    OlderFormat,
    SpaceRecord,
    damaged,
    identity,
    index_file,
    open_index,
    part_errors,
    read_blob,
    read_manifest,
    read_space,
    read_vectors,
)
from hoptrail.retrieval.words import WordIndex
from hoptrail.space import Embedders, EmbeddingSpace, Vectors

CACHED_QUERIES = 512
SMALLEST_SCORE = 1e-9

Scores = NDArray[np.float32]


class IndexStats(BaseModel):
    """What an index holds, and what it takes on disk.

    ``names`` and ``links`` are the passage graph's; ``space`` is None where it is words only.
    """

    model_config = ConfigDict(frozen=True)

    path: Path
    format: int
    passages: int
    sources: int
    space: EmbeddingSpace | None
    names: int
    links: int
    bytes: int
    sqlite: str = sqlite3.sqlite_version


@dataclass(frozen=True)
class Ranking:
    """The best passages of a question by number, with every score of all passages."""

    best: NDArray[np.intp]
    final: Scores
    scores: dict[str, Scores]


@dataclass(frozen=True)
class _Version:
    """One version of an index: arrays in memory, of which row i is the passage ``numbers[i]``.

    The texts stay in the file, which is ``identity``: another one holds another version.
    """

    database: sqlite3.Connection
    identity: Identity
    manifest: Manifest
    numbers: tuple[int, ...]
    words: WordIndex
    graph: PassageGraph
    record: SpaceRecord | None
    vectors: Vectors | None

    def rank(self, question: str, vector: Vectors | None, k: int, walk: bool) -> Ranking:
        scores = {"bm25": self.words.scores(question)}
        if vector is not None and self.vectors is not None:
            scores["dense"] = self.vectors @ vector
        fused = fuse(*scores.values())
        graph = self.graph.scores(question, fused) if walk else np.zeros_like(fused)
        best = ranked(graph, fused, k)
        final = graph if graph.any() else fused
        return Ranking(best, final, scores | {"graph": graph, "fused": fused})


def fuse(*scores: Scores) -> Scores:
    """Give the mean of the scores, each without what is negative and divided by its best."""
    parts = [
        np.maximum(part, 0) / max(float(part.max(initial=0)), SMALLEST_SCORE) for part in scores
    ]
    fused: Scores = np.mean(parts, axis=0, dtype=np.float32)
    return fused


def ranked(graph: Scores, fused: Scores, k: int) -> NDArray[np.intp]:
    """Give the numbers of the best ``k`` passages: by graph, then by fused score, then in order.

    Passages that neither has seen are left out.
    """
    seen = np.flatnonzero((graph > 0) | (fused > 0))
    if 0 < k < len(seen):
        least = np.partition(graph[seen], -k)[-k]
        seen = seen[graph[seen] >= least]
    return seen[np.lexsort((seen, -fused[seen], -graph[seen]))][:k]


class Index:
    """Searches the newest finished version of an index; safe to use from several tasks.

    Raises on opening and searching:
        RetrievalError: there is no index, or a newer Hoptrail wrote it.
        IndexDamaged: it is not what was written.
    """

    def __init__(self, file: Path, version: _Version) -> None:
        self._file = file
        self._version = version
        self._lock = threading.Lock()
        self._queries: OrderedDict[tuple[str, str], Vectors] = OrderedDict()

    @classmethod
    def open(cls, path: Path | str) -> Index:
        """Open the index in the folder ``path``, checking all of it; blocks while it reads."""
        file = index_file(Path(path))
        return cls(file, _opened(file))

    def close(self) -> None:
        """Close the file; a search under way finishes first."""
        with self._lock:
            self._version.database.close()

    async def search(
        self,
        question: str,
        *,
        k: int = 5,
        embedders: Embedders | None = None,
        graph: bool = True,
    ) -> Retrieval:
        """Give the best ``k`` passages for a question.

        Evidence scores are ``bm25`` and ``dense`` (cosine) as they are, their ``fused`` mean
        of 0 to 1, and the ``graph``'s mass; ``score`` is the one it was ranked by: the graph's,
        unless no two passages share a name or ``graph`` is false. Without an embedder of the
        index's space the search goes by words only, and says so.
        """
        while True:
            version = self._version
            vector, warnings = await self._vector(version, question, embedders)
            evidence = await asyncio.to_thread(self._evidence, version, question, vector, k, graph)
            if evidence is not None:
                used = None if vector is None else version.record
                return _retrieval(evidence, used, warnings)

    def passages(self, ids: Sequence[str]) -> dict[str, Passage]:
        """Give those of some passages that there are, by id; blocks while it reads."""
        with self._lock, part_errors(self._file):
            database = self._newest().database
            rows = [
                database.execute("SELECT number FROM passages WHERE id = ?", (id_,)).fetchone()
                for id_ in ids
            ]
            found = [_passage(database, row[0]) for row in rows if row is not None]
        return {passage.id: passage for passage in found}

    def stats(self) -> IndexStats:
        """Say what the index holds."""
        version = self._version
        return IndexStats(
            path=self._file,
            format=FORMAT,
            passages=version.manifest.passages,
            sources=version.manifest.sources,
            space=version.manifest.space,
            names=len(version.graph.names),
            links=version.graph.edges,
            bytes=version.identity.size,
        )

    async def _vector(
        self, version: _Version, question: str, embedders: Embedders | None
    ) -> tuple[Vectors | None, tuple[str, ...]]:
        """Give the question's vector in the index's space, or None and the reason."""
        if version.record is None:
            return None, ("the index holds no vectors: searched by words only",)
        key = (version.manifest.version, question)
        if (known := self._queries.get(key)) is not None:
            return known, ()
        if embedders is None:
            return None, ("no embedder was given: searched by words only",)
        try:
            vector = await _embedded(version.record, question, embedders)
        except BackendError as error:
            return None, (f"{error.backend} failed: searched by words only ({error})",)
        except IndexDamaged as error:  # of a part that only its embedder can read
            raise damaged(self._file, str(error)) from error
        if vector is None:
            why = "; ".join(embedders.reasons)
            return None, (f"no embedder of the index's space: searched by words only ({why})",)
        self._queries[key] = vector
        if len(self._queries) > CACHED_QUERIES:
            self._queries.popitem(last=False)
        return vector, ()

    def _evidence(
        self, version: _Version, question: str, vector: Vectors | None, k: int, walk: bool
    ) -> tuple[Evidence, ...] | None:
        """Give the evidence, or None when there is a newer version: it is loaded then."""
        ranking = version.rank(question, vector, k, walk)
        with self._lock, part_errors(self._file):
            if self._newest() is not version:
                return None
            return tuple(
                Evidence(
                    passage=_passage(version.database, version.numbers[row]),
                    rank=rank,
                    score=float(ranking.final[row]),
                    scores={name: float(of[row]) for name, of in ranking.scores.items() if of[row]},
                )
                for rank, row in enumerate(ranking.best.tolist(), 1)
            )

    def _newest(self) -> _Version:
        """Give the version that the file holds now; the lock has to be held."""
        if identity(self._file) != self._version.identity:
            outdated, self._version = self._version, _opened(self._file)
            outdated.database.close()
        return self._version


def _retrieval(
    evidence: tuple[Evidence, ...], used: SpaceRecord | None, warnings: tuple[str, ...]
) -> Retrieval:
    mode, space = ("lexical", None) if used is None else ("hybrid", used.space.id)
    return Retrieval(evidence=evidence, mode=mode, space=space, warnings=warnings)


async def _embedded(record: SpaceRecord, question: str, embedders: Embedders) -> Vectors | None:
    """Give the question's vector; whoever fails is passed over when it is asked for once more."""
    embedder = await embedders.matching(record.space.id, record.canaries, record.dumped)
    if embedder is None:
        return None
    try:
        rows = await embedder.embed([question], "query")
    except BackendError:
        other = await embedders.matching(record.space.id, record.canaries, record.dumped)
        if other is None or other is embedder:
            raise
        rows = await other.embed([question], "query")
    if rows.shape != (1, record.space.dimensions):
        raise SpaceMismatch(f"a vector of shape {rows.shape} is not of the space {record.space.id}")
    return rows.reshape(-1)


def _opened(file: Path) -> _Version:
    """Load the newest version; an index of an earlier format is brought forward first."""
    try:
        database, found = open_index(file)
    except OlderFormat:
        migrate(file)
        database, found = open_index(file)
    try:
        with part_errors(file):
            return _loaded(file, database, found)
    except BaseException:
        database.close()
        raise


def _loaded(file: Path, database: sqlite3.Connection, found: Identity) -> _Version:
    manifest = read_manifest(database)
    rows = database.execute("SELECT number FROM passages ORDER BY number").fetchall()
    words, graph = read_blob(database, "words"), read_blob(database, "graph")
    if words is None or graph is None or len(rows) != manifest.passages:
        raise damaged(file, "parts of it are missing")
    record = read_space(database, manifest)
    return _Version(
        database=database,
        identity=found,
        manifest=manifest,
        numbers=tuple(number for (number,) in rows),
        words=WordIndex.restored(words, len(rows)),
        graph=PassageGraph.restored(graph, len(rows)),
        record=record,
        vectors=None if record is None else read_vectors(database, record.space.dimensions),
    )


def _passage(database: sqlite3.Connection, number: int) -> Passage:
    row = database.execute(
        'SELECT id, source, title, text, "start", "end" FROM passages WHERE number = ?', (number,)
    ).fetchone()
    fields = ("id", "source", "title", "text", "start", "end")
    return Passage(**dict(zip(fields, row, strict=True)))
