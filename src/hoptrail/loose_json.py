"""JSON the way language models write it: fenced, with prose around it, cut short."""

from __future__ import annotations

import re

from pydantic_core import from_json

from hoptrail.characters import whole

MAX_CHARACTERS = 1_000_000
"""Longer texts are not looked at: no reply of a model is a megabyte."""

_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```(?:json|JSON)?\s*(.*?)(?:```|\Z)", re.DOTALL)


def without_thinking(text: str) -> str:
    """Give the text without ``<think>`` blocks; one that never closes runs to the end."""
    return _THINKING.sub("", text)


def read_json(text: str) -> object | None:
    """Give the first JSON object or list in a text, completed where it was cut, or None."""
    text = without_thinking(whole(text[:MAX_CHARACTERS]))
    fenced = _FENCE.search(text)
    for candidate in (fenced.group(1) if fenced else "", text):
        value = _first_value(candidate)
        if value is not None:
            return value
    return None


def _first_value(text: str) -> object | None:
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    for start in sorted(starts):
        value = _value_at(text, start)
        if isinstance(value, dict | list) and value:
            return value
    return None


def _value_at(text: str, start: int) -> object | None:
    closing = "}" if text[start] == "{" else "]"
    end = text.rfind(closing) + 1
    for piece in (text[start:end], text[start:]):
        try:
            value: object = from_json(piece, allow_partial=True)
        except (ValueError, RecursionError):
            continue
        return value
    return None
