"""BM25 over stemmed words: every posting's weight is worked out once, a search only adds up."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from hoptrail.retrieval.arrays import pack, pack_names, unpack, unpack_names, within

K1 = 1.2
B = 0.75

_LUCENE_ENGLISH = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with"
)
STOP_WORDS = frozenset(_LUCENE_ENGLISH.split())

_WORD = re.compile(r"\w\w+")

Scores = NDArray[np.float32]


def words(text: str) -> list[str]:
    """Give the lower-cased words of two or more characters that are not stop words."""
    return [word for word in _WORD.findall(text.lower()) if word not in STOP_WORDS]


def stems(of: Collection[str]) -> dict[str, str]:
    """Give each word's stem, by the Porter stemmer that comes with SQLite's full-text search.

    Diacritics are removed on the way: ``Müller`` and ``muller`` share a stem.
    """
    spelled = list(of)
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(
            "CREATE VIRTUAL TABLE word USING "
            "fts5(spelled, tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        database.execute("CREATE VIRTUAL TABLE stem USING fts5vocab(word, 'instance')")
        database.executemany("INSERT INTO word(rowid, spelled) VALUES (?, ?)", enumerate(spelled))
        found = dict(database.execute("SELECT doc, term FROM stem").fetchall())
    return {word: found.get(number, word) for number, word in enumerate(spelled)}


class WordIndex:
    """BM25 in Lucene's form.

    A passage's score is the sum over the question's words, found tf times in it, of
    ``ln(1 + (N - df + .5) / (df + .5)) * tf / (tf + k1 * (1 - b + b * length / mean length))``.

    Unlike SQLite's own ``bm25()`` no term is ever negative or nil, so that scores mean
    something in a corpus of three passages too.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        offsets: NDArray[np.int64],
        passages: NDArray[np.int32],
        weights: Scores,
        count: int,
    ) -> None:
        self._numbers = {stem: number for number, stem in enumerate(vocabulary)}
        self._offsets = offsets
        self._passages = passages
        self._weights = weights
        self._count = count

    @classmethod
    def build(cls, texts: Iterable[str]) -> WordIndex:
        """Index the texts; scores come back in their order."""
        split = [words(text) for text in texts]
        stem_of = stems({word for listed in split for word in listed})
        numbers: dict[str, int] = {}
        terms = np.fromiter(
            (
                numbers.setdefault(stem_of[word], len(numbers))
                for listed in split
                for word in listed
            ),
            np.int64,
        )
        lengths = np.array([len(listed) for listed in split], np.int64)
        count = len(split)
        passages = np.repeat(np.arange(count), lengths)
        pairs, frequencies = np.unique(terms * max(count, 1) + passages, return_counts=True)
        terms, passages = np.divmod(pairs, max(count, 1))
        holders = np.bincount(terms, minlength=len(numbers))
        rarity = np.log1p((count - holders + 0.5) / (holders + 0.5))
        norm = K1 * (1 - B + B * lengths / max(lengths.mean() if count else 1.0, 1e-9))
        weights = rarity[terms] * frequencies / (frequencies + norm[passages])
        offsets = np.concatenate(([0], np.cumsum(holders)))
        return cls(
            list(numbers), offsets, passages.astype(np.int32), weights.astype(np.float32), count
        )

    def scores(self, question: str) -> Scores:
        """Give the BM25 score of every passage, shape (passages,); 0 where no word matches."""
        scores = np.zeros(self._count, np.float32)
        for stem in dict.fromkeys(stems(dict.fromkeys(words(question))).values()):
            number = self._numbers.get(stem)
            if number is not None:
                found = slice(self._offsets[number], self._offsets[number + 1])
                scores[self._passages[found]] += self._weights[found]
        return scores

    def dump(self) -> bytes:
        """Give what `restored` needs."""
        return pack(
            vocabulary=pack_names(self._numbers),
            offsets=self._offsets,
            passages=self._passages,
            weights=self._weights,
            count=np.array(self._count),
        )

    @classmethod
    def restored(cls, dumped: bytes, count: int) -> WordIndex:
        """Give the index that `dump` described, which is of ``count`` texts.

        Raises:
            ValueError: it is not.
        """
        arrays = unpack(dumped)
        vocabulary = unpack_names(arrays["vocabulary"])
        offsets, passages, weights = arrays["offsets"], arrays["passages"], arrays["weights"]
        sizes = np.diff(offsets, prepend=0, append=len(passages))
        if len(sizes) != len(vocabulary) + 2 or sizes.min() < 0 or len(weights) != len(passages):
            raise ValueError("the words do not fit together")
        fits = within(passages, count) and np.isfinite(weights).all()
        if int(arrays["count"]) != count or not fits:
            raise ValueError("the words are not of these passages")
        return cls(vocabulary, offsets, passages, weights, count)
