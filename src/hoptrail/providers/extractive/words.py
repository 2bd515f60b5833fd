"""Words: tokens with their places, stems, stop words, and capitalised names in any script."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

UPPER = "".join(chr(code) for code in range(0x41, 0x2000) if chr(code).isupper())
"""Capital letters of Latin, Greek, Cyrillic and Armenian: `re` knows no Unicode categories."""


def listed(text: str) -> list[str]:
    """Give the words of a table of words."""
    return text.split()


STOP_WORDS = frozenset(
    listed(
        """a about after all also am an and any are as at be because been before being both but
        by can could did do does doing done during each for from further had has have having
        he her here hers him his how i if in into is it its itself just many me more most much
        my no nor not of off on once one only or other our out over own same she should so
        some such than that the their them then there these they this those through to too
        under until up us very was we were what when where which while who whom whose why will
        with would you your s t d ll name called also located"""
    )
)

OPENERS = frozenset(
    listed(
        """a about after all also although among an and any are is can could would as at based
        because before between both but by did do does during each even for from had has have he
        her here his how however if in into is it its later many more most no not of on one once
        only or other over she since so some such than that the their then there these they this
        those through to two under until was we were what when where which while who whom whose
        why with within despite following according originally eventually today meanwhile"""
    )
)
"""Words that are capitalised only because a sentence starts with them."""

KINDS = frozenset(
    listed(
        """river lake sea ocean bay gulf strait mountain mountains mount peak alps island islands
        peninsula desert county state province city town village district street road square park
        college university school academy institute museum library hospital theatre theater hall
        bridge tower castle palace church cathedral abbey airport station railway company
        corporation inc ltd records party league cup award prize medal festival orchestra band
        army navy war battle treaty act court council parliament house film novel symphony opera
        sonata series song album"""
    )
)
"""Common nouns that end a name: 'Tower Bridge' is not meant wherever a bridge is mentioned."""

_TOKEN = re.compile(r"\w+")
_SUFFIX = re.compile(r"(?:ing|ed|es|s|er|or|ion|e)$")


class Token(NamedTuple):
    """A word's stem and where it stands."""

    stem: str
    start: int
    end: int


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Give a lower-cased word without its ending, if more than three letters remain."""
    if word.endswith("ies") and len(word) > 5:
        return word[:-3] + "y"
    short = _SUFFIX.sub("", word)
    return short if len(short) > 3 else word


def tokens(text: str) -> list[Token]:
    """Give the stemmed words of a text, in order."""
    return [
        Token(stem(match.group().lower()), match.start(), match.end())
        for match in _TOKEN.finditer(text)
    ]


def content_stems(text: str) -> list[str]:
    """Give the stems of a text's words that are not stop words, in order."""
    words = (match.group().lower() for match in _TOKEN.finditer(text))
    return [stem(word) for word in words if word not in STOP_WORDS]


MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_WORD = (
    rf"(?!{MONTH}\s+\d)(?:[{UPPER}]\.(?:\s?[{UPPER}]\.)*|(?:St|Mt|Dr|Mr|Mrs|Jr|Sr)\."
    rf"|[{UPPER}]\w*(?:[’'\-–](?!s\b)\w+)*)"
)
_JOIN = (
    r"(?:\s+(?:of|the|de|and|for|in|on|to|von|van|la|le|du|del|della|der|di|da|al|bin|y|&)){1,2}"
)
_NAME = re.compile(rf"(?<!\w){_WORD}(?:(?:{_JOIN})?\s+(?:{_WORD}|\d+(?!\w)))*")
_PART = re.compile(r"\s+(?:of|in|and|for|on|to|the)\s+(?:the\s+)?")


class Span(NamedTuple):
    """A piece of a text and where it stands."""

    text: str
    start: int
    end: int


def names(text: str) -> list[Span]:
    """Give the runs of capitalised words of a text, without capitalised sentence openers."""
    found = []
    for match in _NAME.finditer(text):
        run = match.group()
        while run and run.split(None, 1)[0].lower() in OPENERS:
            run = run.split(None, 1)[1] if " " in run else ""
        if len(run) > 1 and run[0] in _CAPITALS:
            found.append(Span(run, match.end() - len(run), match.end()))
    return found


_CAPITALS = frozenset(UPPER)


def parts(name: Span) -> list[Span]:
    """Give the pieces of a name between its connectors: 'FA Cup in 1898' has two."""
    pieces, last = [], 0
    for match in [*_PART.finditer(name.text), None]:
        end = match.start() if match else len(name.text)
        pieces.append(Span(name.text[last:end], name.start + last, name.start + end))
        last = match.end() if match else end
    return [piece for piece in pieces if len(piece.text) > 1] if len(pieces) > 1 else []
