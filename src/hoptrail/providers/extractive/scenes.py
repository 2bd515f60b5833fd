"""Scenes: each sentence of a few passages beside a question."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from hoptrail.providers.extractive.candidates import Candidate, candidates, title_candidate
from hoptrail.providers.extractive.question import SIGNALS, Question
from hoptrail.providers.extractive.sentences import sentences
from hoptrail.providers.extractive.words import Token, content_stems, tokens

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
    """A sentence beside a question: which words it covers and where."""

    passage: int
    first: bool
    sentence: Sentence
    page: Page
    rank: int
    overlap: float
    own: float
    psim: float
    names: float
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
        self.scenes = sorted(self._scenes(similarity), key=lambda scene: -scene.overlap)[:most]

    def _idf(self) -> dict[str, float]:
        bags = [s.stems | p.title_stems for p in self.pages for s in p.sentences]
        return {
            word: math.log((len(bags) + 1) / (sum(word in bag for bag in bags) + 0.5))
            for word in self.question.words
        }

    def _scenes(self, similarity: Similarity | None) -> Iterator[Scene]:
        for index, page in enumerate(self.pages):
            overlaps = [self._share(s.stems | page.title_stems) for s in page.sentences]
            if similarity and overlaps:
                given = similarity(self.question.text, [s.text for s in page.sentences])
                overlaps = [(o + g) / 2 for o, g in zip(overlaps, given, strict=True)]
            best = max(overlaps, default=0.0)
            for place, (sentence, overlap) in enumerate(zip(page.sentences, overlaps, strict=True)):
                yield Scene(
                    index, place == 0, sentence, page, index + 1, overlap,
                    self._share(sentence.stems), best,
                    self._names(sentence.stems | page.title_stems),
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
        """Give the share of the question's names that ``stems`` mention."""
        if not self.names:
            return 0.0
        return sum(mentions(stems, name) for name in self.names) / len(self.names)

    def spans(self) -> list[tuple[Scene, Candidate]]:
        """Give every candidate that is not itself in the question, with where it stands."""
        found = []
        titled = set()
        for scene in self.scenes:
            for candidate in candidates(scene.sentence.text):
                if candidate.stems and not candidate.stems <= self.question.words:
                    found.append((scene, candidate))
            if scene.passage not in titled:
                titled.add(scene.passage)
                if not scene.page.title.stems <= self.question.words:
                    found.append((scene, scene.page.title))
        return found


def mentions(stems: frozenset[str], name: Sequence[str]) -> bool:
    """Say whether a name is meant: its last word stands there, or more than half of it."""
    return name[-1] in stems or 2 * sum(word in stems for word in name) > len(name)


def covers(stems: frozenset[str], word: str) -> bool:
    """Say whether a question's word, or one that signals the same, stands there."""
    return word in stems or not stems.isdisjoint(SIGNALS.get(word, ()))
