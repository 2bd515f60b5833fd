"""Scenes: each sentence of a few passages beside a question, and its candidates' features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from hoptrail.providers.extractive.candidates import Candidate, candidates, title_candidate
from hoptrail.providers.extractive.countries import country_of, is_country
from hoptrail.providers.extractive.question import SIGNALS, Question
from hoptrail.providers.extractive.sentences import sentences
from hoptrail.providers.extractive.words import Token, content_stems, stem, tokens

Similarity = Callable[[str, list[str]], list[float]]


class Sentence(NamedTuple):
    """A sentence and its words."""

    text: str
    tokens: tuple[Token, ...]
    stems: frozenset[str]


class Page(NamedTuple):
    """A passage as it is read."""

    title: Candidate
    title_stems: frozenset[str]
    sentences: tuple[Sentence, ...]
    stems: frozenset[str]


@lru_cache(maxsize=2048)
def page(title: str, text: str) -> Page:
    """Read a passage; the same passage comes back often, so it is read once."""
    read = []
    for span in sentences(text):
        words = tuple(tokens(span.text))
        stems = frozenset(word.stem for word in words)
        read.append(Sentence(span.text, words, stems))
    title_stems = frozenset(content_stems(title))
    return Page(
        title_candidate(title),
        title_stems,
        tuple(read),
        title_stems.union(*(sentence.stems for sentence in read)),
    )


FEATURES = (
    "overlap", "own", "psim", "prox", "trigprox", "type", "inq", "rr", "sent0", "title",
    "title_notq", "part", "isa", "quote", "noun", "len", "oneword", "by", "paren", "freq",
    "head_in", "head_near", "names", "after", "before", "country", "nation", "year", "in",
)  # fmt: skip


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

    def found(self) -> list[tuple[Scene, Candidate, tuple[float, ...]]]:
        """Give every candidate that is not itself in the question, with its features."""
        spans = []
        titled = set()
        for scene in self.scenes:
            for candidate in candidates(scene.sentence.text):
                if candidate.stems and not candidate.stems <= self.question.words:
                    spans.append((scene, candidate))
            if scene.passage not in titled:
                titled.add(scene.passage)
                if not scene.page.title.stems <= self.question.words:
                    spans.append((scene, scene.page.title))
        counts = self._counts(spans)
        return [(s, c, self._features(s, c, counts[c.text])) for s, c in spans]

    def _counts(self, spans: list[tuple[Scene, Candidate]]) -> dict[str, int]:
        where: dict[str, set[int]] = {}
        for scene, candidate in spans:
            where.setdefault(candidate.text, set()).add(scene.passage)
        return {text: len(places) for text, places in where.items()}

    def _features(self, scene: Scene, c: Candidate, count: int) -> tuple[float, ...]:
        question, kind = self.question, c.kind
        text, title = scene.sentence.text, kind == "title"
        before = "" if title else text[max(0, c.start - 24) : c.start].lower().rstrip(" \"'“‘")
        after = "" if title else text[c.end : c.end + 24].lower().lstrip(" \"'”’,")
        stems = c.stems
        inq = len(stems & question.words) / len(stems)
        numeric = kind in ("date", "number")
        return (
            scene.overlap, scene.own, scene.psim,
            0.3 if title else _near(scene.asked, c),
            0.0 if title else _near(scene.signals, c),
            _fit(question, c, before), -inq, 1 / scene.rank, float(scene.first),
            float(title), (1 - inq) if title else 0.0,
            float(kind == "part"), float(kind == "isa"),
            float(kind == "quote"), float(kind == "noun"),
            min(c.words, 6) / 6, float(c.words == 1 and not numeric),
            float(before.endswith((" by", " by the"))),
            float(before.endswith(("(", "born"))),
            math.log(count),
            *self._heads(c, before, after),
            scene.names,
            float(_last_stem(before) in self.signals), float(_first_stem(after) in self.signals),
            *self._country(c), float(kind == "date" and c.text.isdigit()),
            float(question.wants == "place" and before.endswith((" in", " at", " of", " from"))),
        )  # fmt: skip

    def _heads(self, c: Candidate, before: str, after: str) -> tuple[float, float]:
        head = self.question.head
        if not head:
            return (0.0, 0.0)
        return float(head in c.stems), float(head in (_last_stem(before), _first_stem(after)))

    def _country(self, c: Candidate) -> tuple[float, float]:
        if not self.question.words & {"country", "nationality", "citizenship", "nation"}:
            return 0.0, float(country_of(c.text) is not None)
        if is_country(c.text):
            return 1.0, 0.0
        return (0.5 if country_of(c.text) else -1.0), 0.0


def mentions(stems: frozenset[str], name: Sequence[str]) -> bool:
    """Say whether a name is meant: its last word stands there, or more than half of it."""
    return name[-1] in stems or 2 * sum(word in stems for word in name) > len(name)


def covers(stems: frozenset[str], word: str) -> bool:
    """Say whether a question's word, or one that signals the same, stands there."""
    return word in stems or not stems.isdisjoint(SIGNALS.get(word, ()))


def _near(places: tuple[tuple[int, int], ...], c: Candidate) -> float:
    gaps = [
        max(start - c.end, c.start - end)
        for start, end in places
        if end <= c.start or start >= c.end
    ]
    return math.exp(-min(gaps) / 30) if gaps else 0.0


def _fit(question: Question, c: Candidate, before: str) -> float:
    """Give how well a candidate's kind matches what is wanted, from −1 to 1."""
    numeric = c.kind in ("date", "number")
    if question.wants == "date":
        return 1.0 if c.kind == "date" else -1.0
    if question.wants == "number":
        return 1.0 if c.kind == "number" else -0.3 if c.kind == "date" else -1.0
    if question.wants not in ("place", "person"):
        return -0.4 if numeric else -0.2 if c.kind in ("isa", "noun") else 0.0
    return -1.0 if numeric else _fit_name(question, c, before)


def _fit_name(question: Question, c: Candidate, before: str) -> float:
    if question.wants == "place":
        if c.kind in ("isa", "quote", "noun"):
            return -0.6
        placed = before.endswith((" in", " at", " of", " near", " from", " to", " the"))
        return 1.0 if placed else 0.3
    if c.kind in ("isa", "noun"):
        return -0.8
    return 1.0 if c.words in (2, 3) or c.kind == "title" else 0.3


def _last_stem(text: str) -> str:
    words = text.rsplit(None, 1)
    return stem(words[-1].strip(".,;:()")) if words else ""


def _first_stem(text: str) -> str:
    words = text.split(None, 1)
    return stem(words[0].strip(".,;:()")) if words else ""
