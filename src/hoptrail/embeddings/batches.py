"""Embedders that ask someone else: in batches, a few at a time, and checked."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from hoptrail.embeddings.vectors import unit_rows
from hoptrail.errors import BackendBusy, BackendError, InvalidResponse
from hoptrail.space import CANARY_TEXTS, Embedder, EmbeddingSpace, TextKind, Vectors

PAUSE_SECONDS = 0.1
PATIENCE_SECONDS = 10.0
"""How long ingestion waits for a busy server before it gives up; a query does not wait."""


@dataclass(eq=False, kw_only=True)
class BatchedEmbedder(Embedder):
    """Splits texts into batches, at most ``concurrency`` under way, and checks every answer.

    A batch is asked once more when that can help, and that is the only repetition below the
    chain. One call is one backend: when a batch fails, the call fails.
    """

    batch_size: int = 32
    concurrency: int = 4
    query_prefix: str = ""
    passage_prefix: str = ""
    _width: int | None = field(default=None, init=False, repr=False)

    @abstractmethod
    async def _answer(self, texts: list[str], kind: TextKind) -> object:
        """Give one vector per text as the backend sent them: nested lists or an array."""

    async def _revision(self) -> str:
        """Give what tells two models of one name apart, or an empty text."""
        return ""

    async def space(self) -> EmbeddingSpace:
        """Give the space's identity; asks for one vector when the width is not known yet."""
        if self._width is None:
            await self.embed(CANARY_TEXTS[:1], "passage")
        return EmbeddingSpace(
            backend=self.backend,
            model=self.model,
            dimensions=self._width or 0,
            revision=await self._revision(),
            query_prefix=self.query_prefix,
            passage_prefix=self.passage_prefix,
        )

    async def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Give one unit row per text, shape (len(texts), dimensions), float32."""
        if not texts:
            return np.empty((0, (await self.space()).dimensions), dtype=np.float32)
        free = asyncio.Semaphore(self.concurrency)

        async def batch(start: int) -> Vectors:
            async with free:
                some = texts[start : start + self.batch_size]
                return await self._ask(some, kind, patient=kind == "passage")

        rows = await gathered(
            partial(batch, start) for start in range(0, len(texts), self.batch_size)
        )
        return self._one_width(rows, self._width)

    async def canaries(self) -> Vectors:
        """Give the canary vectors; learns the width anew, and that rows keep the texts' order.

        Raises:
            InvalidResponse: among other things, when a batch comes back in another order.
        """
        asked: list[tuple[Sequence[str], TextKind]] = [([text], "passage") for text in CANARY_TEXTS]
        asked += [(CANARY_TEXTS[:1], "query"), (CANARY_TEXTS, "passage")]
        rows = await gathered(
            partial(self._ask, texts, kind, patient=False) for texts, kind in asked
        )
        found = self._one_width(rows, None)
        singles, batch = np.split(found, [len(CANARY_TEXTS) + 1])
        nearest = (batch @ singles[:-1].T).argmax(axis=1)
        if (nearest != np.arange(len(CANARY_TEXTS))).any():
            raise self._invalid("vectors do not come back in the order of their texts")
        return singles

    async def _ask(self, texts: Sequence[str], kind: TextKind, *, patient: bool) -> Vectors:
        try:
            return await self._rows(texts, kind)
        except BackendError as error:
            pause = _pause(error, patient=patient)
            if pause is None:
                raise
        await asyncio.sleep(pause)
        return await self._rows(texts, kind)

    async def _rows(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        prefix = self.query_prefix if kind == "query" else self.passage_prefix
        answer = await self._answer([_encodable(prefix + text) for text in texts], kind)
        try:
            return unit_rows(answer, len(texts))
        except ValueError as error:
            raise self._invalid(str(error)) from None

    def _one_width(self, rows: Sequence[Vectors], expected: int | None) -> Vectors:
        """Join the batches; remembers their width, which may not differ from ``expected``."""
        widths = {found.shape[1] for found in rows} | ({expected} if expected else set())
        if len(widths) > 1:
            raise self._invalid(f"the vectors' width changed: {sorted(widths)}")
        (self._width,) = widths
        return np.vstack(rows)

    def _invalid(self, message: str) -> InvalidResponse:
        return InvalidResponse(message, backend=self.backend, model=self.model)


def _encodable(text: str) -> str:
    """Replace lone surrogates: broken documents hold them, and no server can be sent them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _pause(error: BackendError, *, patient: bool) -> float | None:
    """Give the seconds to wait before asking the same backend again, or None for never."""
    if isinstance(error, BackendBusy):
        wait = error.retry_after or 1.0
        return wait if patient and wait <= PATIENCE_SECONDS else None
    return PAUSE_SECONDS if error.retry_same else None


async def gathered(work: Iterable[Callable[[], Awaitable[Vectors]]]) -> list[Vectors]:
    """Give all results in order; the first failure cancels the rest and rises as itself.

    Not so when the caller is cancelled meanwhile: then that is what rises.
    """
    failures: list[Exception] = []

    async def attempted(ask: Callable[[], Awaitable[Vectors]]) -> Vectors:
        try:
            return await ask()
        # Not for the group to see: before Python 3.13 it loses a cancellation that a failure
        # comes with, and Ctrl-C would be one.
        except Exception as error:
            failures.append(error)
            for task in tasks:
                task.cancel()
            raise asyncio.CancelledError from error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(attempted(ask)) for ask in work]
    if failures:
        raise failures[0]
    return [task.result() for task in tasks]
