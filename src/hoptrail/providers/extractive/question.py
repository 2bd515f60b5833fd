"""A question as the reader sees it: what it wants, what it is about, which words signal it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

from hoptrail.providers.extractive.words import OPENERS, STOP_WORDS, content_stems, names, stem

Wanted = Literal["verdict", "number", "date", "place", "person", "thing"]

_NUMBER = re.compile(
    r"\bhow (?:many|much|long|far|old|tall|big|large|high|deep|wide|often)\b|\bpopulation\b"
    r"|\bpercent(?:age)?\b|\bnumber of\b|\b(?:height|length|area|depth) of\b",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"^(?:[\w,]+ )?when\b|\bwhen (?:was|were|did|is)\b|\bdate of\b|\binception\b|\bin _{2,}"
    r"|\b(?:what|which) (?:year|date|month|century|decade|day)\b",
    re.IGNORECASE,
)
_PLACE = re.compile(
    r"\bwhere\b|\b(?:what|which) (?:\w+ )?(?:country|city|state|town|village|region|island"
    r"|continent|county|province|district|place|location|river|lake|sea|ocean)\b"
    r"|\b(?:capital|seat|birthplace|hometown|headquarters|location|county|river|territorial entity"
    r"|place of|country of|shares? borders? with|work location|>> country)\b"
    r"|>> located",
    re.IGNORECASE,
)
_PERSON = re.compile(
    r"\bwho(?:m|se|'s)?\b|\b(?:spouse|husband|wife|father|mother|child|son|daughter|sibling|brother"
    r"|sister|performer|director|author|composer|founded by|founder|screenwriter|cast member"
    r"|creator|producer|employer|writer|inventor|architect|painter|designer|singer"
    r"|discoverer|president|mayor|student of|lyrics by)\b",
    re.IGNORECASE,
)
_VERDICT = re.compile(
    r"^(?:is|are|was|were|do|does|did|has|have|had|can|could|will)\b(?!.*\bor\b)", re.IGNORECASE
)
_HEAD = re.compile(
    r"\b(?:which|what|name (?:the|one|an?))\s+(?:of the\s+)?((?:[\w-]+\s+){0,4}?[\w-]+)\s+"
    r"(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|that|which|who|where|in|of"
    r"|to|from|on|by|for|with|\w+s|\w+ed|shares?|ran|gave|won|wrote|made|held|led|began|became)\b",
    re.IGNORECASE,
)
_HEAD_OF = re.compile(
    r"\b(?:what|who) (?:is|was|are|were)\s+the\s+(?:name of the )?((?:[\w-]+\s+){0,3}?[\w-]+)\s+"
    r"(?:of|for|that|which|who|where|in|on|at|to)\b",
    re.IGNORECASE,
)
_RELATION = re.compile(r"#?>>\s*(.+)$")

_SIGNALS = """
born birth birthplace hometown: born birth birthplace native
die died death dead: died death dead killed buried drowned
buried: buried grave tomb cemetery
composer composed compose: composer composed music score wrote written opera symphony
author wrote writer written write book: author wrote written writer novel book published poem
director directed direct: directed director film
screenwriter screenplay: written screenplay wrote writer
producer produced: produced producer production built made manufactured
performer singer sang sings sing artist band: sang singer song album band performed recorded single
spouse husband wife married marry: married wife husband spouse marriage widow
father parent dad: father son daughter child
mother mom: mother son daughter child
child children son daughter: son daughter child father mother
sibling brother sister: brother sister sibling twin
played plays play portrayed portrays: played plays portrayed role voiced starring actor actress
actor actress voice voices cast: played portrayed role voiced voice starring actor actress stars
founder founded established: founded founder established formed created began opened
inception formed start started created: founded founder established formed created began opened
owner owned owns: owned owner bought acquired
manufacturer made makes: made built manufactured produced
publisher published: published publisher released
developer developed: developed developer
headquarters headquartered seat: headquarters headquartered based seat
capital: capital seat
country nation citizenship nationality: country nation republic kingdom
located location lies lie situated: located lies situated stands
county state province district territorial: county state province district
river runs flows run flow stream: river flows runs stream crosses
mouth empties: flows mouth empties
border borders: border borders bordered neighbouring
employer employed works worked: worked works professor employed
educated education alma: educated graduated attended studied university college school
school university: educated graduated attended studied university college school
attend study studied: educated graduated attended studied university college school
label record: label records signed
genre: genre style
award prize won win awarded: won awarded prize award received
language languages spoken speak: language speaks spoken
religion: church religion religious
population people inhabitants live: population inhabitants people residents
discovered discoverer found: discovered discoverer found
invented inventor: invented inventor patented
designed designer architect: designed designer architect
painter painted: painted painter painting
member team club played: played club team member player
position office: served minister president mayor
president leader head chairman: president leader chairman head
part: part belongs division
named namesake: named honour honor after
built constructed construction completed opened open: built constructed completed opened
released release came: released release published premiered
length long: long length
height tall high: high tall height rises reaches peak summit
spouse: married
aired air debut: aired premiered premiere
character: character role
conquered: conquered conquest
"""


def _read_signals(table: str) -> dict[str, frozenset[str]]:
    signals: dict[str, set[str]] = {}
    for line in table.strip().splitlines():
        asked, _, said = line.partition(":")
        for word in asked.split():
            signals.setdefault(stem(word), set()).update(stem(each) for each in said.split())
    return {word: frozenset(said) for word, said in signals.items()}


SIGNALS = _read_signals(_SIGNALS)
"""For the stem of a question's word, the stems that say the same in a text."""


class Question(NamedTuple):
    """A question taken apart; words are stems.

    ``head`` is the kind of thing asked for ('river' in 'Which river…'), ``names`` the things
    it is about.
    """

    text: str
    wants: Wanted
    head: str
    words: frozenset[str]
    names: tuple[str, ...]

    @property
    def asks_country(self) -> bool:
        """Whether a country, or what comes from one, is an answer."""
        return not self.words.isdisjoint(("country", "nationality", "citizenship", "nation"))


@lru_cache(maxsize=1024)
def analysed(text: str) -> Question:
    """Take a question apart."""
    plain = " ".join(text.replace(">>", " >> ").split()).strip()
    return Question(
        text=plain,
        wants=_wanted(plain),
        head=_head(plain),
        words=frozenset(content_stems(plain)),
        names=_named(plain),
    )


def _wanted(text: str) -> Wanted:
    if _VERDICT.search(text):
        return "verdict"
    relation = _RELATION.search(text)
    asked = f">> {relation.group(1)}" if relation else text
    if re.match(r"who\b", asked, re.IGNORECASE):
        return "person"
    if _NUMBER.search(asked):
        return "number"
    if _DATE.search(asked):
        return "date"
    if _PLACE.search(asked):
        return "place"
    return "person" if _PERSON.search(asked) else "thing"


def _head(text: str) -> str:
    match = _HEAD_OF.search(text) or _HEAD.search(text)
    if not match:
        return ""
    words = [word for word in match.group(1).lower().split() if word not in STOP_WORDS]
    return stem(words[-1]) if words else ""


def _named(text: str) -> tuple[str, ...]:
    """Give the names of a question; 'Dublin in Germany' is two."""
    spans = (span for span in names(text) if not _only_opens(text, span.start))
    return tuple(
        name for span in spans for name in re.split(r"\s(?:in|on|to|for|and)\s", span.text)
    )


def _only_opens(text: str, start: int) -> bool:
    """Whether the word at ``start`` is capitalised only because the question begins there."""
    return start == 0 and text.split(None, 1)[0].lower() in OPENERS
