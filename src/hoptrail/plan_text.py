"""The text a model wrote as its plan: which questions it holds, in whatever form it chose.

Asked for ``{"steps": ["Who ...?", "Where was #1 born?"]}``, models of 3-8B answer with that,
with lists of objects, with fences, prose, numbered lines or bullets around it. `items_of` reads
all of them; `ItemStream` reads the two forms that can be trusted before the text has ended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic_core import from_json


@dataclass(frozen=True)
class Item:
    """One entry of a plan as written.

    ``text`` is None where the entry holds no question; ``label`` is the number it gave itself,
    ``needs`` are the labels it says it depends on.
    """

    text: str | None
    label: int | None = None
    needs: tuple[int, ...] = ()


_Reading = tuple[list[Item], str]


def items_of(text: str, first_id: int = 1) -> _Reading:
    """Give the entries of the plan in ``text``, and a sentence on what was wrong with it.

    The forms are tried from the most to the least explicit; no entries when there is no plan.
    A reading that contradicts what `ItemStream` has already given for the same text is not
    taken: early steps stay true.
    """
    early = ItemStream(first_id).feed(text)
    answer = _without_thinking(text)
    for read in (_json_items, _numbered_items, _bullet_items, _question_items):
        found, note = read(answer, first_id)
        if any(item.text for item in found) and found[: len(early)] == early:
            return found, note
    return early, "The text contradicts how it began; only its beginning was kept."


class ItemStream:
    """Reads a plan while it is being written, each character once.

    It knows ``{"steps": ["...`` (or a bare list, fenced or not) and numbered lines
    that ask a question; thinking in front is skipped. At anything else it stops
    for good. What it has given depends on the text alone, never on how the text was cut.
    """

    def __init__(self, first_id: int = 1) -> None:
        self._first_id = first_id
        self._given = 0
        self._tail = ""
        self._at = 0
        self._phase: Callable[[], Iterator[Item | None]] | None = self._opening
        self.gave_up = False

    def feed(self, piece: str) -> list[Item]:
        """Give the entries that this piece of text has closed."""
        found: list[Item] = []
        if self._phase is None:
            return found
        self._tail = self._tail[self._at :] + piece
        self._at = 0
        moved = True
        while moved and self._phase is not None:
            moved = False
            for item in self._phase():
                moved = True
                if item is not None:
                    found.append(item)
                    self._given += 1
        return found

    # A phase yields each item it finds, or None when it only moved on; nothing means that it
    # needs more text.

    def _opening(self) -> Iterator[Item | None]:
        at = self._passed(_BLANK)
        start = self._tail[at : at + len(_THINK)]
        if start == _THINK:
            self._phase = self._thinking
            yield None
        elif start and not _THINK.startswith(start):
            self._phase = self._head if start[0] in "{[`" else self._lines
            yield None

    def _thinking(self) -> Iterator[None]:
        end = self._tail.find(_THOUGHT, self._at)
        if end < 0:
            self._at = max(self._at, len(self._tail) - len(_THOUGHT) + 1)
            return
        self._at = end + len(_THOUGHT)
        self._phase = self._opening
        yield None

    def _head(self) -> Iterator[None]:
        match = _HEAD.match(self._tail, self._at, self._at + _HEAD_LIMIT)
        if match:
            self._at = match.end()
            self._phase = self._strings
            yield None
        elif len(self._tail) - self._at >= _HEAD_LIMIT:
            self._give_up()

    def _strings(self) -> Iterator[Item]:
        while self._passed(_BETWEEN) < len(self._tail):
            if self._tail[self._at] == "]":
                self._phase = None
                return
            match = _STRING.match(self._tail, self._at)
            if match is None:
                if self._tail[self._at] != '"' or len(self._tail) - self._at > _ENTRY_LIMIT:
                    self._give_up()
                return
            item = None
            if len(match[0]) <= _ENTRY_LIMIT:
                item = _quoted_item(match[1], self._given, self._first_id)
            if item is None:
                return self._give_up()
            self._at = match.end()
            yield item

    def _passed(self, pattern: re.Pattern[str]) -> int:
        """Go past what ``pattern`` finds here, which may be nothing, and say where that is."""
        match = pattern.match(self._tail, self._at)
        self._at = match.end() if match else self._at
        return self._at

    def _lines(self) -> Iterator[Item]:
        while (newline := self._tail.find("\n", self._at)) >= 0:
            if newline - self._at > _ENTRY_LIMIT:
                return self._give_up()
            item = _numbered_item(self._tail[self._at : newline])
            if item is None and self._given == 0:
                return self._give_up()
            if item is not None:
                if not _asks(item.text):
                    return self._give_up()
                yield item
            self._at = newline + 1
        if len(self._tail) - self._at > _ENTRY_LIMIT:
            self._give_up()

    def _give_up(self) -> None:
        self._phase = None
        self.gave_up = True


_THINK, _THOUGHT = "<think>", "</think>"
_HEAD_LIMIT = 64
_ENTRY_LIMIT = 4096
"""Longest entry, in characters as written, that is worth waiting for."""

_HEAD = re.compile(
    r'(?:```\w*\s*)?(?:\{\s*"(?:steps|plan|sub_?questions|questions)"\s*:\s*)?\[', re.IGNORECASE
)
_BLANK = re.compile(r"\s*")
_BETWEEN = re.compile(r"[\s,]*")
_STRING = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
_JSON_START = re.compile(r"(?:^|[\n:=.>`]|json)[ \t]*([\[{])")
_JSON_TRIES = 32
_TRAILING_COMMA = re.compile(r",(\s*[\]}])")
_MISSING_COMMA = re.compile(r'(?<=\})\s*(?=\{)|(?<=")\s+(?=["{])')
_DAMAGED = "The plan's JSON was damaged or cut off; what could be read was kept."
_DECODER = json.JSONDecoder(strict=False)

_LIST_KEYS = ("steps", "plan", "subquestions", "questions", "substeps", "decomposition", "tasks")
_TEXT_KEYS = ("question", "subquestion", "text", "query", "step", "task")
_LABEL_KEYS = ("id", "stepid", "number", "step", "index")
_NEEDS_KEYS = ("dependson", "needs", "dependencies", "depends", "requires")
_NESTING = 8

_NUMBERED = re.compile(
    r"[\s>*_#(\[-]*(?:(?:step|hop|sub-?question|question|q|s)\s*)?#?([0-9]{1,3})"
    r"\s*[*_]*[.:)\]–—-][*_.:)\]–—-]*(?:\s+(.*))?$",
    re.IGNORECASE,
)
_BULLET = re.compile(r"\s*[-*•–]\s+(.+)$")
_LABEL = re.compile(r"\W*(?:step|question|[a-z])?\W*([0-9]{1,6})\W*", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![0-9])[0-9]{1,6}(?![0-9])")
_UNUSABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")


def usable(text: str) -> str:
    """Give ``text`` without control characters and lone surrogates, which JSON may smuggle in."""
    return _UNUSABLE.sub("", text).strip()


def tidy(text: str) -> str:
    """Give ``text`` on one line, free of the quotes and emphasis around it."""
    line = " ".join(usable(text).split()).rstrip(",").strip("*_` ")
    if len(line) > 1 and line[0] == line[-1] and line[0] in "\"'":
        line = line[1:-1].strip()
    return line


def _asks(text: str | None) -> bool:
    return bool(text) and text is not None and text.endswith(("?", "？", "؟"))


def _without_thinking(text: str) -> str:
    """Give what comes after the last thinking; thinking that never ends holds no plan."""
    return text.rpartition(_THOUGHT)[2].partition(_THINK)[0]


# JSON


def _json_items(text: str, first_id: int) -> _Reading:
    """Give the entries of the first list that is a plan, or of single objects in a row."""
    singles: list[Item] = []
    at = 0
    for _ in range(_JSON_TRIES):
        start = _JSON_START.search(text, at)
        if start is None:
            break
        value, at, note = _decoded(text, start.start(1))
        entries = _entries(value)
        if isinstance(entries, list):
            items = [_item(entry, place, first_id) for place, entry in enumerate(entries)]
            if any(item.text for item in items):
                return items, note
        elif (item := _item(value, len(singles), first_id)).text:
            singles.append(item)
    return singles, ""


def _decoded(text: str, at: int) -> tuple[object, int, str]:
    """Decode the JSON value at ``at``, where to read on, and a sentence if it was damaged."""
    value: object
    try:
        value, end = _DECODER.raw_decode(text, at)
        return value, end, ""
    except (ValueError, RecursionError):
        sloppy = _MISSING_COMMA.sub(",", _TRAILING_COMMA.sub(r"\1", text[at:]))
    for attempt in (sloppy, sloppy.replace("'", '"') if '"' not in sloppy else ""):
        try:
            return _DECODER.raw_decode(attempt)[0], at + 1, _DAMAGED
        except (ValueError, RecursionError):
            continue
    try:
        return from_json(sloppy.encode(errors="ignore"), allow_partial=True), at + 1, _DAMAGED
    except ValueError:
        return None, at + 1, ""


def _entries(value: object) -> list[object] | None:
    """Give the list of steps in a decoded value, wherever its keys have put it."""
    for _ in range(_NESTING):
        if isinstance(value, list):
            return value
        if not isinstance(value, dict):
            return None
        fields = _fields(value)
        inner = [fields[key] for key in _LIST_KEYS if isinstance(fields.get(key), list | dict)]
        if not inner:
            return _numbered_entries(fields)
        value = inner[0]
    return None


def _numbered_entries(fields: dict[str, object]) -> list[object] | None:
    """Read ``{"1": "Who ...?", "step2": {...}}`` as a list of objects."""
    entries: list[object] = []
    for key, value in fields.items():
        label = _number(key)
        if label is None:
            continue
        if isinstance(value, str):
            entries.append({"id": label, "question": value})
        elif isinstance(value, dict):
            entries.append({"id": label, **value})
    return entries or None


def _item(entry: object, place: int, first_id: int) -> Item:
    if isinstance(entry, str):
        return _string_item(entry, place, first_id)
    if not isinstance(entry, dict):
        return Item(None)
    fields = _fields(entry)
    texts = [fields[key] for key in _TEXT_KEYS if isinstance(fields.get(key), str)]
    labels = [_number(fields[key]) for key in _LABEL_KEYS if key in fields]
    needs = [number for key in _NEEDS_KEYS for number in _numbers(fields.get(key))]
    return Item(
        tidy(str(texts[0])) if texts else None,
        next((label for label in labels if label is not None), None),
        tuple(dict.fromkeys(needs)),
    )


def _string_item(text: str, place: int, first_id: int) -> Item:
    """Read one string of a list; a number in front goes, where it only repeats the position."""
    item = _numbered_item(tidy(text))
    if item is not None and item.label in (place + 1, first_id + place):
        return Item(item.text)
    return Item(tidy(text))


def _quoted_item(raw: str, place: int, first_id: int) -> Item | None:
    try:
        return _string_item(str(_DECODER.decode(f'"{raw}"')), place, first_id)
    except ValueError:
        return None


def _fields(value: dict[object, object]) -> dict[str, object]:
    return {re.sub(r"[^a-z0-9]", "", str(key).lower()): held for key, held in value.items()}


def _number(value: object) -> int | None:
    if isinstance(value, str):
        match = _LABEL.fullmatch(value[:40])
        return int(match[1]) if match else None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**6:
        return value
    return None


def _numbers(value: object) -> list[int]:
    if isinstance(value, str):
        return [int(digits) for digits in _NUMBER.findall(value)]
    entries = value if isinstance(value, list) else [value]
    return [number for number in map(_number, entries) if number is not None]


# Lines


def _numbered_items(text: str, first_id: int) -> _Reading:
    """Give the numbered lines; a number alone takes the next line as its question."""
    items: list[Item] = []
    for line in text.split("\n"):
        item = _numbered_item(line)
        if item is not None:
            items.append(item)
        elif items and not items[-1].text and (rest := tidy(line)):
            items[-1] = Item(rest, items[-1].label)
    return items, ""


def _numbered_item(line: str) -> Item | None:
    match = _NUMBERED.match(line)
    return Item(tidy(match[2] or ""), int(match[1])) if match else None


def _bullet_items(text: str, first_id: int) -> _Reading:
    matches = [_BULLET.match(line) for line in text.split("\n")]
    return [Item(tidy(match[1])) for match in matches if match], ""


def _question_items(text: str, first_id: int) -> _Reading:
    """Give the bare lines that ask something; a single one may be mere chat, so it is none."""
    asked = [Item(line) for line in map(tidy, text.split("\n")) if _asks(line)]
    return (asked if len(asked) > 1 else []), ""
