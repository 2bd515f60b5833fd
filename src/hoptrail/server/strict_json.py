"""JSON read so that nobody after us can read it differently.

Refused are: what is no UTF-8, a byte order mark, ``NaN`` and the infinities, a key that appears
twice, half of a surrogate pair, numbers without end, and depths that are an attack.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Sequence

MAX_DEPTH = 64
_MAX_DIGITS = 400
"""No number anyone means is longer; a float of 309 digits is infinite."""

_HALF = re.compile("[\ud800-\udfff]")


class NotStrict(json.JSONDecodeError):
    """The text is not JSON, or not JSON that everybody reads alike."""

    def __init__(self, why: str, at: int = 0) -> None:
        super().__init__(why, "", at)


def read_strict_json(body: bytes) -> object:
    """Give the value of a JSON text.

    Raises:
        NotStrict: why it cannot be used.
    """
    if body.startswith(codecs.BOM_UTF8):
        raise NotStrict("it begins with a byte order mark")
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotStrict("it is not UTF-8", error.start) from None
    except NotStrict:
        raise
    except json.JSONDecodeError as error:
        raise NotStrict(error.msg[:1].lower() + error.msg[1:], error.pos) from None
    except RecursionError:
        raise NotStrict(f"it is deeper than {MAX_DEPTH}") from None
    _check(value)
    return value


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NotStrict("a key appears twice in one object")
    return found


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NotStrict("a number is too large")
    return value


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise NotStrict("a number is too large")
    return int(text)


def _constant(name: str) -> float:
    raise NotStrict(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_float=_number,
    parse_int=_integer,
    parse_constant=_constant,
)


def _check(value: object) -> None:
    """Look at every text and every depth; no recursion, so that none can exhaust it."""
    left = [(value, 1)]
    while left:
        each, depth = left.pop()
        if isinstance(each, str):
            if not each.isascii() and _HALF.search(each):
                raise NotStrict("a text holds half of a surrogate pair")
        elif isinstance(each, dict | list):
            if depth > MAX_DEPTH:
                raise NotStrict(f"it is deeper than {MAX_DEPTH}")
            inner = [*each, *each.values()] if isinstance(each, dict) else each
            left += [(part, depth + 1) for part in inner]
