"""Slots: where in a sentence the answer to a kind of question stands.

'Born … in ▢', 'composed by ▢', '▢ directed', 'the capital of … is ▢': the text before and after
a candidate says more than the distance to the nearest word of the question.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from hoptrail.providers.extractive.question import Question
from hoptrail.providers.extractive.words import listed

REACH = 72
"""How many characters before and after a candidate are looked at."""


class Slot(NamedTuple):
    """A question that says ``asked`` is answered where ``before`` or ``after`` match."""

    asked: re.Pattern[str]
    wants: frozenset[str]
    before: re.Pattern[str] | None
    after: re.Pattern[str] | None


def _slot(asked: str, wants: str, before: str = "", after: str = "") -> Slot:
    return Slot(
        re.compile(rf"\b(?:{asked.replace(' ', '|')})\b", re.IGNORECASE),
        frozenset(listed(wants)),
        re.compile(f"(?:{before})$", re.IGNORECASE) if before else None,
        re.compile(after, re.IGNORECASE) if after else None,
    )


def _agent(asked: str, verbs: str, nouns: str) -> Slot:
    """Give the slot of who did something: 'verb by ▢', 'the noun ▢', '▢ verb'."""
    return _slot(
        asked,
        "person thing",
        rf"\b(?:{verbs})\b(?:\s+\w+){{0,3}}?\s+by\s+(?:the\s+)?(?:[\w-]+\s+){{0,4}}"
        rf"|\b(?:{nouns})s?,?\s+(?:is\s+|was\s+)?|\bby\s+(?:the\s+)?(?:[\w-]+\s+){{0,4}}(?:{nouns})\s+",
        rf"\s*,?\s*(?:who\s+|had\s+|has\s+|also\s+|first\s+){{0,2}}(?:{verbs})\b"
        rf"|\s*,\s+(?:its|the|his|her)\s+(?:\w+\s+)?(?:{nouns})\b",
    )


def _kin(asked: str, nouns: str) -> Slot:
    return _slot(
        asked,
        "person",
        rf"\b(?:{nouns})s?,?\s+(?:(?:was|is|were)\s+)?(?:(?:the|an?)\s+(?:[\w-]+\s+){{1,3}})?",
        rf"\s*,?\s+(?:was\s+)?(?:his|her)\s+(?:\w+\s+)?(?:{nouns})\b",
    )


_TO_PLACE = r"\b(?:in|at|near)\s+(?:the\s+(?:\w+\s+of\s+)?)?"
_UP_TO = r"\b(?:(?!\b(?:and|but|died|moved|in|at|where)\b)[^;:()]){0,45}"
_WATER = r"(?:river|runs?|flows?|lies?)(?!.*\binto\b)"

SLOTS = (
    _slot("born birth birthplace birthday hometown", "place", rf"\bborn{_UP_TO}{_TO_PLACE}"),
    _slot(
        "born birth birthday", "date", rf"\bborn{_UP_TO}\b(?:on|in)\s+|\bborn,?\s+|\((?:b\.\s*)?"
    ),
    _slot("die died death", "place", rf"\b(?:died|drowned){_UP_TO}{_TO_PLACE}"),
    _slot("die died death", "date", rf"\b(?:died|drowned){_UP_TO}\b(?:on|in)\s+|[–-]\s*"),
    _slot(
        _WATER,
        "place thing",
        r"\b(?:on|along|by)\s+(?:the\s+)?(?:(?:banks?|both\s+sides)\s+of\s+(?:the\s+)?)?(?:(?:little|great)\s+)?(?:river\s+)?",
        r"\s*(?:river\s+)?(?:runs|flows|winds|passes)\b",
    ),
    _slot("into mouth empties", "place thing", r"\b(?:flows?|empties|runs)\s+into\s+(?:the\s+)?"),
    _slot(
        "capital",
        "place thing",
        r"\bcapital\b[^.;,]{0,30}\b(?:is|was)\s+",
        r"\s+(?:is|was|,)\s*the\s+capital\b",
    ),
    _slot(
        "country located",
        "place",
        r"\b(?:in|of|from)\s+(?:the\s+)?",
        r"-?\s+(?:state|city|town|village|province)\b",
    ),
    _agent("composer composed compose", "composed|wrote|written", "composer"),
    _agent(
        "author wrote writer written write",
        "wrote|written|published|penned",
        "author|writer|novelist|poet|playwright|philosopher",
    ),
    _agent("director directed direct", "directed", "director|film-?maker"),
    _agent("screenwriter screenplay", "written|wrote", "screenwriter|writer"),
    _agent("producer produced", "produced", "producer"),
    _agent(
        "performer singer sang sings sing artist recorded",
        "sung|sang|recorded|performed|released",
        "singer|band|artist|group|duo|rapper|musician|songwriter",
    ),
    _agent(
        "founder founded founders created creator started established",
        "founded|established|created|started|formed|set\\s+up",
        "founder|creator|co-founder",
    ),
    _agent("discoverer discovered discover", "discovered|found", "discoverer|astronomer"),
    _agent("inventor invented", "invented|patented|developed", "inventor|engineer"),
    _agent("designer designed architect", "designed|built", "architect|designer|engineer"),
    _agent("painter painted", "painted", "painter|artist"),
    _agent("publisher published", "published", "publisher"),
    _agent(
        "manufacturer manufactured made built makes",
        "manufactured|made|built|produced",
        "manufacturer|maker",
    ),
    _agent("developer developed", "developed", "developer|studio"),
    _agent("owner owned owns bought", "owned|bought|acquired|purchased", "owner|subsidiary of"),
    _agent(
        "played plays play portrayed voices voice cast",
        "played|portrayed|voiced|plays|portrays|voices",
        "actor|actress",
    ),
    _agent("won win winner", "won|wins", "winner|champion"),
    _agent("killed assassinated", "killed|assassinated|shot", "assassin"),
    _kin(
        "spouse husband wife married marry",
        "wife|husband|spouse|married|marriage\\s+to|widow(?:\\s+of)?",
    ),
    _kin("mother mom", "mother|daughter\\s+of|son\\s+of"),
    _kin("father dad", "father|daughter\\s+of|son\\s+of"),
    _kin("sibling brother sister", "brother|sister"),
    _kin("child children son daughter", "son|daughter|child|children"),
    _slot("record label", "thing", r"\b(?:on|by|through|via|with|for|to)\s+(?:the\s+)?(?:\w+\s+)?"),
    _slot(
        "team club member", "thing", r"\bplay(?:s|ed|ing)\s+for\s+(?:the\s+)?|\bfor\s+(?:the\s+)?"
    ),
    _slot(
        "educated school university attend study studied graduate",
        "thing place",
        r"\b(?:attended|(?:student|studied|educated|trained)\s+at|graduated\s+from)\s+(?:the\s+)?",
    ),
)


@lru_cache(maxsize=1024)
def slots_of(question: Question) -> tuple[Slot, ...]:
    """Give the slots in which an answer to a question may stand."""
    return tuple(
        slot for slot in SLOTS if question.wants in slot.wants and slot.asked.search(question.text)
    )


def stands_in(slots: tuple[Slot, ...], text: str, start: int, end: int) -> bool:
    """Say whether the span from ``start`` to ``end`` stands in one of the slots."""
    before, after = text[max(0, start - REACH) : start], text[end : end + REACH]
    return any(
        (slot.before and slot.before.search(before)) or (slot.after and slot.after.match(after))
        for slot in slots
    )
