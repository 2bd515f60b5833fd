"""Signed feature hashing: vectors without a model, a key or a download.

A text's features are its lower-cased words (weight 1 for each occurrence) and the 3-, 4- and
5-grams of each ``<word>`` (weight 1/4). A feature of summed weight v has the value
ln(1 + v) · idf, and is added to bucket (h mod dimensions) with the sign of bit 60 of h, where h
is the feature's 64-bit BLAKE2b, read little-endian (Weinberger et al., 2009, Feature Hashing for
Large Scale Multitask Learning). With idf = ln((N + 1) / (df + 1/2)) of the corpus it comes near
BM25; without, it is a last resort.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from hoptrail.errors import IndexDamaged
from hoptrail.space import CorpusEmbedder, EmbeddingSpace, TextKind, Vectors

Hashes = NDArray[np.uint64]
Floats = NDArray[np.float64]

WORD = re.compile(r"\w+")
GRAM_LENGTHS = (3, 4, 5)
GRAM_WEIGHT = 0.25
SIGN_BIT = np.uint64(60)
THREAD_FROM = 16
"""Texts from which on a thread is worth its hop; a query is embedded at once."""
SLICE = 512
"""Texts between two chances to be cancelled, and between two merges while fitting."""
MOST_DIMENSIONS = 1 << 16
HEADER = struct.Struct("<4sIQ")
MAGIC = b"hth1"


@dataclass(frozen=True)
class IdfTable:
    """Of ``passages`` passages, how many hold each feature; ``hashes`` ascend."""

    passages: int
    hashes: Hashes
    counts: NDArray[np.uint32]

    def of(self, features: Hashes) -> Floats:
        """Give ln((N + 1) / (df + 1/2)) per feature; unseen ones get ln(N + 1).

        Of no passages nothing is known: all features count alike.
        """
        if not self.passages:
            return np.ones(len(features))
        frequencies = np.full(len(features), 0.0)
        if len(self.hashes):
            places = np.searchsorted(self.hashes, features).clip(max=len(self.hashes) - 1)
            seen = self.hashes[places] == features
            frequencies[seen] = self.counts[places[seen]]
        return np.log((self.passages + 1) / np.where(frequencies, frequencies + 0.5, 1.0))


class HashEmbedder(CorpusEmbedder):
    """Embeds by `features` alone; `fitted` to a corpus, rare features count for more.

    The table of a fitted embedder is part of its space's identity: vectors of two corpora are
    not comparable, and their space ids differ. A text without any word gets the vector of the
    empty word, so that no vector is zero.
    """

    backend = "hash"
    model = "words-and-3-to-5-grams"

    def __init__(self, dimensions: int = 4096, *, idf: IdfTable | None = None) -> None:
        self.dimensions = dimensions
        self._idf = idf
        self._revision = hashlib.sha256(self.dump()).hexdigest()[:16] if idf else ""

    async def space(self) -> EmbeddingSpace:
        """Give the space's identity; its revision is the digest of the idf table."""
        return EmbeddingSpace(
            backend=self.backend,
            model=self.model,
            dimensions=self.dimensions,
            revision=self._revision,
        )

    async def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Give one unit row per text, shape (len(texts), dimensions), float32."""
        if len(texts) < THREAD_FROM:
            return self._rows(texts)
        starts = range(0, len(texts), SLICE)
        slices = [texts[start : start + SLICE] for start in starts]
        return np.vstack([await asyncio.to_thread(self._rows, some) for some in slices])

    def fitted(self, texts: Iterable[str]) -> HashEmbedder:
        """Give an embedder with the idf of these passages; takes a third of a ms a passage."""
        table = IdfTable(0, np.empty(0, np.uint64), np.empty(0, np.uint32))
        left = iter(texts)
        while some := list(islice(left, SLICE)):
            table = _merged(table, [features(text)[0] for text in some])
        return HashEmbedder(self.dimensions, idf=table)

    def dump(self) -> bytes:
        """Give the dimensions and the idf table: about nine bytes a feature."""
        if self._idf is None:
            return HEADER.pack(MAGIC, self.dimensions, 0)
        table = zlib.compress(self._idf.counts.astype("<u4").tobytes(), 1)
        hashes = self._idf.hashes.astype("<u8").tobytes()
        head = HEADER.pack(MAGIC, self.dimensions, self._idf.passages)
        return head + struct.pack("<Q", len(hashes)) + hashes + table

    def restored(self, dumped: bytes) -> HashEmbedder:
        """Give the embedder that `dump` described.

        Raises:
            IndexDamaged: these bytes are not what `dump` gave.
        """
        try:
            return _restored(dumped)
        except (struct.error, ValueError, zlib.error) as error:
            raise IndexDamaged(f"the stored idf table cannot be read: {error}") from None

    def _rows(self, texts: Sequence[str]) -> Vectors:
        rows = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:] = self._row(text)
        return rows

    def _row(self, text: str) -> Floats:
        hashes, values = features(text)
        if self._idf is not None:
            values = values * self._idf.of(hashes)
        signed = np.where((hashes >> SIGN_BIT) & np.uint64(1), values, -values)
        buckets = (hashes % np.uint64(self.dimensions)).astype(np.intp)
        row = np.bincount(buckets, weights=signed, minlength=self.dimensions)
        return row / np.linalg.norm(row)


def features(text: str) -> tuple[Hashes, Floats]:
    """Give the ascending hashes of a text's features, and ln(1 + summed weight) of each."""
    words = Counter(WORD.findall(text.lower())) or Counter([""])
    parts = [_word_features(word) for word in words]
    hashes = np.concatenate([part[0] for part in parts])
    repeats = np.repeat(list(words.values()), [len(part[0]) for part in parts])
    weights = np.concatenate([part[1] for part in parts]) * repeats
    unique, places = np.unique(hashes, return_inverse=True)
    return unique, np.log1p(np.bincount(places, weights=weights))


@lru_cache(maxsize=100_000)
def _word_features(word: str) -> tuple[Hashes, Floats]:
    marked = f"<{word}>"
    grams = [
        f"c:{marked[start : start + length]}"
        for length in GRAM_LENGTHS
        for start in range(len(marked) - length + 1)
    ]
    digests = (
        hashlib.blake2b(feature.encode(), digest_size=8).digest()
        for feature in (f"w:{word}", *grams)
    )
    hashes = np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
    return hashes, np.array([1.0] + [GRAM_WEIGHT] * len(grams))


def _merged(table: IdfTable, passages: list[Hashes]) -> IdfTable:
    """Count each feature of each passage once more."""
    new, counts = np.unique(np.concatenate(passages), return_counts=True)
    both = np.concatenate([table.hashes, new])
    hashes, places = np.unique(both, return_inverse=True)
    summed = np.bincount(places, weights=np.concatenate([table.counts, counts]))
    return IdfTable(table.passages + len(passages), hashes, summed.astype(np.uint32))


def _restored(dumped: bytes) -> HashEmbedder:
    magic, dimensions, passages = HEADER.unpack_from(dumped)
    if magic != MAGIC or not 0 < dimensions <= MOST_DIMENSIONS:
        raise ValueError("it does not begin like one")
    if len(dumped) == HEADER.size:
        return HashEmbedder(dimensions)
    (size,) = struct.unpack_from("<Q", dumped, HEADER.size)
    start = HEADER.size + 8
    hashes = np.frombuffer(dumped[start : start + size], dtype="<u8").astype(np.uint64)
    # One count a hash and no more is unpacked: a few damaged bytes may stand for gigabytes.
    unpacking = zlib.decompressobj()
    counts = np.frombuffer(
        unpacking.decompress(dumped[start + size :], 4 * len(hashes) + 1), dtype="<u4"
    )
    if not unpacking.eof or len(hashes) != len(counts) or (hashes[1:] <= hashes[:-1]).any():
        raise ValueError("its parts do not fit together")
    return HashEmbedder(dimensions, idf=IdfTable(passages, hashes, counts.astype(np.uint32)))
