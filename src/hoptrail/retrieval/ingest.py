"""Documents in: the index comes to hold exactly what the given paths hold, or stays as it was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict

from hoptrail.errors import BackendError, HoptrailError, RetrievalError, SpaceMismatch
from hoptrail.retrieval.documents import FileState, Skip, SourceFile, Unreadable, find
from hoptrail.retrieval.draft import Draft
from hoptrail.retrieval.store import SpaceRecord, index_file, sqlite_errors
from hoptrail.space import (
    CANARY_TEXTS,
    CorpusEmbedder,
    Embedder,
    Embedders,
    EmbeddingSpace,
    canaries_agree,
)

BATCH = 256
PATIENCE_SECONDS = 600.0
"""How long an ingestion waits for another one that is writing the same index."""

PAUSE_SECONDS = 0.05
READINGS = 3
"""How often a file is read that another program is writing meanwhile."""

Progress = Callable[[int, int, str], None]
"""Called with done, total and a source's name: files while they are read, then passages while
they are embedded; before that, with nothing done of nothing, when another ingestion has to end."""

P = ParamSpec("P")
T = TypeVar("T")


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
    embedders: Embedders | None,
    progress: Progress | None = None,
) -> IngestReport:
    """Bring the index in the folder ``index_path`` to what the files under ``paths`` hold.

    Files that have not changed are neither read again nor embedded again, files that are gone
    leave. It is one transaction: readers see the old version until the new one is complete,
    and cancelling or killing it leaves the old one. Ingestions of one index take turns, and each
    looks for its files when its turn has come. Without ``embedders`` the index is words only.

    Raises:
        RetrievalError: a path does not exist, no document is readable, the index cannot be
            written, or another ingestion has been writing it for `PATIENCE_SECONDS`.
    """
    ingestion = _Ingestion(embedders, progress)
    with sqlite_errors(index_file(Path(index_path))):
        return await ingestion.run([Path(path) for path in paths], Path(index_path))


class _Ingestion:
    def __init__(self, embedders: Embedders | None, progress: Progress | None) -> None:
        # One thread for all of it: SQLite's work stays in order even when the call is cancelled.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hoptrail-ingest")
        self._embedders = embedders
        self._progress = progress or (lambda done, total, path: None)
        self._counts = dict.fromkeys(("added", "changed", "removed", "unchanged"), 0)
        self._skipped: list[Skip] = []
        self._warnings: list[str] = []

    async def run(self, paths: Sequence[Path], folder: Path) -> IngestReport:
        started = time.monotonic()
        draft = Draft(folder)
        try:
            await self._claim(draft, folder)
            # Not before: a file that came while another ingestion wrote would leave again.
            files, self._skipped = await self._in_thread(find, paths)
            await self._in_thread(draft.begin)
            await self._take_in(draft, files)
            record = await self._embed(draft)
            passages = await self._in_thread(draft.commit, record)
            await self._in_thread(draft.close)
        finally:
            # When cancelled: queued behind whatever the thread is still doing, not waited for.
            self._thread.submit(draft.close)
            self._thread.shutdown(wait=False)
        return IngestReport(
            **self._counts,
            skipped=tuple(self._skipped),
            passages=passages,
            space=record and record.space,
            seconds=time.monotonic() - started,
            warnings=(*draft.warnings, *self._warnings),
        )

    async def _claim(self, draft: Draft, folder: Path) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not await self._in_thread(draft.claim):
            if time.monotonic() >= until:
                raise RetrievalError(
                    f"{index_file(folder)}: another ingestion is writing this index; try again "
                    "when it is done"
                )
            self._progress(0, 0, "another ingestion of this index")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(work, *args, **kwargs))

    async def _take_in(self, draft: Draft, files: Sequence[SourceFile]) -> None:
        before = await self._in_thread(draft.sources)
        readable: dict[str, SourceFile] = {}
        for done, file in enumerate(files, 1):
            try:
                kind = await self._in_thread(self._refresh, draft, file, before.get(file.name))
            except Unreadable as reason:
                self._skipped.append((file.name, str(reason)))
            else:
                self._counts[kind] += 1
                readable[file.name] = file
            self._progress(done, len(files), file.name)
        if not readable:
            raise RetrievalError(_nothing_to_read(self._skipped))
        for gone in before.keys() - readable.keys():
            await self._in_thread(draft.remove, gone)
            self._counts["removed"] += 1
        if self._counts["removed"] or self._counts["changed"]:
            await self._in_thread(self._uncover, draft, before, readable)

    def _refresh(self, draft: Draft, file: SourceFile, known: str | None) -> str:
        state = file.state()
        if state.digest == known:
            return "unchanged"
        self._skipped += self._read(draft, file, state)
        return "changed" if known else "added"

    def _read(self, draft: Draft, file: SourceFile, state: FileState) -> list[Skip]:
        """Take in a file as it was at one moment; give what was left out of it."""
        try:
            for _ in range(READINGS):
                skipped = draft.replace(file, state.digest)
                before, state = state, file.state()
                if state == before:
                    return skipped
            raise Unreadable("it changes while it is read")
        except Unreadable:
            draft.remove(file.name)
            raise

    def _uncover(
        self, draft: Draft, before: Mapping[str, str], readable: Mapping[str, SourceFile]
    ) -> None:
        """Read those files again whose passages' ids may have been another file's until now."""
        for name in sorted(draft.shadowed() & before.keys() & readable.keys()):
            file = readable[name]
            self._skipped = [skip for skip in self._skipped if skip[0] != name]
            try:
                self._skipped += self._read(draft, file, file.state())
            except Unreadable as reason:
                self._skipped.append((name, str(reason)))

    async def _embed(self, draft: Draft) -> SpaceRecord | None:
        """Bring all passages into one space: that of the best embedder that lasts to the end."""
        failed: set[str] = set()
        while self._embedders is not None:
            try:
                embedder = await self._embedders.first()
            except HoptrailError as error:
                self._warnings.append(f"no embedder: {error}")
                break
            if embedder.backend in failed:
                break
            await self._in_thread(draft.keep_vectors)
            try:
                return await self._embed_with(draft, embedder)
            except (BackendError, SpaceMismatch) as error:
                failed.add(embedder.backend)
                self._warnings.append(f"{embedder.backend} failed while embedding: {error}")
            await self._in_thread(draft.kept_vectors)
        if self._embedders is not None and not draft.changed:
            return draft.record
        await self._in_thread(draft.forget_vectors)
        return None

    async def _embed_with(self, draft: Draft, embedder: Embedder) -> SpaceRecord:
        dumped = None
        if isinstance(embedder, CorpusEmbedder):
            if draft.record and not draft.changed and await _readable(draft.record, embedder):
                return draft.record
            fitted = await self._in_thread(_fitted, embedder, draft)
            embedder, dumped = fitted, fitted.dump()
        record = SpaceRecord(await embedder.space(), await embedder.canaries(), dumped)
        if draft.record is not None and _agree(draft.record, record):
            record = draft.record
        else:
            await self._in_thread(draft.forget_vectors)
        await self._embed_passages(draft, embedder)
        if not canaries_agree(
            record.canaries[:1], await embedder.embed(CANARY_TEXTS[:1], "passage")
        ):
            raise SpaceMismatch("its vectors changed while the documents were being embedded")
        return record

    async def _embed_passages(self, draft: Draft, embedder: Embedder) -> None:
        total = await self._in_thread(draft.count, to_embed=True)
        done = 0
        while batch := await self._in_thread(draft.to_embed, BATCH):
            vectors = await embedder.embed([text for _, text, _ in batch], "passage")
            await self._in_thread(draft.set_vectors, [number for number, _, _ in batch], vectors)
            done += len(batch)
            self._progress(done, total, batch[-1][2])


def _fitted(embedder: CorpusEmbedder, draft: Draft) -> CorpusEmbedder:
    return embedder.fitted(draft.texts())


def _agree(ours: SpaceRecord, theirs: SpaceRecord) -> bool:
    return ours.dumped == theirs.dumped and canaries_agree(ours.canaries, theirs.canaries)


async def _readable(record: SpaceRecord, embedder: CorpusEmbedder) -> bool:
    """Say whether an unchanged index may stay in its space although only ``embedder`` is up.

    A model's space stays: it will be up again, and a space of the corpus is the last resort.
    """
    if record.dumped is None:
        return True
    return canaries_agree(record.canaries, await embedder.restored(record.dumped).canaries())


def _nothing_to_read(skipped: Sequence[Skip]) -> str:
    if not skipped:
        return "there is no document to ingest: no file is there"
    path, reason = skipped[0]
    rest = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return f"no document can be read; skipped {path} ({reason}){rest}"
