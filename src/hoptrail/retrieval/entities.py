"""The names a passage mentions: capitalised phrases, and its own title.

A capital is any upper-case letter of Unicode ("Émile", "Øresund"). Titles are not searched for in
running text: that finds no more, and makes hubs of titles such as "The End".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator
from functools import cache

SHORTEST_TITLE = 4
OWN_TITLE_COUNT = 2
LONGEST_NAME = 8
"""Names of more words than this are not looked for in a question."""

_PARENTHESIS = re.compile(r"\([^()]*\)\s*+$")
_AND = re.compile(r"(?<=\s)(?:and|&)\s+")
_POSSESSIVE = re.compile(r"['’]s\s")
_PUNCTUATION = re.compile(r"[\"“”‘`,.]")

_CONNECTORS = "of|the|de|and|for|in|von|van|la|le|du|del|al|bin|&"

_OPENING_WORDS = (
    "a an the this that these those he she it they we you i his her hers its their theirs our your "
    "my who whom whose which what when where why how in on at by for from with of to into as after "
    "before during since until while although though because if but and or nor so yet then there "
    "here also however is are was were do does did has have had can could may will would"
)
_OPENERS = frozenset(_OPENING_WORDS.split())
"""Words that are capitalised because a sentence opens with them."""


@cache
def _phrase() -> re.Pattern[str]:
    """Compile the pattern of a capitalised phrase: ``Ministry of the Interior``, ``Apollo 11``."""
    capitals = "".join(
        letter for letter in map(chr, range(0x10000)) if letter.isupper() or letter.istitle()
    )
    rest = r"(?:[\w'’-]|\.(?=\w))*"
    word = rf"(?<!\w)[{capitals}]{rest}"
    return re.compile(rf"{word}(?:\s+(?:(?:{_CONNECTORS})\s+){{0,2}}(?:{word}|\d{rest}))*")


def canonical(name: str) -> str:
    """Give the form in which two spellings of a name meet, possibly empty."""
    name = _PARENTHESIS.sub("", name)
    name = _PUNCTUATION.sub("", name).lower().replace("’", "'").strip().removesuffix("'s")
    return " ".join(name.split())


def phrases(text: str) -> Iterator[str]:
    """Give the capitalised phrases of a text in canonical form, as often as they occur.

    ``Tom Hanks and Meg Ryan`` gives each of them too, ``Ada's Diary`` also its owner.
    """
    for match in _phrase().finditer(text):
        whole = match.group()
        halves = _AND.split(whole)
        owner = _POSSESSIVE.split(whole, maxsplit=1)
        for part in (whole, *(halves if len(halves) > 1 else ()), *owner[: len(owner) - 1]):
            name = canonical(_without_opener(part))
            if len(name) > 2 and not name.isdigit():
                yield name


def _without_opener(phrase: str) -> str:
    found = phrase.split()
    while found and found[0].lower() in _OPENERS:
        found.pop(0)
    return " ".join(found)


def mentions(title: str, text: str) -> Counter[str]:
    """Count the names that a passage mentions; its own title counts for two more.

    Names within the title count too: a passage on "Stanley, North Dakota" is about both.
    """
    counts = Counter(phrases(text))
    counts.update(phrases(title))
    if own := own_name(title):
        counts[own] += OWN_TITLE_COUNT
    return counts


def own_name(title: str) -> str:
    """Give the name that a title stands for, or "" where it is too short to be one."""
    name = canonical(title)
    return name if len(name) >= SHORTEST_TITLE else ""


def named_in(question: str, known: Container[str]) -> list[str]:
    """Give the known names in a question, longest match first, none overlapping another.

    A single word counts only if it has more than three letters and is capitalised, unless
    nothing in the question is; the first word's capital says nothing.
    """
    spelled = [word for word in question.split() if _bare(word)]
    bare = [_bare(word) for word in spelled]
    typed_lower = question == question.lower()
    free = [True] * len(bare)
    found = []
    for size in range(min(LONGEST_NAME, len(bare)), 0, -1):
        for start in range(len(bare) - size + 1):
            span = slice(start, start + size)
            name = " ".join(bare[span])
            if not all(free[span]) or name not in known:
                continue
            if size > 1 or _says_something(name, spelled[start], start, typed_lower):
                free[span] = [False] * size
                found.append(name)
    return found


def _says_something(name: str, spelled: str, position: int, typed_lower: bool) -> bool:
    if len(name) <= 3 or name in _OPENERS:
        return False
    return typed_lower or (position > 0 and spelled.lstrip("\"'“‘(")[:1].isupper())


def _bare(word: str) -> str:
    return canonical(word.strip("?!.,;:()[]\"'“”‘’")) or ("&" if word == "&" else "")
