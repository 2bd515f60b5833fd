"""What a model replied: JSON with prose around it, a step's answer, and the final one."""

from __future__ import annotations

from hoptrail.errors import InvalidResponse
from hoptrail.loose_json import read_json, without_thinking
from hoptrail.reply import FinalStream, cited_numbers, read_final, read_step_reply
from hoptrail.request import StepReply

WORDS = (
    '{"found": true, "answer": "', '", "passages": [1, 2]}', '"reasoning": ', "```json\n", "```",
    "<think>", "</think>", "<THINK", "UNANSWERABLE: ", "Prague", "[1]", " [2]", "[1, 3]", "[9]",
    "[", "]", "[[1]", "1,", "\n\n", "   ", "Answer: ", "false", "null", "NaN", "1e999", "![",
    "(http://a",
)  # fmt: skip
SEEDS = (
    b'\0{"reasoning": "r", "found": true, "answer": "Prague", "passages": [2, 1]}',
    b'\1Sure!\n```json\n[{"answer": ["a", 1, null], "found": "yes", "passages": "[1]"}]\n```',
    b"\2<think>It is [1].</think>\nPrague [3]\n\nKafka [1] was born there [3, 7].\n",
    b"\3UNANSWERABLE: the year of the bridge [1]",
    b"\4Yes [1[9]] and [[1]] [9[8]1]",
)


def check(data: bytes) -> None:
    """Any text is an answer, an abstention or a refusal, and cites only what there is."""
    known, size = (data[0] % 5, 1 + data[0] // 5 % 7) if data else (0, 1)
    text = data[1:].decode("utf-8", "replace")
    value = read_json(text)
    assert value is None or isinstance(value, dict | list)
    assert "<think>" not in without_thinking(text).lower()
    _check_step(text)
    final = read_final(text, known)
    assert all(1 <= number <= known for number in final.passages)
    assert set(cited_numbers(final.text)) <= set(range(1, len(final.passages) + 1))
    assert final.abstained == (final.short == "")
    assert read_final(text, None).passages == ()
    if not final.abstained:
        assert _streamed(text, known, size) == _streamed(text, known, 1) == final.text


def _check_step(text: str) -> None:
    try:
        reply = read_step_reply(text)
    except InvalidResponse:
        return
    assert reply.found == bool(reply.answer)
    assert len(reply.answer.splitlines()) <= 1
    assert StepReply.model_validate_json(reply.model_dump_json()) == reply


def _streamed(text: str, known: int, size: int) -> str:
    stream = FinalStream(known)
    pieces = [stream.feed(text[at : at + size]) for at in range(0, len(text), size)]
    return "".join([*pieces, stream.rest()])
