"""Our embedders as a LangChain ``Embeddings``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from langchain_core.embeddings import Embeddings

from hoptrail.errors import SpaceMismatch
from hoptrail.space import Embedder, Embedders, TextKind, Vectors

Rows = list[list[float]]
Runner = Callable[[Coroutine[None, None, Rows]], Rows]


@dataclass(frozen=True, eq=False)
class Pin:
    """The space that vectors already stored are in."""

    space_id: str
    canaries: Vectors


def in_thread(work: Coroutine[None, None, Rows]) -> Rows:
    """Run ``work`` on an event loop of its own, whatever this thread is doing."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


class LangChainEmbeddings(Embeddings):
    """Gives LangChain the vectors of one space, of an embedder or of a chain's.

    The first call pins the space: vectors of two spaces must not meet in one store, so later
    calls use an embedder that agrees with it, or raise. Whoever stores vectors across processes
    keeps ``pin`` beside them and passes it back.
    """

    def __init__(
        self, source: Embedder | Embedders, *, pin: Pin | None = None, run: Runner = in_thread
    ) -> None:
        self._source = source
        self._run = run
        self.pin = pin

    async def aembed_documents(self, texts: list[str]) -> Rows:
        """Embed texts to be found. Raises `SpaceMismatch` when no embedder of the space is up."""
        return await self._rows(texts, "passage")

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a text to find others by."""
        return (await self._rows([text], "query"))[0]

    def embed_documents(self, texts: list[str]) -> Rows:
        """Do `aembed_documents`, waiting."""
        return self._run(self._rows(texts, "passage"))

    def embed_query(self, text: str) -> list[float]:
        """Do `aembed_query`, waiting."""
        return self._run(self._rows([text], "query"))[0]

    async def _rows(self, texts: list[str], kind: TextKind) -> Rows:
        rows: Rows = (await (await self._embedder()).embed(texts, kind)).tolist()
        return rows

    async def _embedder(self) -> Embedder:
        if isinstance(self._source, Embedder):
            return self._source
        if self.pin is None:
            chosen = await self._source.first()
            pin = Pin((await chosen.space()).id, await chosen.canaries())
            self.pin = self.pin or pin  # a call beside this one may have been faster
        found = await self._source.matching(self.pin.space_id, self.pin.canaries)
        if found is None:
            reasons = "; ".join(self._source.reasons)
            raise SpaceMismatch(f"no embedder of {self.pin.space_id} is up ({reasons})")
        return found
