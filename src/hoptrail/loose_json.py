"""JSON the way language models write it: fenced, with prose around it, cut short."""

from __future__ import annotations

import re
from collections.abc import Iterator
from json import JSONDecoder

from pydantic_core import from_json

from hoptrail.characters import whole

MAX_CHARACTERS = 1_000_000
"""Longer texts are not looked at: no reply of a model is a megabyte."""

_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_OPENING = re.compile(r"[{\[]")
_FENCE = re.compile(r"```(?:json)?\s*", re.IGNORECASE)
_JSON = JSONDecoder()


def without_thinking(text: str) -> str:
    """Give the text without ``<think>`` blocks; one that never closes runs to the end."""
    return _THINKING.sub("", text)


def read_json(text: str) -> object | None:
    """Give the first JSON object or list in a text, completed where it was cut, or None.

    Thinking in front of it and the fence around it are no part of it; what looks like them inside
    of it is.
    """
    for place in _places(whole(text[:MAX_CHARACTERS])):
        value = _first_value(place)
        if value is not None:
            return value
    return None


def _places(text: str) -> Iterator[str]:
    """Give where a value may stand, the likeliest place first."""
    for answer in (_after_thinking(text), without_thinking(text)):
        if fence := _FENCE.search(answer):
            yield answer[fence.end() :]
        yield answer


def _after_thinking(text: str) -> str:
    """Give the text without the thinking that stands before any JSON."""
    before, at = [], 0
    for thinking in _THINKING.finditer(text):
        passed = text[at : thinking.start()]
        if _OPENING.search(passed):
            break
        before.append(passed)
        at = thinking.end()
    return "".join(before) + text[at:]


def _first_value(text: str) -> object | None:
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    for start in sorted(starts):
        for piece in _pieces(text, start):
            value = _value_of(piece)
            if isinstance(value, dict | list) and value:
                return value
    return None


def _pieces(text: str, start: int) -> Iterator[str]:
    """Give what may be the value that starts here: all of it, or what there is of it."""
    try:
        yield text[start : _JSON.raw_decode(text, start)[1]]
        return
    except (ValueError, RecursionError):
        pass  # it was cut, or is no JSON
    for end in (text.find("```", start), text.rfind("}" if text[start] == "{" else "]") + 1):
        if end > start:
            yield text[start:end]
    yield text[start:]


def _value_of(piece: str) -> object | None:
    try:
        value: object = from_json(piece, allow_partial=True)
    except (ValueError, RecursionError):
        return None
    return value
