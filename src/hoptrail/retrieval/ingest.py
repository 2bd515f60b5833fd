"""Documents in: the index comes to hold exactly what the given paths hold, or stays as it was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from hoptrail.errors import AllBackendsFailed, BackendError, NoBackend, RetrievalError, SpaceMismatch
from hoptrail.retrieval.documents import Skip, SourceFile, Unreadable, find
from hoptrail.retrieval.draft import Draft
from hoptrail.retrieval.store import SpaceRecord
from hoptrail.space import CorpusEmbedder, Embedder, EmbeddingSpace, Vectors, canaries_agree

BATCH = 256

Progress = Callable[[int, int, str], None]
"""Called with done, total and a source's name: files while they are read, then passages while
they are embedded."""

P = ParamSpec("P")
T = TypeVar("T")


class EmbedderSource(Protocol):
    """Whoever knows which embedders there are, best first."""

    async def first(self) -> Embedder:
        """Give the best embedder that is up.

        Raises:
            HoptrailError: there is none.
        """

    async def matching(
        self, space: EmbeddingSpace, canaries: Vectors, dumped: bytes | None
    ) -> Embedder | None:
        """Give an embedder of this very space that is up, or None."""


class IngestReport(BaseModel):
    """What an ingestion did: numbers of sources, and of passages now in the index.

    ``space`` is the embedding space the index is in, or None when it is words only; ``skipped``
    holds what was left out with its reason, ``warnings`` what else went wrong on the way.
    """

    model_config = ConfigDict(frozen=True)

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    skipped: tuple[Skip, ...] = ()
    passages: int = 0
    space: EmbeddingSpace | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


async def ingest(
    paths: Iterable[Path | str],
    index_path: Path | str,
    *,
    embedders: EmbedderSource | None,
    progress: Progress | None = None,
) -> IngestReport:
    """Bring the index in the folder ``index_path`` to what the files under ``paths`` hold.

    Files that have not changed are neither read again nor embedded again, files that are gone
    leave. It is one transaction: readers see the old version until the new one is complete,
    and cancelling or killing it leaves the old one. Without ``embedders`` the index is words
    only.

    Raises:
        RetrievalError: a path does not exist, no document is readable, the index cannot be
            written, or another ingestion is writing it.
    """
    # One thread for all of it: SQLite work stays in order, even when this call is cancelled.
    with_thread = ThreadPoolExecutor(1, thread_name_prefix="hoptrail-ingest")
    ingestion = _Ingestion(with_thread, embedders, progress)
    try:
        return await ingestion.run([Path(path) for path in paths], Path(index_path))
    finally:
        ingestion.close()


@dataclass
class _Ingestion:
    thread: ThreadPoolExecutor
    embedders: EmbedderSource | None
    progress: Progress | None
    started: float = field(default_factory=time.monotonic)
    counts: dict[str, int] = field(
        default_factory=lambda: {"added": 0, "changed": 0, "removed": 0, "unchanged": 0}
    )
    skipped: list[Skip] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    draft: Draft | None = None

    async def run(self, paths: Sequence[Path], folder: Path) -> IngestReport:
        files, skipped = await self._in_thread(find, paths)
        self.skipped += skipped
        draft = await self._in_thread(self._open, folder)
        if draft.set_aside:
            self.warnings.append(f"the index was damaged; its file is kept as {draft.set_aside}")
        await self._take_in(draft, files)
        ...
