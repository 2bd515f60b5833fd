"""Reading what a model replied: a step's answer, and the final one."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from langchain_core.messages import AIMessage, BaseMessage
from pydantic import ValidationError

from hoptrail.characters import whole
from hoptrail.errors import InvalidResponse
from hoptrail.loose_json import read_json, without_thinking
from hoptrail.prompts import UNANSWERABLE
from hoptrail.request import StepReply
from hoptrail.trace import ToolCall

_LONGEST_PLAIN_ANSWER = 300
_LONGEST_TOOL_NAME = 100
_DEEPEST_ARGUMENTS = 20
_MARK = re.compile(
    r"\s?((?:\[[\d,\s]{0,200}+(?=\[))?)"  # with [99] taken out, [9[99]] would become one
    r"\[(?=[\d,\s]{1,200}\])(\d{1,3}(?:\s*,\s*\d{1,3})*)\]"
)
_HALF_MARK = re.compile(r"(?:\[[\d,\s]{0,200}+){1,2}\Z")
"""No mark is longer: what only begins like one is not held back, and looked at, for ever."""
_MARKS_IN_MARKS = 9
_DIGITS = re.compile(r"\d+")  # not int() of what is between commas: it does not take every space
_PICTURE = re.compile(r"!(?=\[)")
_THINKING_TAG = re.compile(r"</?think>", re.IGNORECASE)
_HALF_TAG = re.compile(r"</?[a-z]{0,5}\Z", re.IGNORECASE)
_MARKER = UNANSWERABLE.rstrip(":")
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


def read_tool_calls(message: BaseMessage) -> list[ToolCall]:
    """Give the tools that a model asks to be called; what cannot be read says so."""
    if not isinstance(message, AIMessage):
        return []
    return [
        *(_tool_call(call["name"], call["args"]) for call in message.tool_calls),
        *(_tool_call(call["name"], None) for call in message.invalid_tool_calls),
    ]


def says_nothing(answer: str) -> bool:
    """Say whether an answer is an abstention in words ("not mentioned", "I don't know")."""
    return _NO_ANSWER.fullmatch(answer.strip().rstrip(".! ")) is not None


def cited_numbers(text: str) -> tuple[int, ...]:
    """Give the passage numbers marked ``[1]`` or ``[1, 2]`` in a text, each once, in order."""
    numbers = [int(number) for _, mark in _MARK.findall(text) for number in _DIGITS.findall(mark)]
    return tuple(dict.fromkeys(numbers))


def without_marks(text: str) -> str:
    """Give a text without its ``[1]`` marks, and without any that this would make."""
    for _ in range(_MARKS_IN_MARKS):
        bare = _MARK.sub("", text)
        if bare == text:
            return text.strip()
        text = bare
    return text.translate({ord("["): None, ord("]"): None}).strip()


def read_final(text: str, known: int | None) -> FinalText:
    """Read a synthesis over passages numbered 1 to ``known``; marks of others are taken out.

    With None there were no passages to mark, and ``a[0]`` is no mark: the text stays as it is.
    """
    text = without_thinking(text).strip()
    if text.upper().startswith(_MARKER):
        missing = without_marks(text[len(_MARKER) :].lstrip(": ")).strip()
        return FinalText("", missing, (), True)
    own: dict[int, int] = {}
    text = _inert(_own_numbers(text, known, own), known).strip()
    short = without_marks(text.partition("\n")[0]).strip("*. ")
    if not short or says_nothing(short):
        return FinalText("", without_marks(text), (), True)
    return FinalText(short, text, tuple(own), False)


class FinalStream:
    """A synthesis while it is written, in the words and numbers that `read_final` will give it.

    What may still change is held back: thinking, half a mark, white space at the end, and an
    abstention, which is no answer to show. Each character is read once or twice, however long
    the text is.
    """

    def __init__(self, known: int | None) -> None:
        self._known = known
        self._own: dict[int, int] = {}
        self._thinking = False
        self._raw = ""
        self._text = ""
        self._is_answer = False
        self._has_begun = False
        self._held: list[str] = []

    def feed(self, piece: str) -> str:
        """Take a piece of the model's text; give what can be shown now."""
        self._raw += piece
        self._text += self._outside_thinking()
        if not self._is_answer:
            self._text = self._text.lstrip()
        half = _HALF_MARK.search(self._text)
        certain = self._text[: half.start()] if half else self._text
        # A mark that is taken out takes one space before it along.
        certain = certain[:-1] if certain[-1:].isspace() else certain
        begun = certain[: len(_MARKER)].upper()
        return "" if _MARKER.startswith(begun) and not self._is_answer else self._shown(certain)

    @property
    def withheld(self) -> bool:
        """Whether, at the end of the text, it was an abstention: then nothing was shown."""
        return not self._is_answer

    def rest(self) -> str:
        """Give what was held back, at the end of the text."""
        text = self._text if self._thinking else self._text + self._raw
        abstains = text.lstrip().upper().startswith(_MARKER) and not self._is_answer
        if abstains:
            return ""
        shown = self._shown(text)
        return shown + "".join(self._held).rstrip()

    def _outside_thinking(self) -> str:
        """Take off the raw text all but half a tag at its end; give what is no thinking."""
        outside, start = [], 0
        for tag in _THINKING_TAG.finditer(self._raw):
            closes = tag[0].startswith("</")
            if closes and self._thinking:
                self._thinking, start = False, tag.end()
            elif not (closes or self._thinking):
                self._thinking = True
                outside.append(self._raw[start : tag.start()])
        half = _HALF_TAG.search(self._raw)
        end = half.start() if half else len(self._raw)
        if not self._thinking:
            outside.append(self._raw[start:end])
        self._raw = self._raw[end:]
        return "".join(outside)

    def _shown(self, text: str) -> str:
        """Take a text that is certain; give it but for the white space around the whole.

        Neither for a ``!`` at its end: what follows must not make a picture of it.
        """
        self._is_answer = True
        self._text = self._text[len(text) :]
        own = _own_numbers(text, self._known, self._own)
        own = own if self._has_begun else own.lstrip()
        if not own.strip():
            # In a list: put together, a million spaces would be copied a million times.
            self._held += [own] if self._has_begun else []
            return ""
        own = _inert("".join([*self._held, own]), self._known)
        shown = own[:-1] if own.endswith("!") else own.rstrip()
        self._has_begun, self._held = True, [own[len(shown) :]]
        return shown


def _own_numbers(text: str, known: int | None, own: dict[int, int]) -> str:
    """Give a text with its marks numbered anew; ``own`` holds and takes the new number of each."""
    if known is None:
        return text

    def renumbered(mark: re.Match[str]) -> str:
        cited = [old for old in map(int, _DIGITS.findall(mark[2])) if 1 <= old <= known]
        numbers = [own.setdefault(old, len(own) + 1) for old in cited]
        before = mark[1] if numbers else mark[1] and f"{mark[1]}…"
        space = " " if (numbers or before) and mark[0][0].isspace() else ""
        return space + before + "".join(f"[{number}]" for number in numbers)

    return _MARK.sub(renumbered, text)


def _inert(text: str, known: int | None) -> str:
    """Give an answer from documents without Markdown's pictures: chats load those unasked."""
    return text if known is None else _PICTURE.sub("! ", text)


def _tool_call(name: str | None, arguments: object) -> ToolCall:
    tool = whole(name or "")[:_LONGEST_TOOL_NAME]
    try:
        if not isinstance(arguments, dict) or _nests(arguments, _DEEPEST_ARGUMENTS):
            raise ValueError
        # NaN and the infinities are no JSON: they would not come back from the journal.
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        return ToolCall(tool=tool, error="its arguments are no JSON object that can be read")
    # Escapes in the model's JSON may stand for characters that cannot be stored.
    return ToolCall(tool=tool, arguments=json.loads(whole(text)))


def _nests(value: object, levels: int) -> bool:
    """Say whether a JSON value has more levels than these."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_nests(each, levels - 1) for each in inner)


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
            answer="" if answer is None else _on_one_line(str(answer)),
            passages=tuple(dict.fromkeys(filter(None, map(_number, numbers)))),
        )
    except ValidationError:
        return None


def _from_plain(text: str) -> StepReply | None:
    plain = without_thinking(text).strip()
    if not plain or len(plain) > _LONGEST_PLAIN_ANSWER or plain[0] in "{[":
        return None
    answer = _on_one_line(re.sub(r"(?i)\A(?:final )?answer:\s*", "", plain))
    return StepReply(answer=answer.rstrip("."), passages=cited_numbers(plain))


def _on_one_line(answer: str) -> str:
    # An answer stands in later prompts: it must not be able to open a line of its own there.
    return _PICTURE.sub("! ", " ".join(without_marks(answer).split()))


def _truth(value: object) -> bool:
    return (
        value.strip().lower() not in ("false", "no", "") if isinstance(value, str) else bool(value)
    )


def _number(value: object) -> int | None:
    digits = re.search(r"\d{1,3}", str(value))
    return int(digits.group()) if digits and not isinstance(value, bool) else None
