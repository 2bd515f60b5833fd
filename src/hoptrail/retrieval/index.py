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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hoptrail.errors import BackendError, SpaceMismatch
from hoptrail.evidence import Evidence, Passage, Retrieval
from hoptrail.retrieval.graph import PassageGraph
from hoptrail.retrieval.store import (
    FORMAT,
    Manifest,
    SpaceRecord,
    connect,
    damaged,
    index_file,
    read_blob,
    read_manifest,
    read_space,
    read_vectors,
    sqlite_errors,
    verify,
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
    """One version of an index in memory. Row i of all arrays is the passage ``numbers[i]``."""

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

    def __init__(self, file: Path, database: sqlite3.Connection, version: _Version) -> None:
        self._file = file
        self._database = database
        self._version = version
        self._lock = threading.Lock()
        self._queries: OrderedDict[tuple[str, str], Vectors] = OrderedDict()

    @classmethod
    def open(cls, path: Path | str) -> Index:
        """Open the index in the folder ``path``, checking all of it; blocks while it reads."""
        file = index_file(Path(path))
        database = connect(file)
        try:
            with _reading(database, file):
                version = _load(database, file)
        except BaseException:
            database.close()
            raise
        return cls(file, database, version)

    def close(self) -> None:
        """Close the file; a search under way finishes first."""
        with self._lock:
            self._database.close()

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
        with self._lock, _reading(self._database, self._file):
            rows = [
                self._database.execute(
                    "SELECT number FROM passages WHERE id = ?", (id_,)
                ).fetchone()
                for id_ in ids
            ]
            found = [_passage(self._database, row[0]) for row in rows if row is not None]
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
            bytes=self._file.stat().st_size,
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
        with self._lock, _reading(self._database, self._file):
            manifest = read_manifest(self._database, self._file)
            if manifest.version != version.manifest.version:
                self._version = _load(self._database, self._file)
                return None
            return tuple(
                Evidence(
                    passage=_passage(self._database, version.numbers[row]),
                    rank=rank,
                    score=float(ranking.final[row]),
                    scores={name: float(of[row]) for name, of in ranking.scores.items() if of[row]},
                )
                for rank, row in enumerate(ranking.best.tolist(), 1)
            )


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


@contextmanager
def _reading(database: sqlite3.Connection, file: Path) -> Iterator[None]:
    """See one version throughout, whoever writes meanwhile."""
    with sqlite_errors(file):
        database.execute("BEGIN")
        try:
            yield
        finally:
            database.execute("END")


def _load(database: sqlite3.Connection, file: Path) -> _Version:
    manifest = verify(database, file)
    numbers = database.execute("SELECT number FROM passages ORDER BY number").fetchall()
    words, graph = read_blob(database, "words"), read_blob(database, "graph")
    if words is None or graph is None or len(numbers) != manifest.passages:
        raise damaged(file, "parts of it are missing")
    record = read_space(database, manifest)
    return _Version(
        manifest=manifest,
        numbers=tuple(number for (number,) in numbers),
        words=WordIndex.restored(words),
        graph=PassageGraph.restored(graph),
        record=record,
        vectors=None if record is None else read_vectors(database),
    )


def _passage(database: sqlite3.Connection, number: int) -> Passage:
    row = database.execute(
        'SELECT id, source, title, text, "start", "end" FROM passages WHERE number = ?', (number,)
    ).fetchone()
    fields = ("id", "source", "title", "text", "start", "end")
    return Passage(**dict(zip(fields, row, strict=True)))
