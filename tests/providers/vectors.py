"""Deterministic embeddings: a bag of hashed words, one space per model."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SAME_MODEL = {
    "sentence-transformers/all-minilm-l6-v2": "all-minilm",
    "all-minilm:latest": "all-minilm",
    "all-minilm:22m": "all-minilm",
    "all-minilm:l6-v2": "all-minilm",
}
"""Names under which different backends serve the very same weights."""

WIDTHS = {
    "all-minilm": 384,
    "nomic-embed-text": 768,
    "mxbai-embed-large": 1024,
    "baai/bge-small-en-v1.5": 384,
    "baai/bge-base-en-v1.5": 768,
    "baai/bge-m3": 1024,
}
DEFAULT_WIDTH = 384


def space_of(model: str) -> str:
    """The name of the weights behind a model name; equal names give equal vectors."""
    name = model.lower()
    return SAME_MODEL.get(name, name.removesuffix(":latest"))


def width_of(model: str) -> int:
    """How many numbers a vector of this model has."""
    return WIDTHS.get(space_of(model), DEFAULT_WIDTH)


@lru_cache(maxsize=65536)
def _word_vector(word: str, space: str, width: int) -> NDArray[np.float32]:
    digest = hashlib.shake_128(f"{space}\0{word}".encode()).digest((width + 7) // 8)
    bits = np.unpackbits(np.frombuffer(digest, dtype=np.uint8))[:width]
    return bits.astype(np.float32) * 2 - 1


def raw_vector(text: str, model: str, width: int | None = None) -> NDArray[np.float32]:
    """The sum of the vectors of the words: shape (width,), not normalised.

    Texts that share words are near each other, and the same text is always the same vector.
    """
    space, width = space_of(model), width or width_of(model)
    total = np.zeros(width, dtype=np.float32)
    for word in re.findall(r"\w+", text.lower()) or ["\0empty"]:
        total += _word_vector(word, space, width)
    return total


def normalised(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector at length 1; a zero vector stays zero."""
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm else vector


def unit_vector(text: str, model: str, width: int | None = None) -> list[float]:
    """The embedding of a text: ``width`` numbers, L2-normalised."""
    numbers: list[float] = normalised(raw_vector(text, model, width)).tolist()
    return numbers
