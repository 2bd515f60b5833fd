"""Candidates: the spans of a sentence that could be an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

from hoptrail.providers.extractive.words import MONTH, Span, content_stems, names, parts

Kind = Literal["date", "number", "quote", "name", "part", "isa", "noun", "title"]

_YEAR = r"(?:1\d{3}|20\d{2})"
_DATE = re.compile(
    rf"\b(?:\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{MONTH}(?:,?\s+{_YEAR})?"
    rf"|{MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s+{_YEAR})?(?!\d)"
    rf"|{MONTH},?\s+{_YEAR}|(?:\d{{1,2}}(?:st|nd|rd|th)|[a-z]+th|first|second|third)[\s-]+century"
    rf"(?:\s+(?:BC|AD|BCE|CE))?|\d{{1,4}}\s(?:BC|AD|BCE|CE)\b|{_YEAR}s?)(?!\w)"
)
_SMALL = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen"
    "|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
    "|hundred|dozen"
)
_NUMBER = re.compile(
    rf"(?<![\w.])[$€£¥]?\s?\d[\d,]*(?:\.\d+)?(?:\s?%|\s+(?:percent|per cent|million|billion"
    r"|trillion|thousand|hundred)\b)?"
    r"(?:\s?(?:km2|km²|km|m|kilomet(?:re|er)s?|met(?:re|er)s?|miles?|feet|ft|years?|days?|hours?"
    r"|minutes?|square\s+(?:kilomet(?:re|er)s|miles))\b)?"
    rf"|\b(?:{_SMALL})(?:[-\s](?:{_SMALL}|thousand|million|billion))*(?:\s(?:times?|years?))?\b",
    re.IGNORECASE,
)
_QUOTE = re.compile(r"[\"“‘]([^\"“”‘’]{2,60})[\"”’]")
_ISA = re.compile(
    r"\b(?:is|was|are|were|became|as|become|remains)\s+(?:an?|the|one of the)"
    r"\s+((?:[\w’'-]+\s?){1,6})"
)
_ISA_END = re.compile(
    r"\b(?:that|which|who|whose|where|in|of|on|at|from|for|with|by|and|or|to|set|located|based"
    r"|located|situated|known|best|released|written|directed|produced|is|was|born|made|founded)\b"
)
_NOUN = re.compile(
    r"\b(?:an?|the|his|her|its|their|of|as|by|to|with|for|in|into|from|called|and|or|on|was|is|are"
    r"|were|against|than)\s+((?:[a-z][\w-]+\s){0,3}[a-z][\w-]+)"
)
_NOUN_END = re.compile(
    r"\s(?:that|which|who|whose|where|when|in|of|on|at|from|for|with|by|and|or|to|is|was|are|were"
    r"|as|has|had|have|but|the|an?|it|he|she|they|his|her|its|their|into|after|before|during|while"
    r"|until|because|not|be|been|also|than|about|over|under|between|through|if|so|will|can)\b.*$"
)


class Candidate(NamedTuple):
    """A span that could be an answer; ``start`` is −1 for a title."""

    text: str
    kind: Kind
    start: int
    end: int
    stems: frozenset[str]
    words: int


@lru_cache(maxsize=16384)
def candidates(sentence: str) -> tuple[Candidate, ...]:
    """Give the candidates of a sentence in order of kind; the first kind of a span wins."""
    found: dict[tuple[int, int], Candidate] = {}
    for kind, span in _spans(sentence):
        text = span.text.rstrip(" ,;:")
        key = (span.start, span.start + len(text))
        if text and key not in found:
            stems = frozenset(content_stems(text))
            found[key] = Candidate(text, kind, *key, stems, text.count(" ") + 1)
    return tuple(found.values())


def title_candidate(title: str) -> Candidate:
    """Give a passage's title as a candidate, without the qualifier in brackets."""
    text = re.sub(r"\s*\([^()]*\)$", "", title).strip() or title
    return Candidate(text, "title", -1, -1, frozenset(content_stems(text)), text.count(" ") + 1)


def _spans(sentence: str) -> Iterator[tuple[Kind, Span]]:
    yield from (("date", _whole(match)) for match in _DATE.finditer(sentence))
    for name in names(sentence):
        yield "name", name
        for part in parts(name):
            yield "part", part
    dated = [(match.start(), match.end()) for match in _DATE.finditer(sentence)]
    for match in _NUMBER.finditer(sentence):
        if not any(start <= match.start() and match.end() <= end for start, end in dated):
            yield "number", _whole(match)
    yield from (("quote", _group(match)) for match in _QUOTE.finditer(sentence))
    for match in _ISA.finditer(sentence):
        yield from _isa(_group(match))
    for match in _NOUN.finditer(sentence):
        text = _NOUN_END.sub("", match.group(1))
        yield "noun", Span(text, match.start(1), match.start(1) + len(text))


def _isa(span: Span) -> Iterator[tuple[Kind, Span]]:
    end = _ISA_END.search(span.text)
    text = (span.text[: end.start()] if end else span.text).strip()
    if not text:
        return
    yield "isa", Span(text, span.start, span.start + len(text))
    last = text.rsplit(None, 1)[-1]
    start = span.start + len(text) - len(last)
    yield "isa", Span(last, start, start + len(last))


def _whole(match: re.Match[str]) -> Span:
    return Span(match.group().strip(), match.start() + _lead(match.group()), match.end())


def _group(match: re.Match[str]) -> Span:
    return Span(match.group(1), match.start(1), match.end(1))


def _lead(text: str) -> int:
    return len(text) - len(text.lstrip())
