"""The planner: splits a question into look-ups by rules.

Descriptions are looked up from the inside out, each replaced by a reference to its step;
comparisons look up the compared attribute of each side and leave the comparing to synthesis.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hoptrail.providers.extractive.comparison import Comparison, comparison
from hoptrail.providers.extractive.descriptions import Description, descriptions

_TRIVIAL = re.compile(
    r"(?:(?:who|what|where|which(?:\s+\w+){0,2})(?:['’]s|\s+(?:is|was|are|were))|name)\s*(?:also\s+)?"
    r"(?:called\s+|named\s+)?(?:the\s+(?:name|identity)\s+of\s+)?#\d+(?P<rest>.*)$",
    re.IGNORECASE,
)
_NOTHING_LEFT = re.compile(
    r"(?:#\d+|(?:when|how|why|who|what|which\s+\w+)\s+(?:was|were|is|are)\s+#\d+"
    r"|.*\b(?:did|does|do)\s+#\d+|\w+\s+#\d+"
    r"|(?:#\d+|(?!what|which|who|how|when|where|in )[^#]{1,40})\s+(?:is|was)"
    r"\s+(?:who|whom|what|where|which|#\d+))$",
    re.IGNORECASE,
)
_ASKS_MORE = re.compile(
    r"\s*(?:\w+ed\b|born\b|from\b|known\b|buried\b|built\b|made\b|set\b|part of\b|in\b$|'s|’s)",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"#(\d+)")
_LONGEST = 600
"""A longer text is not one question, and the rules would take their time over it."""
_KIN = (
    (r"(?:maternal grand(?P<a>father|mother))", "mother"),
    (r"(?:paternal grand(?P<b>father|mother))", "father"),
    (r"(?:(?P<c>father|mother)[- ]in[- ]law)", "spouse"),
)


class Split(NamedTuple):
    """The look-ups of a question, later ones referring to earlier ones as ``#k``.

    For a comparison, ``ends`` holds for each side the ids of the steps whose answers are
    compared; otherwise it is empty, and the last step's answer is the question's.
    """

    steps: tuple[str, ...]
    ends: tuple[tuple[int, ...], ...] = ()


def split(question: str, max_steps: int) -> Split:
    """Split a question into at most ``max_steps`` look-ups.

    A longer plan is not cut, which would lose the question: it is asked whole.
    """
    text = " ".join(question.split())
    if len(text) > _LONGEST:
        return Split((text,))
    compared = comparison(text)
    found = _compared(compared) if compared else Split(tuple(_nested(text)))
    return found if len(found.steps) <= max_steps else Split((text,))


def _compared(compared: Comparison) -> Split:
    steps: list[str] = []
    ends = []
    for side in compared.questions():
        mine = []
        for asked in side:
            steps += _renumbered(_nested(asked), len(steps))
            mine.append(len(steps))
        ends.append(tuple(mine))
    return _unrepeated(steps, ends)


def _nested(question: str) -> list[str]:
    rest = _without_kin(question.strip().rstrip("?.! "))
    steps: list[str] = []
    while found := _innermost(rest, len(steps) + 1):
        steps.append(found.question)
        rest = f"{rest[: found.start]}#{len(steps)}{rest[found.end :]}"
    return [*steps, f"{rest[:1].upper()}{rest[1:]}?"]


def _innermost(text: str, number: int) -> Description | None:
    """Give the first description whose look-up leaves something to ask."""
    for found in descriptions(text):
        rest = f"{text[: found.start]}#{number}{text[found.end :]}".strip()
        trivial = _TRIVIAL.match(rest)
        if trivial and not _ASKS_MORE.match(trivial["rest"]):
            continue
        if not _NOTHING_LEFT.match(rest):
            return found
    return None


def _without_kin(text: str) -> str:
    """Spell out kinship by marriage and by line: a maternal grandfather is a mother's father."""
    for pattern, between in _KIN:
        match = re.search(rf"the {pattern} of ", text)
        if match:
            kin = next(value for value in match.groupdict().values() if value)
            text = f"{text[: match.start()]}the {kin} of the {between} of {text[match.end() :]}"
    return text


def _renumbered(steps: list[str], offset: int) -> list[str]:
    return [_REFERENCE.sub(lambda m: f"#{int(m[1]) + offset}", step) for step in steps]


def _unrepeated(steps: list[str], ends: list[tuple[int, ...]]) -> Split:
    """Drop a look-up that was already asked, and refer to the first one."""
    kept: list[str] = []
    place: dict[int, int] = {}
    for number, step in enumerate(steps, start=1):
        asked = _REFERENCE.sub(lambda m: f"#{place.get(int(m[1]), int(m[1]))}", step)
        if asked not in kept:
            kept.append(asked)
        place[number] = kept.index(asked) + 1
    return Split(tuple(kept), tuple(tuple(place[end] for end in side) for side in ends))
