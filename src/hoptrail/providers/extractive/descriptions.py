"""Descriptions: the phrases of a question that stand for something to be looked up first.

'The composer of Finlandia', 'the city where Kafka was born' and 'Finlandia's composer' each
name a thing by its relation to another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from hoptrail.providers.extractive.countries import country_of
from hoptrail.providers.extractive.words import Span, names

_PERSONS = (
    r"co-?founder|composer|director|author|writer|co-?writer|screenwriter|lyricist|producer"
    r"|performer|singer|songwriter|artist|creator|founder|inventor|discoverer|designer|architect"
    r"|painter|sculptor|editor|owner|president|vice president|prime minister|mayor|governor|king"
    r"|queen|monarch|emperor|ruler|leader|head|chairman|chairwoman|chancellor|ceo|coach|manager"
    r"|captain|spouse|wife|husband|widow|father|mother|parent|son|daughter|child|brother|sister"
    r"|sibling|grandfather|grandmother|uncle|aunt|nephew|niece|father-in-law|mother-in-law|star"
    r"|protagonist|narrator|translator|illustrator|conductor|successor|predecessor|teacher|pupil"
    r"|student|winner|recipient|host|pianist|violinist|guitarist|drummer|actor|actress|voice"
    r"|proposer|organi[sz]er|presenter|namesake|victor|pilot|engineer|builder|patron"
)
_THINGS = (
    r"birthplace|(?:city|country|date|cause|place) of (?:birth|death|citizenship)|cast member"
    r"|state capital|place of burial|birth country|home country"
    r"|hometown|home town|native city|capital city|capital|county seat|seat|headquarters|country"
    r" of origin|nationality|citizenship|employer|alma mater|sports team|record label|label"
    r"|distributer|jurisdiction|network|native language|official language|language|religion"
    r"|currency|continent|source|mouth|publisher|manufacturer|developer|distributor|parent company"
    r"|largest city|genre|team"
    r"|field of work|political party|nickname|successor state|highest point|highest mountain"
    r"|longest river|largest lake|largest island|home stadium|home ground|setting|site"
)
_KINDS = (
    r"film|movie|song|album|book|novel|opera|poem|play|symphony|ballet|suite|tone poem|series"
    r"|show|television series|painting|company|band|magazine|newspaper|game|video game|single"
    r"|musical|city|town|country|state|river|company|painting|statue|bridge|tower|cathedral"
    r"|building|university|treaty|battle"
)
_PERSON_WORDS = re.compile(
    rf"\b(?:{_PERSONS}|person|man|woman|boy|girl|scientist|physicist|chemist|explorer|player"
    r"|wrestler|politician|poet|novelist|playwright|musician|entertainer|officer|general|monk"
    r"|saint|character|physician|mathematician|astronomer|philosopher|economist|footballer"
    r"|athlete|astronaut|navigator|sailor|journalist|people)$",
    re.IGNORECASE,
)
_MODS = r"(?:(?!(?:of|who|that|which|where|the)\b)[\w’'-]+\s+){0,3}?"
_ROLE_OF = re.compile(
    rf"(?:\bthe\s+{_MODS}(?P<rel>{_PERSONS}|{_THINGS}|(?:{_KINDS}|county|nation)(?= of #))"
    rf"\s+(?:of|for|behind)\s+(?:the\s+)?(?:(?:{_KINDS})\s+)?"
    rf"|(?<!the )(?<!\w)(?P<bare>(?:{_PERSONS}))\s+of\s+(?:the\s+)?(?:{_KINDS})\s+)",
    re.IGNORECASE,
)
_SUPERLATIVE = re.compile(
    r"\bthe\s+(?:(?:second|third)[- ])?(?:\w+est|most\s+\w+)\s+(?P<rel>[a-z]+)\s+(?:of|in)\s+"
    rf"(?:the\s+)?(?:(?:{_KINDS})\s+)?",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    rf"\bthe\s+{_MODS}(?P<rel>[a-z][\w-]+)\s+(?P<link>(?:who|that|which|(?:in|on|at|from|for|to|with)"
    r"\s+which|where|whose)\b|(?=(?!during|including|according|concerning|king\b)[a-z]{3,}ing\b"
    r"|born\b|with\s+(?:the|an?)\b|(?:formerly\s+)?known\s+as\b|named\s+after\b|called\b"
    r"|[a-z]{2,}ed\s+by\b|written\s+by\b|built\s+by\b|led\s+by\b))\s*",
    re.IGNORECASE,
)
_VERB_BE = r"is|was|are|were|has|had"
_REDUCED = re.compile(rf"\bthe\s+{_MODS}(?P<rel>[a-z][\w-]+)\s+(?=(?:#\d+|[A-Z]))")
_REDUCED_VERB = re.compile(
    rf"\s+(?:(?:{_VERB_BE})\s+(?:a\s+)?(?:part of|in|located in|from|based in|born in|set in"
    r"|named after|a member of)|plays? for|played for|plays? in|played in|works? for|worked for"
    r"|attended|founded|wrote|composed|directed|belongs? to|visits?|visited|lives? in|lived in)"
    r"(?=\s|$)"
)
_COMPOUND = re.compile(
    rf"\bthe\s+(?=[A-Z])(?P<name>[^,#]+?)\s+(?P<rel>{_PERSONS}|{_THINGS})\b(?!\s+of\b)"
)
_NO_NAME = re.compile(r"[\"“”]|\b(?:as|is|was|are|were|to|by|for|with|that|who|which|of|an?)\b")
_RANKED = re.compile(r"(?<=\bof )the\s+(?:\w+est|most|first|last|only)\s+(?=\w+\s+\w+|\w+$)")
_PLAYED = re.compile(
    r"(?:\b(?:play(?:s|ed|ing)?|voic(?:es|ed|ing)|as|became|become|becoming|crowned|elected"
    r"|appointed|considered one of)|,)\s*$",
    re.IGNORECASE,
)
_POSSESSED = re.compile(
    rf"(?:\s*\([^()]*\))?(?:['’]s|(?<=s)['’])\s+(?P<mods>(?:(?!{_PERSONS}|{_THINGS})\w+\s+){{0,1}})"
    rf"(?P<rel>{_PERSONS}|{_THINGS})\b",
    re.IGNORECASE,
)
_STYLED = re.compile(
    r"(?:^|[a-z] )(?P<name>(?:[A-Z][\w’'-]*(?:\s[A-Z][\w’'-]*)*(?:,\s|\sand\s))+)$"
)
_REFERENCE = re.compile(r"#\d+")
_QUOTED = re.compile(r"[\"“‘']([^\"“”]{2,80}?)[\"”’'](?=\W|$)")

_BARE_VERBS = (
    r"die|become|leave|start|begin|end|open|close|win|take|get|join|attend|live|play|move|come|go"
    r"|serve|happen|buy|adopt|dissolve|form|graduate|study|work|marry|retire|resign|have|receive"
    r"|belong|originate|run|flow|compete|represent|appear|grow|gain|lose|break|sell|sign|invade"
    r"|reign|rule|originally|first|last|finally|join|release|record|host|visit|migrate|speak|rise"
)
_DONE = (
    r"\w{2,}ed|born|built|made|held|founded|found|written|won|sung|known|set|sold|taken|drawn"
    r"|from|buried|older|younger|famous|today|now"
)
_MAIN_BARE = re.compile(rf"\s+(?:{_BARE_VERBS})(?=\s|$)", re.IGNORECASE)
_MAIN_DONE = re.compile(
    rf"(?<!\bis)(?<!\bwas)(?<!\bare)(?<!\bwere)(?<!\bbeen)(?<!\bwho)(?<!\bthat)(?<!\bhas)"
    rf"(?<!\bhad)\s+(?:first\s+|last\s+|originally\s+)?(?:{_DONE})(?=\s|$)"
)
_MAIN_ASKED = re.compile(
    r"\s+(?:is|was|are|were|\w+ed|\w+s|did|does|has|had)\s+(?:\w+\s+){0,3}?(?:who|what|which|whom|how)\b"
)


_OWN_VERB = re.compile(
    r"(?P<subject>[^?]+?)\s+(?P<verb>(?:is|was|are|were|can be|has been)\s+(?:\w+ly\s+)?(?:located"
    r"|found|situated|born|buried|held|filmed|based|set|from)|died|takes place)\s+(?!(?:in|at|on|of"
    r"|by|to|as|from|the|an?|and|near|for|with|after|before|during|while|when)\b)(?=[a-z])"
)
"""The verb of a where-clause, when something follows that cannot belong to it any more."""

_SOME_VERB = re.compile(
    r"\b(?:is|was|are|were|has|had|[a-z]{2,}(?:ed|s)|won|wrote|made|sang|led|built|gave|took|held)\b"
)
_HOLDS_UP = re.compile(
    r"(?:when|where|how|in|at|on|(?:what|which) (?:year|city|town|country|state|place))\b"
    r".*\b(?:is|was|are|were)\b",
    re.IGNORECASE,
)
_NO_NOUN = re.compile(r"\w+ed|found|said|\w+est|most")
_LEADS = re.compile(r"[\"“']?(?:the|an?|in|on|at)?\s*")
_ODD_NAME = re.compile(r"(?=[^a-z\s#])[^\s?]+(?:\s+(?=[^a-z\s#])[^\s?]+)*")
_AFTER_NAME = re.compile(r"[\"”’]?(?:\s*\([^()]*\))?(?:[?!](?=\s+\w))?")
_GOES_ON = re.compile(r"(?:[,:;]?\s+(?:and|the|of|in|[^a-z\s#][^\s?#]*))+")
_FROM_WORK = re.compile(
    r"\s+(?:from|in)\s+(?:the\s+)?(?:film|movie|series|show|song|book|novel|play|musical)\s+"
)


class Description(NamedTuple):
    """A phrase with its place, and the question that looks it up."""

    start: int
    end: int
    question: str


def descriptions(text: str) -> Iterator[Description]:
    """Give the descriptions that hold no other one, innermost first."""
    yield from _possessives(text)
    openers = [
        (match.start(), order, read, match)
        for order, (pattern, read) in enumerate(_READERS)
        for match in _overlapping(pattern, text)
    ]
    for _, _, read, match in sorted(openers, key=lambda item: (-item[0], item[1])):
        if found := read(text, match):
            yield found


def _overlapping(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Give the matches of a pattern that start anywhere, also inside another one."""
    start = 0
    while match := pattern.search(text, start):
        yield match
        start = match.start() + 1


def is_person(noun: str) -> bool:
    """Say whether a noun is one for people."""
    return bool(_PERSON_WORDS.search(noun.strip()))


def _possessives(text: str) -> Iterator[Description]:
    owners = [Span(m.group(), m.start(), m.end()) for m in _REFERENCE.finditer(text)]
    for owner in sorted([*owners, *names(text)], key=lambda span: span.start):
        match = _POSSESSED.match(text, owner.end)
        if match:
            style = _STYLED.search(text, 0, owner.start)
            owner = owner._replace(start=style.start("name") if style else owner.start)
            held = (
                text[owner.start : owner.end] + match.group()[: match.start("mods") - match.start()]
            )
            relation = (match["mods"] + match["rel"]).strip()
            who = re.sub(r"\s*['’]s?\s*$", "", held)
            yield Description(owner.start, match.end(), _ask_role(relation, who))


def _of(text: str, match: re.Match[str]) -> Description | None:
    end = _operand_end(text, match.start(), match.end())
    if end is None or _PLAYED.search(text, 0, match.start()):
        return None
    relation = match.groupdict().get("rel") or match["bare"]
    phrase = text[match.start() : end].strip()
    phrase = f"the {re.sub(r'^the ', '', phrase, flags=re.IGNORECASE)}"
    start = "Who" if is_person(relation) else "What"
    return Description(match.start(), end, f"{start} is {phrase}?")


def _clause(text: str, match: re.Match[str]) -> Description | None:
    end = _clause_end(text, match.start(), match.end(), match["link"].lower())
    clause = text[match.end() : end].strip(" ,")
    broken = re.search(
        r"^(?:what|which|who)\b|\bhow many\b|\bwhich\b", clause
    ) or _NO_NOUN.fullmatch(match["rel"])
    if _REFERENCE.fullmatch(clause) and match["link"].lower() == "where":
        clause = f"{clause} is located"
    if len(clause.split()) < 2 or broken:
        return None
    noun = match.group()[: match.start("link") - match.start()].strip()
    return Description(match.start(), end, ask_clause(noun, match["link"].lower(), clause))


def _reduced(text: str, match: re.Match[str]) -> Description | None:
    operand = _operand_end(text, len(text), match.end())
    verb = _REDUCED_VERB.match(text, operand) if operand else None
    if operand is None or not verb:
        return None
    noun, clause = match.group().strip(), text[match.end() : verb.end()]
    return Description(match.start(), verb.end(), ask_clause(noun, "that", clause))


def _compound(text: str, match: re.Match[str]) -> Description | None:
    if not names(match["name"]) or country_of(match["name"]) or _NO_NAME.search(match["name"]):
        return None
    return Description(match.start(), match.end(), _ask_role(match["rel"], match["name"]))


def _ranked(text: str, match: re.Match[str]) -> Description | None:
    phrase = text[match.start() :].strip()
    if "#" in phrase or len(phrase.split()) > 8:
        return None
    start = "Who" if is_person(phrase) else "What"
    return Description(match.start(), len(text), f"{start} is {phrase}?")


_READERS = (
    (_ROLE_OF, _of), (_CLAUSE, _clause), (_REDUCED, _reduced), (_COMPOUND, _compound),
    (_SUPERLATIVE, _of), (_RANKED, _ranked),
)  # fmt: skip


def _operand_end(text: str, opened: int, start: int) -> int | None:
    """Give where the thing that a relation is 'of' ends: a reference, a quote or a name."""
    for pattern in (_REFERENCE, _QUOTED):
        if match := pattern.match(text, start):
            return match.end()
    if re.match(r"(?:which|what|whom|whose)\b", text[start:]):
        return None
    name = next((name for name in names(text) if name.start >= start), None)
    named = name.end if name and _LEADS.fullmatch(text, start, name.start) else None
    if named is None and (odd := _ODD_NAME.match(text, start)):
        named = odd.end()
    if named is None:
        return None if _REFERENCE.search(text, start) else _clause_end(text, opened, start)
    main = _clause_end(text, opened, named)
    short = len(text[main:].split()) <= 3 and not re.search(
        r"\b(?:is|was|who|that)\b", text[start:main]
    )
    return main if short and main < len(text) else _name_end(text, named)


def _name_end(text: str, end: int) -> int:
    """Give where a name ends, with what is in brackets and the work that it comes from."""
    end = _AFTER_NAME.match(text, end).end()  # type: ignore[union-attr]  # matches the empty text
    if work := _FROM_WORK.match(text, end):
        name = next((name for name in names(text) if name.start >= work.end()), None)
        end = name.end if name and not text[work.end() : name.start].strip(' "“the') else end
    return len(text) if _GOES_ON.fullmatch(text, end) else end


def _clause_end(text: str, opened: int, start: int, link: str = "") -> int:
    """Give where a clause ends: before the main verb that it holds up, else with the question."""
    if (
        link
        and (held := _OWN_VERB.match(text, start))
        and not _STARTS_WITH_VERB.match(text[start:])
    ):
        return held.end("verb")
    before = text[:opened]
    if re.search(r"\b(?:did|does|do|will|can|would)\b", before, re.IGNORECASE):
        main = list(_MAIN_BARE.finditer(text, start))[:1]
    elif _HOLDS_UP.match(before):
        main = list(_MAIN_DONE.finditer(text, start))
        if link:
            main = [m for m in main if _SOME_VERB.search(text, start, m.start())]
        main = [m for m in main if len(text[m.start() :].split()) <= 6][-1:]
    else:
        main = list(_MAIN_ASKED.finditer(text, start))[:1]
    return main[0].start() if main else len(text)


def _ask_role(relation: str, owner: str) -> str:
    return f"{'Who' if is_person(relation) else 'What'} is the {relation} of {owner}?"


_SUBJECT = re.compile(r"(?P<subject>.+?)\s+(?P<be>is|was|are|were|has|had|can)\s+(?P<rest>.+)$")
_PAST = re.compile(
    r"(?P<subject>.+?)\s+(?P<verb>stands|lies|lives|works|plays|rises|died|lived|worked|played"
    r"|studied|attended|grew up|went)"
    r"(?P<rest>.*)$"
)
_BASE = {
    "died": "die", "lived": "live", "worked": "work", "played": "play", "studied": "study",
    "attended": "attend", "grew up": "grow up", "went": "go", "stands": "stand", "lies": "lie",
    "lives": "live", "works": "work", "plays": "play", "rises": "rise",
}  # fmt: skip
_STARTS_WITH_VERB = re.compile(
    r"(?:(?:is|was|are|were|has|had|have|did)\s|\w+(?:ed|s)\s|(?:won|wrote|sang|led|built|made|ran|gave|held"
    r"|became|began|found|drew|sings?|produce|flows?|runs?|lies|fought|shot|sold|bought|took)\s)"
)


def ask_clause(noun: str, link: str, clause: str) -> str:
    """Ask for ``noun`` by its clause: ('the city', 'where', 'X was born') gives 'In which …?'."""
    kind = re.sub(r"^the\s+", "", noun, flags=re.IGNORECASE)
    if link in ("who", "that", "which") and _STARTS_WITH_VERB.match(clause):
        return f"Who {clause}?" if kind == "person" else f"Which {kind} {clause}?"
    where = link == "where" or link.endswith(" which")
    if where or (link in ("that", "which") and not _STARTS_WITH_VERB.match(clause)):
        front = "In" if link == "where" else link.split()[0].capitalize() if where else ""
        asked = _inverted(clause)
        if asked and not (front and asked.split()[-1] in ("in", "of", "on", "at")):
            return _capital(f"{front} which {kind} {asked}?".strip())
    linked = f"{link} " if link else ""
    return f"{'Who' if is_person(kind) else 'What'} is the {kind} {linked}{clause}?"


def _inverted(clause: str) -> str | None:
    if match := _PAST.fullmatch(clause):
        did = "does" if match["verb"].endswith("s") else "did"
        return f"{did} {match['subject']} {_BASE[match['verb']]}{match['rest']}"
    if match := _SUBJECT.fullmatch(clause):
        return f"{match['be']} {match['subject']} {match['rest']}"
    return None


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
