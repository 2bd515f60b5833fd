"""What an index serves, read as a user would, and whether it hangs together."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from hoptrail.embeddings import EmbedderChain, HashEmbedder
from hoptrail.retrieval.index import Index
from hoptrail.retrieval.ingest import IngestReport, ingest
from hoptrail.retrieval.store import FILE_NAME
from tests.mortal_ingestion import WIDTH

Served = dict[str, str] | None
"""Texts by id; None where there is no index."""


def chain() -> EmbedderChain:
    """Give the embedders of these indexes."""
    return EmbedderChain([HashEmbedder(WIDTH)])


def write(folder: Path, documents: dict[str, str]) -> Path:
    """Make a folder hold these documents and no others."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, text in documents.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def take_in(docs: Path, place: Path) -> IngestReport:
    """Ingest and wait for it."""
    return asyncio.run(ingest([docs], place, embedders=chain()))


def served(place: Path) -> Served:
    """Give every passage that is served, having made sure that each finds itself.

    What the manifest says, the rows and the vectors are as many.
    """
    if not (place / FILE_NAME).exists():
        return None
    with closing(Index.open(place)) as index:
        address = f"{(place / FILE_NAME).as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as database:
            rows = database.execute("SELECT id, text, vector FROM passages").fetchall()
        assert index.stats().passages == len(rows)
        assert all(vector is not None for *_, vector in rows)
        asyncio.run(_each_finds_itself(index, {id_: text for id_, text, _ in rows}))
    return {id_: text for id_, text, _ in rows}


async def _each_finds_itself(index: Index, texts: dict[str, str]) -> None:
    embedders = chain()
    for id_, text in texts.items():
        found = await index.search(text, k=1, embedders=embedders, graph=False)
        assert found.mode == "hybrid"
        assert found.evidence[0].passage.id == id_
