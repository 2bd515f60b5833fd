"""Reading what a model replied: a step's answer, and the final one."""

from __future__ import annotations

import re
from typing import NamedTuple

from pydantic import ValidationError

from hoptrail.errors import InvalidResponse
from hoptrail.loose_json import read_json, without_thinking
from hoptrail.prompts import UNANSWERABLE
from hoptrail.request import StepReply

_LONGEST_PLAIN_ANSWER = 300
_MARK = re.compile(r"\s?\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
_HALF_MARK = re.compile(r"\s*(?:\[[\d,\s]*|<[a-z]*)\Z")
_NO_ANSWER = re.compile(
    r"unknown|unanswerable|none|n/?a|null|no answer"
    r"|(?:i (?:do not|don't) know|no (?:information|evidence|answer (?:is|was|can))|not (?:found"
    r"|mentioned|stated|specified|given|available|provided|enough information)"
    r"|cannot be (?:determined|answered|found)|insufficient (?:information|evidence)"
    r"|(?:the |these )?(?:passages?|documents?|context|text) (?:do(?:es)? not|don't|doesn't) \w+)"
    r"\b.{0,120}",
    re.IGNORECASE | re.DOTALL,
)
"""A bare "unknown" is an abstention, "Unknown Pleasures" is an album."""


class FinalText(NamedTuple):
    """A synthesis, read: the first line is the ``short`` answer.

    ``text`` cites by its own numbers 1, 2, … in order of appearance; ``passages`` holds, for
    each of them, the number of the passage in the prompt.
    """

    short: str
    text: str
    passages: tuple[int, ...]
    abstained: bool


def read_step_reply(text: str, *, backend: str = "model") -> StepReply:
    """Read a step's reply: the JSON form, or a short plain answer with ``[1]`` marks.

    Raises:
        InvalidResponse: neither; it may be asked once more.
    """
    value = read_json(text)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0]
    reply = _from_object(value) if isinstance(value, dict) else _from_plain(text)
    if reply is None:
        raise InvalidResponse(
            f"the reply cannot be read as an answer: {text[:200]!r}", backend=backend
        )
    if not reply.found or not reply.answer or says_nothing(reply.answer):
        return reply.model_copy(update={"found": False, "answer": "", "passages": ()})
    return reply


def says_nothing(answer: str) -> bool:
    """Say whether an answer is an abstention in words ("not mentioned", "I don't know")."""
    return _NO_ANSWER.fullmatch(answer.strip().rstrip(".! ")) is not None


def cited_numbers(text: str) -> tuple[int, ...]:
    """Give the passage numbers marked ``[1]`` or ``[1, 2]`` in a text, each once, in order."""
    numbers = [int(number) for mark in _MARK.findall(text) for number in mark.split(",")]
    return tuple(dict.fromkeys(numbers))


def without_marks(text: str) -> str:
    """Give a text without its ``[1]`` marks."""
    return _MARK.sub("", text).strip()


def read_final(text: str, known: int) -> FinalText:
    """Read a synthesis over passages numbered 1 to ``known``; marks of others are taken out."""
    text = without_thinking(text).strip()
    marker = UNANSWERABLE.rstrip(":")
    if text.upper().startswith(marker):
        missing = without_marks(text[len(marker) :].lstrip(": ")).strip()
        return FinalText("", missing, (), True)
    text, cited = _own_numbers(text, known)
    short = without_marks(text.partition("\n")[0]).strip("*. ")
    if not short or says_nothing(short):
        return FinalText("", without_marks(text), (), True)
    return FinalText(short, text, cited, False)


class FinalStream:
    """A synthesis while it is written, in the words and numbers that `read_final` will give it.

    What may still change is held back: half a mark, white space at the end, and an abstention,
    which is no answer to show.
    """

    def __init__(self, known: int) -> None:
        self._known = known
        self._text = ""
        self._shown = 0

    def feed(self, piece: str) -> str:
        """Take a piece of the model's text; give what can be shown now."""
        self._text += piece
        return self._new(_HALF_MARK.sub("", self._text.rstrip()))

    def rest(self) -> str:
        """Give what was held back, at the end of the text."""
        return self._new(self._text)

    def _new(self, text: str) -> str:
        text = without_thinking(text).strip()
        marker = UNANSWERABLE.rstrip(":")
        if marker.startswith(text.upper()[: len(marker)]):
            return ""
        shown, _ = _own_numbers(text, self._known)
        new, self._shown = shown[self._shown :], len(shown)
        return new


def _own_numbers(text: str, known: int) -> tuple[str, tuple[int, ...]]:
    """Give a text with its marks numbered 1, 2, … and the numbers they had in the prompt."""
    cited = tuple(number for number in cited_numbers(text) if 1 <= number <= known)
    renumbered = {old: new for new, old in enumerate(cited, start=1)}
    return _MARK.sub(lambda mark: _renumbered(mark, renumbered), text).strip(), cited


def _renumbered(mark: re.Match[str], numbers: dict[int, int]) -> str:
    kept = [numbers[old] for old in map(int, mark.group(1).split(",")) if old in numbers]
    space = " " if kept and mark.group(0)[0].isspace() else ""
    return space + "".join(f"[{number}]" for number in kept)


def _from_object(value: dict[str, object]) -> StepReply | None:
    passages = value.get("passages", ())
    numbers = passages if isinstance(passages, list | tuple) else (passages,)
    answer = value.get("answer")
    if answer is None and "found" not in value:
        return None
    if isinstance(answer, list):
        answer = ", ".join(str(item) for item in answer)
    if isinstance(answer, bool):
        answer = "yes" if answer else "no"
    try:
        return StepReply(
            reasoning=str(value.get("reasoning") or ""),
            found=_truth(value.get("found", True)),
            answer="" if answer is None else without_marks(str(answer)),
            passages=tuple(dict.fromkeys(filter(None, map(_number, numbers)))),
        )
    except ValidationError:
        return None


def _from_plain(text: str) -> StepReply | None:
    plain = without_thinking(text).strip()
    if not plain or len(plain) > _LONGEST_PLAIN_ANSWER or plain[0] in "{[":
        return None
    answer = without_marks(re.sub(r"(?i)\A(?:final )?answer:\s*", "", plain))
    return StepReply(answer=answer.rstrip("."), passages=cited_numbers(plain))


def _truth(value: object) -> bool:
    return (
        value.strip().lower() not in ("false", "no", "") if isinstance(value, str) else bool(value)
    )


def _number(value: object) -> int | None:
    digits = re.search(r"\d{1,3}", str(value))
    return int(digits.group()) if digits and not isinstance(value, bool) else None
