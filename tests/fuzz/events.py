"""Chat completions as server-sent events, through the whole Hugging Face backend."""

from __future__ import annotations

from functools import cache

from hoptrail.providers import completions
from hoptrail.providers.huggingface import HuggingFaceBackend
from tests.fuzz.wire import check_body

_DONE = b"data: [DONE]\n\n"
_STOP = ', "finish_reason": "stop"'


def _event(delta: str, rest: str = "") -> bytes:
    return b'data: {"choices": [{"index": 0, "delta": {%s}%s}]}\n\n' % (
        delta.encode(),
        rest.encode(),
    )


WORDS = (
    "data: ", "data:[DONE]\n\n", "\n\n", "\r\n", ": keep-alive\n", "event: error\n",
    '{"choices": [', '{"index": 0, "delta": {', '"content": "', '"role": "assistant"',
    '"finish_reason": "stop"', "}]}",
    '"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}', '{"error": ',
    "null", '{"message": "busy", "code": 503}',
    '"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"', ', "arguments": "{}"}}]',
    "\\ud83d", "\\ude00", "<think>", "</think>", "[]", "\ufeff", '"error_type"',
)  # fmt: skip
_CALL = (
    '"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f",'
    ' "arguments": "{\\"expression\\": \\"1+1\\"}"}}]'
)
_COUNTS = b'{"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}'
SEEDS = (
    b"\2" + _event('"content": "Salz"') + _event('"content": "burg"', _STOP) + _DONE,
    b"\5" + _event('"content": "<think>x</think> Salzburg"') + _event("", _STOP),
    b'\1data: {"error": {"message": "no", "code": 503}}\n\n',
    b"\3" + _event(_CALL) + _event("", _STOP) + _DONE,
    b'\7: comment\r\ndata: {"choices": [], "usage": ' + _COUNTS + b"}\r\n\r\n",
)


@cache
def _backend() -> HuggingFaceBackend:
    return HuggingFaceBackend("a/model", base_url="http://127.0.0.1:9")


def check(data: bytes) -> None:
    """A stream of events is an answer or a typed error, the same however it is cut."""
    check_body(completions, _backend(), data)
