"""Scenes: each sentence of a few passages beside a question."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from hoptrail.providers.extractive.candidates import Candidate, candidates, title_candidate
from hoptrail.providers.extractive.question import SIGNALS, Question
from hoptrail.providers.extractive.sentences import sentences
from hoptrail.providers.extractive.words import KINDS, Token, content_stems, stem, tokens

_PLAIN = ("date", "number", "isa", "noun")
_KIND_STEMS = frozenset(map(stem, KINDS))

Similarity = Callable[[str, list[str]], list[float]]


class Sentence(NamedTuple):
    """A sentence and its words."""

    text: str
    tokens: tuple[Token, ...]
    stems: frozenset[str]


class Page(NamedTuple):
    """A passage as it is read; ``kinds`` are the words for what its first sentence says it is."""

    title: Candidate
    title_stems: frozenset[str]
    sentences: tuple[Sentence, ...]
    stems: frozenset[str]
    kinds: frozenset[str]


@lru_cache(maxsize=2048)
def page(title: str, text: str) -> Page:
    """Read a passage; the same passage comes back often, so it is read once."""
    read = []
    for span in sentences(text):
        words = tuple(tokens(span.text))
        stems = frozenset(word.stem for word in words)
        read.append(Sentence(span.text, words, stems))
    title_stems = frozenset(content_stems(title))
    kinds = (c.stems for c in (candidates(read[0].text) if read else ()) if c.kind == "isa")
    return Page(
        title_candidate(title),
        title_stems,
        tuple(read),
        title_stems.union(*(sentence.stems for sentence in read)),
        frozenset().union(*kinds),
    )


class Scene(NamedTuple):
    """A sentence beside a question: which words it covers and where.

    ``overlap`` is the weighted share of the question's words in the sentence or its passage's
    title, ``own`` the share in the sentence alone, ``psim`` the best overlap in the passage.
    ``names`` is the share of the question's names, ``said`` of its other words; ``titled`` is 1
    when the passage is about what the question names.
    """

    passage: int
    first: bool
    sentence: Sentence
    page: Page
    rank: int
    overlap: float
    own: float
    psim: float
    names: float
    said: float
    titled: float
    asked: tuple[tuple[int, int], ...]
    signals: tuple[tuple[int, int], ...]


class Reading:
    """A question over passages: the scenes, best first, and each candidate's features."""

    def __init__(
        self,
        question: Question,
        pages: Sequence[Page],
        similarity: Similarity | None = None,
        most: int = 20,
    ) -> None:
        self.question = question
        self.pages = pages
        self.weights = self._idf()
        self.signals = frozenset().union(*(SIGNALS.get(word, ()) for word in question.words))
        self.names = [stems for name in question.names if (stems := content_stems(name))]
        self.relation = question.words.difference(*self.names)
        self.scenes = sorted(self._scenes(similarity), key=lambda scene: -scene.overlap)[:most]

    def _idf(self) -> dict[str, float]:
        bags = [s.stems | p.title_stems for p in self.pages for s in p.sentences]
        return {
            word: math.log((len(bags) + 1) / (sum(word in bag for bag in bags) + 0.5))
            for word in self.question.words
        }

    def _scenes(self, similarity: Similarity | None) -> Iterator[Scene]:
        for index, page in enumerate(self.pages):
            if self.names and not any(mentions(page.stems, name) for name in self.names):
                continue
            overlaps = [self._share(s.stems | page.title_stems) for s in page.sentences]
            if similarity and overlaps:
                given = similarity(self.question.text, [s.text for s in page.sentences])
                overlaps = [(o + g) / 2 for o, g in zip(overlaps, given, strict=True)]
            best = max(overlaps, default=0.0)
            for place, (sentence, overlap) in enumerate(zip(page.sentences, overlaps, strict=True)):
                yield Scene(
                    index, place == 0, sentence, page, index + 1, overlap,
                    self._share(sentence.stems), best,
                    self._names(sentence.stems | page.title_stems), self._said(sentence.stems),
                    float(bool(page.title.stems) and page.title.stems <= self.question.words),
                    tuple((t.start, t.end) for t in sentence.tokens if t.stem in self.weights),
                    tuple((t.start, t.end) for t in sentence.tokens if t.stem in self.signals),
                )  # fmt: skip

    def _share(self, stems: frozenset[str]) -> float:
        got = total = 0.0
        for word, weight in self.weights.items():
            total += weight
            if word in stems:
                got += weight
            elif not stems.isdisjoint(SIGNALS.get(word, ())):
                got += 0.7 * weight
        return got / total if total else 0.0

    def _names(self, stems: frozenset[str]) -> float:
        """Give the share of the question's names that ``stems`` mention, in part or in full."""
        if not self.names:
            return 0.0
        shares = (sum(word in stems for word in name) / len(name) for name in self.names)
        return sum(shares) / len(self.names)

    def _said(self, stems: frozenset[str]) -> float:
        """Give the share of the question's words, names aside, that ``stems`` cover."""
        if not self.relation:
            return 1.0
        return sum(covers(stems, word) for word in self.relation) / len(self.relation)

    def spans(self) -> list[tuple[Scene, Candidate]]:
        """Give every candidate that could be an answer, with where it stands.

        What the question itself says is none, nor a name of another kind than the one asked
        for: no lake where a river is wanted.
        """
        found = []
        titled = set()
        for scene in self.scenes:
            for candidate in candidates(scene.sentence.text):
                if self._possible(candidate):
                    found.append((scene, candidate))
            if scene.passage not in titled:
                titled.add(scene.passage)
                if self._possible(scene.page.title):
                    found.append((scene, scene.page.title))
        return found

    def _possible(self, candidate: Candidate) -> bool:
        if not candidate.stems or candidate.stems <= self.question.words:
            return False
        if self.question.head not in _KIND_STEMS or candidate.kind in _PLAIN:
            return True
        words = candidate.text.lower().split()
        kinds = {stem(word) for word in (words[0], words[-1]) if word in KINDS}
        own = next((p.kinds for p in self.pages if p.title.text == candidate.text), frozenset())
        return (not kinds or self.question.head in kinds) and (not own or self.question.head in own)


def mentions(stems: frozenset[str], name: Sequence[str]) -> bool:
    """Say whether a name is meant: its last word stands there, or more than half of it.

    A common noun at its end does not count alone.
    """
    if not name:
        return False
    last = name[-1] in stems and (name[-1] not in _KIND_STEMS or len(name) == 1)
    return last or 2 * sum(word in stems for word in name) > len(name)


def covers(stems: frozenset[str], word: str) -> bool:
    """Say whether a question's word, or one that signals the same, stands there."""
    return word in stems or not stems.isdisjoint(SIGNALS.get(word, ()))
