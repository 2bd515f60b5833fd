"""Whole characters: text that can be stored and sent."""

from __future__ import annotations


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
