"""Quantities: the number or point in time that a short answer states, to compare two answers."""

from __future__ import annotations

import re

from hoptrail.providers.extractive.countries import country_of
from hoptrail.providers.extractive.words import content_stems, listed

_MONTHS = listed(
    "january february march april may june july august september october november december"
)
_YEAR = re.compile(r"(?<![\d,.])(\d{3,4})s?(?![\d,.]\d|\d)(?:\s*(BCE?))?")
_OLD_YEAR = re.compile(r"(?<!\d)(\d{1,4})\s*(BCE?|AD|CE)\b")
_CENTURY = re.compile(r"(\d{1,2})(?:st|nd|rd|th)[\s-]century(?:\s*(BCE?))?", re.IGNORECASE)
_DAY = re.compile(r"(?<!\d)(\d{1,2})(?:st|nd|rd|th)?(?!\d)")
_MONTH = re.compile(rf"\b({'|'.join(_MONTHS)})\b", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_METRES = {
    "km": 1e3, "kilometre": 1e3, "kilometer": 1e3, "m": 1.0, "metre": 1.0, "meter": 1.0,
    "mile": 1609.344, "mi": 1609.344, "foot": 0.3048, "feet": 0.3048, "ft": 0.3048,
}  # fmt: skip
_UNIT = re.compile(rf"(?<=[\d\s])({'|'.join(_METRES)})s?(?![\w²])", re.IGNORECASE)
_WORDS = listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen twenty"
)


def quantity(text: str) -> float | None:
    """Give the year (with month and day as its fraction), length in metres, or plain number."""
    for read in (_century, _dated, _number):
        value = read(text)
        if value is not None:
            return value
    return None


def same(one: str, other: str) -> bool:
    """Say whether two answers mean the same thing: 'Finnish' and 'Finland' do."""
    first, second = _meant(one), _meant(other)
    return (
        bool(first & second) if first and second else one.strip().lower() == other.strip().lower()
    )


def _meant(text: str) -> frozenset[str]:
    country = country_of(text) or next(filter(None, map(country_of, re.split(r",\s*", text))), None)
    if country:
        return frozenset({country})
    return frozenset({" ".join(content_stems(part)) for part in re.split(r",\s*", text)})


def _century(text: str) -> float | None:
    match = _CENTURY.search(text)
    if not match:
        return None
    century = int(match[1])
    return -100.0 * century if match[2] else 100.0 * (century - 1)


def _dated(text: str) -> float | None:
    old = _OLD_YEAR.search(text)
    if old:
        return -float(old[1]) if old[2].startswith("B") else float(old[1])
    year = _YEAR.search(text)
    if not year or _UNIT.search(text) or not _bare_or_dated(text, year):
        return None
    month = _MONTH.search(text)
    day = _DAY.search(text.replace(year.group(), " "))
    fraction = _MONTHS.index(month[1].lower()) / 12 if month else 0.0
    return int(year[1]) + fraction + (int(day[1]) / 372 if month and day else 0.0)


def _bare_or_dated(text: str, year: re.Match[str]) -> bool:
    """Whether four digits are a year: alone, or beside a month, or led by in/since/about."""
    rest = text.replace(year.group(), " ").strip(" .,()").lower()
    return not rest or bool(_MONTH.search(text)) or rest in ("in", "since", "about", "c", "around")


def _number(text: str) -> float | None:
    match = _NUMBER.search(text)
    if not match:
        lowered = text.lower().split()
        found = next((word for word in lowered if word in _WORDS), None)
        return float(_WORDS.index(found)) if found else None
    value = float(match.group().replace(",", ""))
    rest = text[match.end() :].lower()
    for word, scale in _SCALES.items():
        if re.match(rf"\s*{word}\b", rest):
            value *= scale
    unit = _UNIT.match(text, match.end()) or _UNIT.match(text, match.end() + 1)
    return value * _METRES[unit[1].lower()] if unit else value
