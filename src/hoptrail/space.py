"""Embedding spaces: what makes two vectors comparable, and who makes them.

Width and model name are not enough: the same name may be another revision, another pooling or
another quantisation. A space therefore has a declared identity *and* the vectors of a few fixed
canary texts. Vectors may be compared only when the canaries agree.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Vectors = NDArray[np.float32]
TextKind = Literal["passage", "query"]

CANARY_TEXTS = (
    "The river Vltava flows through Prague.",
    "Marie Curie was awarded the Nobel Prize in Physics in 1903.",
    "A recipe for bread: flour, water, salt and yeast.",
    "def add(a, b): return a + b",
)
"""Embedded one at a time, because quantised models give other vectors in a batch: each as a
passage, then the first once more as a query, so that another query prefix shows too."""

CANARY_TOLERANCE = 0.985
"""Smallest cosine at which two vectors of one canary are the same model's (fp32 and int8 of
all-MiniLM-L6-v2 agree to 0.986; other models of the same width are far below)."""


class EmbeddingSpace(BaseModel):
    """The declared identity of a space."""

    model_config = ConfigDict(frozen=True)

    backend: str
    model: str
    dimensions: int
    revision: str = ""
    normalised: bool = True
    query_prefix: str = ""
    passage_prefix: str = ""

    @property
    def id(self) -> str:
        """A short, stable name of the identity."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()
        return f"{self.backend}:{self.model}:{digest[:12]}"


class Embedder(ABC):
    """Turns texts into unit vectors of one space.

    Raises `hoptrail.errors.BackendError` when it cannot, and never gives fewer, zero,
    non-finite or differently wide vectors than it was asked for.
    """

    backend: str
    """``huggingface``, ``ollama``, ``local``, ``hash`` or ``external``."""
    model: str = ""
    """The model's name as its backend knows it."""
    may_change: bool = True
    """Whether another model may come to answer under this name while the process runs."""

    @abstractmethod
    async def space(self) -> EmbeddingSpace:
        """Give the space's identity; may ask the backend once."""

    @abstractmethod
    async def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Give one unit row per text, shape (len(texts), dimensions), float32."""

    async def canaries(self) -> Vectors:
        """Give the vectors of the canaries, shape (len(CANARY_TEXTS) + 1, dimensions)."""
        rows = [await self.embed([text], "passage") for text in CANARY_TEXTS]
        return np.vstack([*rows, await self.embed(CANARY_TEXTS[:1], "query")])


class CorpusEmbedder(Embedder):
    """An embedder whose space depends on the corpus (the hash embedder's idf table)."""

    @abstractmethod
    def fitted(self, texts: Iterable[str]) -> CorpusEmbedder:
        """Give an embedder fitted to these passages."""

    @abstractmethod
    def dump(self) -> bytes:
        """Give what an index has to store to query this space again."""

    @abstractmethod
    def restored(self, dumped: bytes) -> CorpusEmbedder:
        """Give the embedder that `dump` described."""


class Embedders(Protocol):
    """Several embedders in order of preference; one call of any of them stays in one space."""

    async def first(self) -> Embedder:
        """Give the first embedder that is up.

        Raises:
            AllBackendsFailed: none is; it names each reason.
        """

    async def matching(
        self, space_id: str, canaries: Vectors, dumped: bytes | None = None
    ) -> Embedder | None:
        """Give an embedder of the space an index was built in, or None when none is up.

        ``canaries`` and, for a `CorpusEmbedder`, ``dumped`` are what the index stored.
        """

    @property
    def reasons(self) -> list[str]:
        """Why the last decision passed over the others, one line each."""


def canaries_agree(ours: Vectors, theirs: Vectors) -> bool:
    """Say whether two sets of canary vectors come from one space."""
    if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return False
    cosines = np.einsum("ij,ij->i", ours, theirs)
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return bool((norms > 0).all() and (cosines >= CANARY_TOLERANCE * norms).all())
