"""An embedder in memory whose failures a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from hoptrail.errors import BackendUnavailable
from hoptrail.space import CANARY_TEXTS, Embedder, EmbeddingSpace, TextKind, Vectors
from tests.providers import unit_vector


@dataclass(eq=False)
class MemoryEmbedder(Embedder):
    """Embeds by the words of a text; ``weights`` names its space.

    It fails when it is ``down``, for the texts it is ``down_for``, and for good after
    ``lasts`` texts; after the first texts it ``turns_into`` another model. ``asked`` are the
    texts it was given, without the canaries. With a ``gate`` it waits for that first, and
    ``started`` tells that it does.
    """

    weights: str = "all-minilm"
    backend: str = "ollama"
    down: bool = False
    down_for: Collection[str] = ()
    lasts: int | None = None
    turns_into: str = ""
    gate: asyncio.Event | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    model = "in-memory"

    async def space(self) -> EmbeddingSpace:
        return EmbeddingSpace(backend=self.backend, model=self.weights, dimensions=384)

    async def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        if self.down:
            raise BackendUnavailable("it went down", backend=self.backend)
        if told := [text for text in texts if text not in CANARY_TEXTS]:
            await self._note(told)
        return np.array([unit_vector(text, self.weights) for text in texts], dtype=np.float32)

    async def _note(self, texts: Sequence[str]) -> None:
        self.asked += texts
        self.started.set()
        if self.gate is not None:
            await self.gate.wait()
        worn_out = self.lasts is not None and len(self.asked) > self.lasts
        if worn_out or set(texts) & set(self.down_for):
            raise BackendUnavailable("it went down", backend=self.backend)
        self.weights = self.turns_into or self.weights
