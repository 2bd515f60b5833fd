"""The reader: finds the span that answers a question in a few passages, or abstains.

Candidates are scored by a linear model over `scenes.FEATURES`. Its weights were fitted with a
listwise softmax over each question's candidates, on the sub-questions of MuSiQue (Trivedi et
al., 2022) with the five passages that BM25 finds for each.
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
    "overlap": 0.65, "own": 1.96, "psim": 2.33, "prox": 0.83, "trigprox": 0.81, "type": 2.36,
    "inq": -1.03, "rr": 2.6, "sent0": 1.0, "title": -6.23, "title_notq": 5.57, "part": -0.46,
    "isa": -4.91, "quote": -0.36, "noun": -2.85, "len": -2.01, "oneword": -0.41, "by": 0.7,
    "paren": -0.33, "freq": 0.22, "head_in": 0.85, "head_near": 0.83, "names": 2.04,
    "after": 0.18, "before": -1.82, "country": 2.11, "nation": -0.65, "year": -0.8, "in": 0.43,
}  # fmt: skip
WEIGHTS = tuple(_FITTED.get(name, 0.0) for name in FEATURES)

_KIND = re.compile(r"^(?:is|was|are|were)\b.*\b(?:an?|the)\b", re.IGNORECASE)

LEAST_CONFIDENCE = 0.10
"""Below it the reader abstains. On MuSiQue's sub-questions this keeps 90 % of the answers that
would have been right, and abstains from 58 % of the questions whose passage is missing."""


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
    scores = [sum(map(mul, WEIGHTS, values)) for values in features(reading, found)]
    best = max(range(len(found)), key=scores.__getitem__)
    chances = [math.exp(score - scores[best]) for score in scores]
    scene, candidate = found[best]
    same = [
        chance
        for chance, each in zip(chances, found, strict=True)
        if each[1].text == candidate.text
    ]
    confidence = _confidence(sum(same) / sum(chances), scene)
    if confidence < LEAST_CONFIDENCE:
        return None
    return Finding(answer_text(reading.question, candidate.text), scene.sentence.text, scene.rank, confidence)


def answer_text(question: Question, text: str) -> str:
    """Give the country where one is asked for and the text has its adjective."""
    return country_of(text) or text if question.head == "country" else text


def _confidence(share: float, scene: Scene) -> float:
    """Give the chance that an answer is right: a logistic fit on the same sub-questions."""
    return 1 / (1 + math.exp(4.35 - 4.0 * share - 1.4 * scene.overlap - 0.63 * scene.names))


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
