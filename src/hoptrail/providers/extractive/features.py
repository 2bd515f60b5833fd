"""Features: what speaks for and against each candidate, as numbers in a fixed order."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from hoptrail.providers.extractive.candidates import Candidate
from hoptrail.providers.extractive.countries import country_of, is_country
from hoptrail.providers.extractive.question import Question
from hoptrail.providers.extractive.scenes import Reading, Scene
from hoptrail.providers.extractive.slots import slots_of, stands_in
from hoptrail.providers.extractive.words import stem

FEATURES = (
    "overlap", "own", "psim", "prox", "trigprox", "type", "inq", "rr", "sent0", "title",
    "title_notq", "part", "isa", "quote", "noun", "len", "oneword", "by", "paren", "freq", "names",
    "after", "before", "country", "nation", "year", "in", "slot", "joined", "echo", "said",
    "titled", "head_in", "head_near", "headless",
)  # fmt: skip

_QUOTES = " \"'“‘”’"
_PLACED = (" in", " at", " of", " near", " from", " to", " the")
_JOINED = re.compile(r"\s(?:in|on|to|for|and)\s")
_LENGTH = re.compile(r"\d\s?(?:km|m|kilomet|met|mi|feet|ft)\w*$", re.IGNORECASE)
_TIME = re.compile(r"(?:years?|months?|weeks?|days?|hours?|minutes?)$", re.IGNORECASE)
_HOW_FAR = re.compile(
    r"\bhow (?:long|high|tall|deep|far|wide)\b|\b(?:height|length|depth) of\b", re.I
)


def features(reading: Reading, spans: Sequence[tuple[Scene, Candidate]]) -> list[tuple[float, ...]]:
    """Give the values of `FEATURES` for each candidate."""
    places: dict[str, set[int]] = {}
    for scene, candidate in spans:
        places.setdefault(candidate.text, set()).add(scene.passage)
    heads = _heads(reading, spans)
    return [
        _values(reading, scene, candidate, len(places[candidate.text])) + head
        for (scene, candidate), head in zip(spans, heads, strict=True)
    ]


def _values(reading: Reading, scene: Scene, c: Candidate, count: int) -> tuple[float, ...]:
    question, kind = reading.question, c.kind
    text, title = scene.sentence.text, kind == "title"
    before = "" if title else text[max(0, c.start - 24) : c.start].lower().rstrip(_QUOTES)
    after = "" if title else text[c.end : c.end + 24].lower().lstrip(_QUOTES + ",")
    inq = len(c.stems & question.words) / len(c.stems)
    slotted = not title and stands_in(slots_of(question), text, c.start, c.end)
    return (
        scene.overlap, scene.own, scene.psim,
        0.3 if title else _near(scene.asked, c),
        0.0 if title else _near(scene.signals, c),
        _fit(question, c, (before, after), slotted), -inq, 1 / scene.rank, float(scene.first),
        float(title), (1 - inq) if title else 0.0,
        float(kind == "part"), float(kind == "isa"), float(kind == "quote"),
        float(kind == "noun"), min(c.words, 6) / 6,
        float(c.words == 1 and kind not in ("date", "number")),
        float(before.endswith((" by", " by the"))),
        float(before.endswith(("(", "born"))),
        math.log(count), scene.names,
        float(_last_stem(before) in reading.signals),
        float(kind != "number" and _first_stem(after) in reading.signals),
        *_country(question, c), float(kind == "date" and c.text.isdigit()),
        float(question.wants == "place" and before.endswith((" in", " at", " of", " from"))),
        float(slotted),
        float(kind == "name" and bool(_JOINED.search(c.text))),
        float(question.wants == "person" and inq > 0), scene.said,
        scene.titled,
    )  # fmt: skip


def _heads(
    reading: Reading, spans: Sequence[tuple[Scene, Candidate]]
) -> list[tuple[float, float, float]]:
    """Say of each candidate whether it is of the kind asked for ('river'), when that can be seen.

    Three values: the kind is part of it, stands beside it, or is seen at others but not at it.
    """
    head = reading.question.head
    if not head:
        return [(0.0, 0.0, 0.0)] * len(spans)
    known = {page.title.text for page in reading.pages if head in page.kinds}
    seen = [(head in c.stems, _beside(scene, c, head) or c.text in known) for scene, c in spans]
    headed = {c.text for (_, c), pair in zip(spans, seen, strict=True) if any(pair)}
    return [
        (float(within), float(near), float(bool(headed) and c.text not in headed))
        for (_, c), (within, near) in zip(spans, seen, strict=True)
    ]


def _beside(scene: Scene, c: Candidate, head: str) -> bool:
    if c.kind == "title":
        return False
    text = scene.sentence.text
    return head in (
        _last_stem(text[max(0, c.start - 24) : c.start].lower()),
        _first_stem(text[c.end : c.end + 24].lower()),
    )


def _country(question: Question, c: Candidate) -> tuple[float, float]:
    if not question.asks_country:
        return 0.0, float(country_of(c.text) is not None)
    if is_country(c.text):
        return 1.0, 0.0
    return (0.5 if country_of(c.text) else -1.0), 0.0


def _fit_number(question: Question, c: Candidate, after: str) -> float:
    """Whether it is a number, with the unit of length or the things counted that are asked for."""
    if c.kind != "number":
        return -0.3 if c.kind == "date" else -1.0
    measured = bool(_LENGTH.search(c.text))
    if _HOW_FAR.search(question.text):
        return 1.0 if measured or _TIME.search(c.text) else -0.6
    if "how many" in question.text.lower():
        counted = _first_stem(after) in question.words or not c.stems.isdisjoint(question.words)
        return 1.0 if counted else -0.6 if measured else 0.3
    return -0.6 if measured else 1.0


def _near(places: Sequence[tuple[int, int]], c: Candidate) -> float:
    gaps = [
        max(start - c.end, c.start - end)
        for start, end in places
        if end <= c.start or start >= c.end
    ]
    return math.exp(-min(gaps) / 30) if gaps else 0.0


def _fit(question: Question, c: Candidate, around: tuple[str, str], slotted: bool) -> float:
    """Give how well a candidate's kind matches what is wanted, from −1 to 1."""
    numeric = c.kind in ("date", "number")
    if question.wants == "date":
        return 1.0 if c.kind == "date" else -1.0
    if question.wants == "number":
        return _fit_number(question, c, around[1])
    if question.wants not in ("place", "person"):
        return -0.4 if numeric else -0.2 if c.kind in ("isa", "noun") else 0.0
    return -1.0 if numeric else _fit_name(question, c, around[0], slotted)


def _fit_name(question: Question, c: Candidate, before: str, slotted: bool) -> float:
    if question.wants == "person":
        return (
            -0.8
            if c.kind in ("isa", "noun")
            else 1.0
            if c.words in (2, 3) or c.kind == "title"
            else 0.3
        )
    if c.kind in ("isa", "quote", "noun"):
        return -0.6
    adjective = country_of(c.text) is not None and not is_country(c.text)
    if adjective and not question.asks_country:
        return -1.0
    return 1.0 if slotted or before.endswith(_PLACED) else 0.3


def _last_stem(text: str) -> str:
    words = text.rsplit(None, 1)
    return stem(words[-1].strip(".,;:()")) if words else ""


def _first_stem(text: str) -> str:
    words = text.split(None, 1)
    return stem(words[0].strip(".,;:()")) if words else ""
