"""Embedders: Hugging Face, Ollama, in this process, by hashing, or the user's own.

Each turns texts into unit vectors of one space (`hoptrail.space`); `EmbedderChain` says which of
them may be used now, and never lets vectors of two spaces meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hoptrail.embeddings.chain import EmbedderChain
from hoptrail.embeddings.external import ExternalEmbedder
from hoptrail.embeddings.hashing import HashEmbedder
from hoptrail.embeddings.huggingface import HuggingFaceEmbedder
from hoptrail.embeddings.local import LocalEmbedder
from hoptrail.embeddings.ollama import OllamaEmbedder
from hoptrail.space import Embedder, Embedders

if TYPE_CHECKING:
    from hoptrail.embeddings.face import LangChainEmbeddings, Pin, Runner

__all__ = [
    "EmbedderChain",
    "ExternalEmbedder",
    "HashEmbedder",
    "HuggingFaceEmbedder",
    "LocalEmbedder",
    "OllamaEmbedder",
    "as_langchain",
]


def as_langchain(
    source: Embedder | Embedders, *, pin: Pin | None = None, run: Runner | None = None
) -> LangChainEmbeddings:
    """Give ``source`` as a LangChain ``Embeddings`` that stays in one space.

    ``pin`` is the space of vectors stored earlier; ``run`` waits for a coroutine in the sync
    methods (default: on an event loop of its own, in a thread).
    """
    from hoptrail.embeddings.face import (  # noqa: PLC0415 # brings LangChain
        LangChainEmbeddings,
        in_thread,
    )

    return LangChainEmbeddings(source, pin=pin, run=run or in_thread)
