"""Tokens: how many a text takes, before any model has counted them."""

from __future__ import annotations

WEIGHT_OF_TOKEN = 4
"""The weight of the text that one token stands for, about."""
_ELLIPSIS = "…"


def weight(text: str) -> int:
    """Give the length of a text in characters, each that is not ASCII counted as four.

    English and code take about a token for four characters; what is written in other scripts,
    and emoji, about one for each.
    """
    if text.isascii():
        return len(text)
    plain = len(text.encode("ascii", "ignore"))
    return plain + WEIGHT_OF_TOKEN * (len(text) - plain)


def estimated_tokens(*texts: str) -> int:
    """Give about how many tokens some texts take together."""
    return sum(map(weight, texts)) // WEIGHT_OF_TOKEN


def most_tokens(text: str) -> int:
    """Give a number of tokens that no byte-level tokenizer exceeds for a text: its bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def beginning(text: str, heaviest: int) -> str:
    """Give a text, or as much of its beginning as has at most this weight."""
    kept = text[:heaviest]
    while (heavy := weight(kept)) > heaviest:
        kept = kept[: len(kept) * heaviest // heavy]
    return kept


def cut(text: str, heaviest: int) -> str:
    """Give a text of at most this weight: itself, or its beginning with an ellipsis."""
    if weight(text) <= heaviest:
        return text
    return beginning(text, max(0, heaviest - weight(_ELLIPSIS))).rstrip() + _ELLIPSIS
