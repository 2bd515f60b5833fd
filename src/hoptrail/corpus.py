"""The documents of a trail: brought up to date once, then searched."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from hoptrail.errors import RetrievalError
from hoptrail.evidence import Passage, Retrieval
from hoptrail.retrieval.index import Index
from hoptrail.retrieval.ingest import IngestReport, ingest
from hoptrail.space import Embedders

Progress = Callable[[int, int, str], None]


class Corpus:
    """Documents, or an index built before, behind one `search`.

    Nothing is read before the first search, or before `prepare`. ``index`` is the index's
    folder; without one, documents are indexed under ``home``, by the address of what was given.
    """

    def __init__(
        self,
        docs: Sequence[Path],
        index: Path | None,
        home: Path,
        embedders: Embedders,
    ) -> None:
        self.docs = tuple(path.expanduser().absolute() for path in docs)
        self.folder = index.expanduser().absolute() if index else _folder(home, self.docs)
        self._embedders = embedders
        self._index: Index | None = None
        self._opening = asyncio.Lock()

    async def prepare(self, progress: Progress | None = None) -> IngestReport | None:
        """Bring the index up to date with the documents; None when there are none to read.

        Raises:
            RetrievalError: the documents or the index cannot be read.
        """
        async with self._opening:
            return await self._prepare(progress)

    async def open(self) -> Index:
        """Give the index, brought up to date once; raises as `prepare`."""
        if self._index is None:
            async with self._opening:
                if self._index is None:
                    await self._prepare(None)
        assert self._index is not None  # _prepare has opened it
        return self._index

    async def search(self, question: str, k: int) -> Retrieval:
        """Give the best ``k`` passages for a question."""
        index = await self.open()
        return await index.search(question, k=k, embedders=self._embedders)

    async def passages(self, ids: Sequence[str]) -> dict[str, Passage]:
        """Give those of some passages that the documents hold, whole, by id."""
        index = await self.open()
        return await asyncio.to_thread(index.passages, ids)

    async def _prepare(self, progress: Progress | None) -> IngestReport | None:
        report = None
        if self.docs:
            report = await ingest(
                self.docs, self.folder, embedders=self._embedders, progress=progress
            )
        elif not self.folder.exists():
            raise RetrievalError(
                f"there is no index at {self.folder}: `hoptrail ingest PATH --index "
                f"{self.folder}` makes one"
            )
        self._index = await asyncio.to_thread(Index.open, self.folder)
        return report

    def close(self) -> None:
        """Close the index."""
        if self._index is not None:
            self._index.close()
            self._index = None


def _folder(home: Path, docs: Sequence[Path]) -> Path:
    address = hashlib.sha256(b"\n".join(map(os.fsencode, docs))).hexdigest()[:16]
    return home / "indexes" / address
