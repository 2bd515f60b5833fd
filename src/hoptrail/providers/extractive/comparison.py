"""Comparisons: which attribute of each side to look up, and what the two values decide."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from hoptrail.providers.extractive.quantities import quantity, same
from hoptrail.providers.extractive.words import names

Rule = Literal["least", "most", "same", "different", "all"]


class Comparison(NamedTuple):
    """Two sides, the questions to ask about each (with ``{}`` for the side), and the rule.

    ``owners`` are the sides as the question names them: it may ask for the film whose director
    is older, and the sides are then the directors. ``least`` and ``most`` give the side with
    the smaller or larger value, ``same``, ``different`` and ``all`` give yes or no. When
    ``verdict`` is set, ``least`` and ``most`` give yes if the first side wins.
    """

    sides: tuple[str, str]
    templates: tuple[str, ...]
    rule: Rule
    owners: tuple[str, str]
    verdict: bool = False

    def questions(self) -> list[list[str]]:
        """Give, for each side, what has to be known about it."""
        return [[template.format(side) for template in self.templates] for side in self.sides]

    def decide(self, values: Sequence[Sequence[str]]) -> str | None:
        """Give the winning side, or yes or no, from each side's answers; None if they do not say.

        Two answers a side stand for a span of time: the difference is compared.
        """
        if self.rule == "all":
            said = [value[0].lower() for value in values]
            return "yes" if all(each == "yes" for each in said) else "no"
        if self.rule in ("same", "different"):
            equal = same(values[0][0], values[1][0])
            return "yes" if equal == (self.rule == "same") else "no"
        first, second = (_size(value) for value in values)
        if first is None or second is None or first == second:
            return None
        wins = (first < second) == (self.rule == "least")
        if self.verdict:
            return "yes" if wins else "no"
        return self.owners[0 if wins else 1]


def comparison(question: str) -> Comparison | None:
    """Read a question as a comparison of two sides, or give None."""
    text = " ".join(question.split()).rstrip(" ?.")
    return _alternative(text) or _pair(text) or _than(text)


_EARLY = r"(?:first|earlier|earliest|before|older|oldest|longer ago)"
_LATE = r"(?:later|last|latest|more recently|most recently|newer|newest|recently|after|younger)"
_MADE = (
    r"(?P<verb>released|published|founded|established|formed|built|completed|created|launched"
    r"|introduced|constructed|incorporated|invented|discovered|written|composed|signed|opened"
    r"|premiered|aired)"
)

_ORDERS: tuple[tuple[str, tuple[str, ...], Rule], ...] = (
    (
        r"\b(?:lived?|life)\b.*\b(?:longe[rs]|older age)|longer life",
        ("When was {} born?", "When did {} die?"),
        "most",
    ),
    (rf"born.*\b{_EARLY}\b|\b(?:older|oldest|elder|eldest)\b", ("When was {} born?",), "least"),
    (rf"born.*\b{_LATE}\b|\b(?:younger|youngest)\b", ("When was {} born?",), "most"),
    (rf"\bdie[ds]?\b.*\b{_EARLY}\b", ("When did {} die?",), "least"),
    (rf"\bdie[ds]?\b.*\b{_LATE}\b", ("When did {} die?",), "most"),
    (r"\b(?:population|populous|inhabitants|people)\b", ("What is the population of {}?",), "most"),
    (r"\blong(?:er|est)\b", ("How long is {}?",), "most"),
    (r"\bshort(?:er|est)\b", ("How long is {}?",), "least"),
    (r"\b(?:tall|high)(?:er|est)\b", ("How high is {}?",), "most"),
    (r"\blow(?:er|est)\b", ("How high is {}?",), "least"),
    (r"\bdeep(?:er|est)\b", ("How deep is {}?",), "most"),
    (r"\b(?:large|big)(?:r|ger|st|gest)\b", ("What is the area of {}?",), "most"),
    (r"\bsmall(?:er|est)\b", ("What is the area of {}?",), "least"),
    (rf"\b{_MADE}\b.*\b{_EARLY}\b", ("When was {{}} {verb}?",), "least"),
    (rf"\b{_MADE}\b.*\b{_LATE}\b", ("When was {{}} {verb}?",), "most"),
    (rf"\b(?:c[ao]me out|debuted)\b.*\b{_EARLY}\b", ("When was {} released?",), "least"),
    (rf"\b(?:c[ao]me out|debuted)\b.*\b{_LATE}\b", ("When was {} released?",), "most"),
    (rf"\b(?:start|begin|began|begun)\w*\b.*\b{_EARLY}\b", ("When was {} founded?",), "least"),
    (
        r"\b(?:has|have|had|won|win|wrote|released)\s+(?:the\s+)?(?:more|most)\s+(?P<verb>[\w' ]+)",
        ("How many {verb} does {{}} have?",),
        "most",
    ),
)
"""What a comparative asks of each side. ‘Older’ of a person is an earlier birth; `_age` mends
it for things."""

_ROLE = re.compile(
    r"\b(?:director|composer|author|writer|performer|singer|producer|founder|creator|screenwriter"
    r"|architect|designer|painter|inventor)s?\b",
    re.IGNORECASE,
)
_THING = re.compile(
    r"\b(?:film|movie|album|song|book|novel|magazine|newspaper|series|opera|symphony|poem|play"
    r"|band|group|company|organi[sz]ation|university|college|school|bridge|building|tower|castle"
    r"|church|cathedral|museum|city|town|game|club|team|station)s?\b",
    re.IGNORECASE,
)
_ISSUED = re.compile(r"\b(?:film|movie|album|song|book|novel|magazine|game|series)\b", re.I)

_OR = re.compile(r"^(?P<ask>.+?)\s*[,:]\s*(?P<a>.+?),?\s+or\s+(?P<b>.+)$", re.IGNORECASE)
_BETWEEN = re.compile(
    r"^(?:between|of|out of)\s+(?P<a>.+?)\s+and\s+(?P<b>.+?),\s*(?P<ask>.+)$", re.IGNORECASE
)
_OUT_OF = re.compile(
    r"^(?P<ask>.+?),?\s+(?:between|out of|among)\s+(?P<a>.+?)\s+and\s+(?P<b>.+)$", re.IGNORECASE
)
_WAS_OR = re.compile(
    r"^(?P<aux>is|are|was|were|did|does|do|has|have)\s+(?P<a>[^,]+?)\s+or\s+(?P<b>.+?)\s+"
    r"(?P<ask>(?:born|die|released|published|founded|established|formed|built|come out|opened"
    r"|completed|further|more|live|older|younger|larger|longer|taller|higher|the)\b.*)$",
    re.IGNORECASE,
)
_IS_PREDICATE = re.compile(
    r"^(?:which|what|who)\s+(?:[\w’'-]+\s+){0,4}?(?P<aux>is|was|are|were)\s+(?P<rest>.+)$", re.I
)


def _alternative(text: str) -> Comparison | None:
    """Read 'Which …, A or B?', 'Was A or B born first?' or 'Between A and B, which …?'."""
    match = _BETWEEN.match(text) or _OUT_OF.match(text) or _WAS_OR.match(text) or _OR.match(text)
    if not match:
        return None
    ask, sides = match["ask"], (_side(match["a"]), _side(match["b"]))
    if not re.match(
        r"\W*(?:which|who|what|is|was|are|were|did|do|does)\b|.*\b(?:which|who)\b", text, re.I
    ):
        return None
    owners, sides = sides, _through_role(ask, sides)
    if ordered := _order(ask):
        return Comparison(sides, *ordered, owners)
    if all(map(names, sides)) and (predicate := _IS_PREDICATE.match(ask)):
        return Comparison(sides, (f"Is {{}} {_plain(predicate['rest'])}?",), "most", owners)
    return None


def _order(ask: str) -> tuple[tuple[str, ...], Rule] | None:
    for pattern, templates, rule in _ORDERS:
        if match := re.search(pattern, ask, re.IGNORECASE):
            verb = match.groupdict().get("verb") or ""
            filled = tuple(t.format(verb=_plain(verb.strip())) if verb else t for t in templates)
            return _age(ask, filled), rule
    return None


def _age(ask: str, templates: tuple[str, ...]) -> tuple[str, ...]:
    """Ask when a thing was made, not when it was born."""
    if templates != ("When was {} born?",) or "born" in ask or _ROLE.search(ask):
        return templates
    if _ISSUED.search(ask):
        return ("When was {} released?",)
    return ("When was {} founded?",) if _THING.search(ask) else templates


def _through_role(ask: str, sides: tuple[str, str]) -> tuple[str, str]:
    """'Which film has the director born later' compares the directors of both."""
    role = _ROLE.search(ask)
    counted = re.search(r"\b(?:more|most|how many)\b", ask, re.IGNORECASE)
    if not role or counted or _ROLE.search(" ".join(sides)) or not _THING.search(ask):
        return sides
    singular = role.group().lower().removesuffix("s")
    return f"the {singular} of {sides[0]}", f"the {singular} of {sides[1]}"


_PAIR = re.compile(
    r"^(?P<aux>is|are|was|were|do|does|did|have|has)\s+(?:both\s+)?"
    r"(?:(?:the\s+)?(?P<kind>films|movies|songs|albums|villages|universities|towns|rivers|bands"
    r"|books|novels|people|men|women),?\s+)?(?P<a>.+?)\s+and\s+(?P<b>.+?),?\s+"
    r"(?P<ask>(?-i:both\b|(?:located|born|situated|from|of|in)\s+(?:in\s+)?(?:the same|different)\b"
    r"|the same\b"
    r"|share\b|have\b|come\b|belong\b|die\b|live\b|originate\b|films\b|movies\b|songs\b"
    r"|directed\b|written\b|composed\b).*)$",
    re.IGNORECASE,
)
_SAME = re.compile(
    r"\b(?P<prep>in|from|of|by|on|at|to|share|have|has|shared?|had)?\s*(?:(?:the|a)\s+)?"
    r"(?P<how>same|different)\s+(?P<what>[\w ]+?)s?$",
    re.IGNORECASE,
)


def _pair(text: str) -> Comparison | None:
    """Read 'Are A and B both …?', 'Do A and B share …?'."""
    match = _PAIR.match(text)
    if not match:
        return None
    ask, sides = match["ask"].strip(" ,"), (_side(match["a"]), _side(match["b"]))
    sides = _plural_role(sides)
    if re.search(r"\b(?:have|has|share)\b", ask):
        sides = _through_role(f"{match['kind'] or 'film'} {ask}", sides)
    if shared := _SAME.search(ask.rstrip(" ,")):
        rule: Rule = "same" if shared["how"].lower() == "same" else "different"
        return Comparison(sides, (_shared_question(ask, shared),), rule, sides)
    predicate = re.sub(r"^(?:are\s+)?both\s+", "", ask, flags=re.IGNORECASE)
    if predicate == ask or match["aux"].lower() not in ("is", "are", "was", "were"):
        return None
    return Comparison(sides, (f"Is {{}} {_singular(_plain(predicate))}?",), "all", sides)


def _plural_role(sides: tuple[str, str]) -> tuple[str, str]:
    """'The directors of films A' and 'B' are the director of A and the director of B."""
    match = re.match(r"(?:the\s+)?(?P<role>\w+)s\s+of\s+(?:(?:the\s+)?\w+s\s+)?", sides[0], re.I)
    if not match or not _ROLE.fullmatch(match["role"]) or _ROLE.search(sides[1]):
        return sides
    role = match["role"].lower()
    return f"the {role} of {sides[0][match.end() :]}", f"the {role} of {sides[1]}"


def _shared_question(ask: str, shared: re.Match[str]) -> str:
    what = re.sub(r"ie$", "y", _plain(shared["what"]).strip().lower())
    verb = re.search(r"\b(born|die|died|located|situated|buried|founded|built)\b", ask, re.I)
    if verb and (shared["prep"] or "").lower() in ("in", "on", "at"):
        did = verb.group().lower().startswith("die")
        return f"In which {what} did {{}} die?" if did else f"In which {what} {_was(verb.group())}?"
    if what in ("country", "city", "town", "state") and not (shared["prep"] or "").startswith("s"):
        return f"Which {what} is {{}} from?"
    if what in ("person", "man", "woman", "people") and (made := re.search(r"\w+(?=\s+by)", ask)):
        return f"Who {_plain(made.group())} {{}}?"
    return f"What is the {what} of {{}}?"


def _was(verb: str) -> str:
    return f"{'is' if verb in ('located', 'situated') else 'was'} {{}} {verb}"


def _singular(predicate: str) -> str:
    """'American directors' becomes 'an American director'; 'located in Rome' stays."""
    if not re.search(r"^[\w' -]+s$", predicate) or re.match(r"(?:in|from|on|of|at)\b", predicate):
        return predicate
    if kind := re.match(r"(?:types|kinds|members)\s+of\s+", predicate):
        return f"a {kind.group().split()[0][:-1]} of {predicate[kind.end() :]}"
    one = re.sub(r"ies$", "y", predicate) if predicate.endswith("ies") else predicate[:-1]
    return f"{'an' if one[0].lower() in 'aeiou' else 'a'} {one}"


_THAN = re.compile(
    r"^(?:is|was|are|were|did|does|has)\s+(?P<a>.+?)\s+(?P<ask>(?:(?:born|die|released|published"
    r"|founded|built|established|formed|live)\s+)?(?:older|younger|earlier|later|before|after"
    r"|longer|shorter|taller|higher|lower|larger|bigger|smaller|deeper|more populous|newer))"
    r"\s+(?:than\s+)?(?P<b>.+)$",
    re.IGNORECASE,
)


def _than(text: str) -> Comparison | None:
    """Read 'Is A older than B?'."""
    match = _THAN.match(text)
    ordered = _order(match["ask"]) if match else None
    if not match or not ordered:
        return None
    sides = _side(match["a"]), _side(match["b"])
    return Comparison(sides, *ordered, sides, verdict=True)


def _side(text: str) -> str:
    return _plain(re.sub(r"^(?:both|either)\s+", "", text.strip(" ,?"), flags=re.IGNORECASE))


def _plain(text: str) -> str:
    """Give a text that is safe inside a template."""
    return text.replace("{", "(").replace("}", ")")


def _size(values: Sequence[str]) -> float | None:
    sizes = [
        _truth(value) if value.lower() in ("yes", "no") else quantity(value) for value in values
    ]
    known = [size for size in sizes if size is not None]
    if len(known) < len(values) or not known:
        return None
    return known[1] - known[0] if len(known) == 2 else known[0]


def _truth(value: str) -> float:
    return 1.0 if value.lower() == "yes" else 0.0
