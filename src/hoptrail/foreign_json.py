"""JSON of a foreign server: read strictly, and no deeper than anything it could mean."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable
from typing import NoReturn

MAX_DEPTH = 64

Nest = dict[str, object] | list[object]


class TooDeep(ValueError):
    """It is nested deeper than any answer."""


def read_foreign(data: bytes) -> object:
    """Give the value of a JSON text in UTF-8, with or without a byte order mark.

    Raises:
        TooDeep: see there.
        ValueError: it is no JSON; ``NaN`` and the infinities are none.
    """
    text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    try:
        value: object = _DECODER.decode(text)
    except RecursionError:
        raise TooDeep(f"deeper than {MAX_DEPTH}") from None
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: object) -> None:
    level = _nested([value])
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = _nested(inner for each in level for inner in _members(each))
    raise TooDeep(f"deeper than {MAX_DEPTH}")


def _nested(values: Iterable[object]) -> list[Nest]:
    return [value for value in values if isinstance(value, dict | list)]


def _members(nest: Nest) -> Iterable[object]:
    return nest.values() if isinstance(nest, dict) else nest


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_number)
