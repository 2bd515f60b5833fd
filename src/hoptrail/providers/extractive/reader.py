"""The reader: finds the span that answers a question in a few passages, or abstains.

Candidates are scored by a linear model over `features.FEATURES`. Its weights were fitted with a
listwise softmax over each question's candidates, on 719 sub-questions of MuSiQue (Trivedi et al.,
2022; the relation form also as natural questions) and 176 of 2WikiMultihopQA (Ho et al., 2020),
each with its gold passage alone and with the five passages that BM25 finds for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

from hoptrail.evidence import Evidence
from hoptrail.providers.extractive.countries import country_of, is_country
from hoptrail.providers.extractive.features import FEATURES, features
from hoptrail.providers.extractive.question import Question, analysed
from hoptrail.providers.extractive.scenes import (
    Page,
    Reading,
    Scene,
    Similarity,
    covers,
    mentions,
    page,
)
from hoptrail.providers.extractive.words import content_stems, names

_FITTED = {
    "overlap": 0.06, "own": 2.28, "psim": 2.04, "prox": 1.18, "trigprox": 0.97, "type": 2.26,
    "inq": -0.96, "rr": 2.06, "sent0": 0.96, "title": -5.52, "title_notq": 4.12, "part": -0.64,
    "isa": -3.76, "quote": -0.71, "noun": -2.6, "len": -0.43, "oneword": -0.45, "by": 0.55,
    "paren": 0.27, "freq": 0.18, "names": 0.59, "after": -0.49, "before": -1.83, "country": 2.51,
    "nation": -0.43, "year": -0.85, "in": 0.29, "slot": 1.69, "joined": -3.79, "echo": -0.09,
    "said": 0.1, "titled": 2.69, "head_in": 0.29, "head_near": -0.29, "headless": -0.74,
}  # fmt: skip
WEIGHTS = tuple(_FITTED[name] for name in FEATURES)

_TRUST = {
    "bias": -5.30, "share": 3.35, "overlap": 1.22, "names": 0.87, "said": 0.29,
    "titled": 1.85, "slot": -0.20, "headless": -0.08,
}  # fmt: skip
"""A logistic fit of the chance that the best candidate is right, on the same questions and on
those with the passage that answers taken away."""

_SHOWN = frozenset({"river", "lake", "sea", "ocean", "mountain", "island", "bridge"})
"""Kinds of things that a text calls by their kind: any name will do for a city, not for a river."""
_SHOWS = tuple(FEATURES.index(name) for name in ("head_in", "head_near", "slot"))
_SAID, _TITLED, _SLOT, _TYPE = map(FEATURES.index, ("said", "titled", "slot", "type"))
_UNSUPPORTED = 100.0

_KIND = re.compile(r"^(?:is|was|are|were)\b.*\b(?:an?|the)\b", re.IGNORECASE)

LEAST_CONFIDENCE = 0.18
"""Below it the reader abstains. On the fitted questions this keeps 87 % of the answers that
would have been right, and abstains from 79 % of those whose passage is missing."""


class Finding(NamedTuple):
    """An answer with the sentence it stands in; ``passage`` is a 1-based evidence number.

    ``confidence`` is the fitted chance (0 to 1) that the answer is right.
    """

    answer: str
    sentence: str
    passage: int
    confidence: float


def read(
    question: str, evidence: Sequence[Evidence], similarity: Similarity | None = None
) -> Finding | None:
    """Answer a question with a span of one passage, or give None when none looks right."""
    asked = analysed(question)
    pages = [page(each.passage.title, each.passage.text) for each in evidence]
    if not asked.words or not _mentioned(asked, pages):
        return None
    reading = Reading(asked, pages, similarity)
    return _verdict(reading) if asked.wants == "verdict" else _span(reading)


def _mentioned(question: Question, pages: Sequence[Page]) -> bool:
    """Whether any passage mentions something that the question names."""
    wanted = [stems for name in question.names if (stems := content_stems(name))]
    return not wanted or any(mentions(p.stems, name) for p in pages for name in wanted)


def _span(reading: Reading) -> Finding | None:
    found = reading.spans()
    if not found:
        return None
    values = features(reading, found)
    scores = _scores(reading.question, values)
    best = max(range(len(found)), key=scores.__getitem__)
    scene, candidate = found[best]
    chances = [math.exp(score - scores[best]) for score in scores]
    alike = (each.text == candidate.text for _, each in found)
    share = sum(chance for chance, same in zip(chances, alike, strict=True) if same) / sum(chances)
    seen = dict(zip(FEATURES, values[best], strict=True))
    confidence = _confidence(share, seen)
    if confidence < LEAST_CONFIDENCE or not _supported(reading.question, values[best]):
        return None
    answer = answer_text(reading.question, candidate.text)
    return Finding(answer, scene.sentence.text, scene.rank, confidence)


def _scores(question: Question, values: Sequence[Sequence[float]]) -> list[float]:
    return [
        sum(map(mul, WEIGHTS, each)) - (0.0 if _supported(question, each) else _UNSUPPORTED)
        for each in values
    ]


def _supported(question: Question, values: Sequence[float]) -> bool:
    """Whether a candidate is of the right kind, and its sentence says something of what is asked.

    Standing under the right title will do instead, but not where a person is wanted: a passage
    names many, and says what each did.
    """
    if question.wants in ("number", "date") and values[_TYPE] < 0:
        return False
    if question.head in _SHOWN and not any(values[place] for place in _SHOWS):
        return False
    if values[_SAID]:
        return True
    return bool(values[_TITLED] and (values[_SLOT] or question.wants != "person"))


def _confidence(share: float, seen: dict[str, float]) -> float:
    """Give the chance that an answer is right."""
    known = {"bias": 1.0, "share": share, **seen}
    return 1 / (1 + math.exp(-sum(weight * known[name] for name, weight in _TRUST.items())))


def answer_text(question: Question, text: str) -> str:
    """Give the country where one is asked for and the text has its adjective."""
    return country_of(text) or text if question.head == "country" else text


def _verdict(reading: Reading) -> Finding | None:
    """Answer yes when one sentence says all that is asked of the subject.

    No is answered only where the subject's own passage says what it is, and it is something
    else: what a passage leaves unsaid is not denied.
    """
    question = reading.question
    if not question.names:
        return None
    subject = content_stems(question.names[0])
    claim = question.words.difference(subject)
    for scene in reading.scenes:
        about = scene.sentence.stems | scene.page.title_stems
        if mentions(about, subject) and all(covers(about, word) for word in claim):
            return Finding("yes", scene.sentence.text, scene.rank, 0.5)
    for scene in reading.scenes:
        titled = mentions(scene.page.title_stems, subject)
        if titled and scene.first and _denied(question, claim, scene):
            return Finding("no", scene.sentence.text, scene.rank, 0.3)
    return None


def _denied(question: Question, claim: frozenset[str], scene: Scene) -> bool:
    """Whether a subject's first sentence gives it another kind, or another country."""
    held = any(covers(scene.page.stems, word) for word in claim)
    place = next((name for name in question.names[1:] if is_country(name)), None)
    if place:
        said = {country_of(span.text) for span in names(scene.sentence.text)} - {None}
        return bool(said) and country_of(place) not in said
    return bool(claim) and not held and bool(_KIND.search(question.text))
