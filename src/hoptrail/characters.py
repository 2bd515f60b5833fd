"""Whole characters: text that can be stored and sent; and whole words, to be found in one."""

from __future__ import annotations

import re

_LATIN = "[0-9a-zß-ɏ]"
"""What a word goes on with; scripts that set no spaces between words have no such ends."""


def whole(text: str) -> str:
    """Give a text in which each half of a surrogate pair that stands alone is ``U+FFFD``.

    Python lets such halves into a text (from JSON escapes, from file names that are not UTF-8),
    but neither SQLite, nor JSON in UTF-8, nor a request can carry them.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def has_words(text: str, words: str) -> bool:
    """Say whether a text contains some words in a row, whole and in any case."""
    return whole_words(words).search(text.casefold()) is not None


def whole_words(words: str) -> re.Pattern[str]:
    """Give the pattern of some words in a row, whole, in a case-folded text."""
    return re.compile(rf"(?<!{_LATIN}){re.escape(words.casefold())}(?!{_LATIN})")
