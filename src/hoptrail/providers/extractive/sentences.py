"""Sentences of a text; initials and abbreviations do not end one."""

from __future__ import annotations

import re

from hoptrail.providers.extractive.words import UPPER, Span

MOST_SENTENCES = 24
"""A passage is a paragraph or two; what lies beyond is not read."""

_END = re.compile(rf"[.!?]+[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[{UPPER}\d])|\n\s*\n|\n(?=[#*-])")
_ABBREVIATION = re.compile(
    rf"(?:\b(?:[{UPPER}]|St|Mt|Mr|Mrs|Ms|Dr|Jr|Sr|Prof|Gen|Col|Lt|Sgt|Capt|Rev|Hon|Gov|Sen|Rep"
    r"|vs|etc|e\.g|i\.e|c|ca|cf|No|Nos|Vol|Op|op|Ft|Co|Inc|Ltd|Corp|Bros|feat|approx|b|d|r|pop"
    rf"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)|(?:\b[{UPPER}]\.)+[{UPPER}])\.$"
)

_LONGEST_ABBREVIATION = 16


def sentences(text: str) -> list[Span]:
    """Give the sentences of a text with their places, at most `MOST_SENTENCES`."""
    found: list[Span] = []
    start = 0
    for match in _END.finditer(text):
        if match.group()[0] == "." and _ABBREVIATION.search(
            text, max(start, match.start() - _LONGEST_ABBREVIATION), match.start() + 1
        ):
            continue
        _add(found, text, start, match.end())
        start = match.end()
        if len(found) == MOST_SENTENCES:
            return found
    _add(found, text, start, len(text))
    return found


def _add(found: list[Span], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    lead = len(piece) - len(piece.lstrip())
    if piece := piece.strip():
        found.append(Span(piece, start + lead, start + lead + len(piece)))
