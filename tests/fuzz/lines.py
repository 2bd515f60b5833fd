"""Ollama's JSON lines, through the whole Ollama backend."""

from __future__ import annotations

from functools import cache

from hoptrail.providers import chats
from hoptrail.providers.ollama import OllamaBackend
from tests.fuzz.wire import check_body

WORDS = (
    '{"model": "m", ', '"created_at": "2026-01-01T00:00:00Z", ',
    '"message": {"role": "assistant", ', '"content": "', '"thinking": "', '"}', '"done": true',
    '"done": false', '"done_reason": "stop"', "}\n", '"eval_count": 3', '"prompt_eval_count": 5',
    '{"error": "', '"tool_calls": [{"function": {"name": "f"', ', "arguments": {"a": 1}}}]',
    "\\ud83d", "null", "[]", "\r\n", "\ufeff", "<think>", "</think>", "1e999",
)  # fmt: skip
_HEAD = b'{"model": "m", "message": {"role": "assistant", "content": '
_END = _HEAD + b'""}, "done": true, "done_reason": "'
SEEDS = (
    b"\2"
    + _HEAD
    + b'"Salz"}, "done": false}\n'
    + _HEAD
    + b'"burg"}, "done": false}\n'
    + _END
    + b'stop",'
    b' "prompt_eval_count": 5, "eval_count": 3}\n',
    b'\1{"error": "model requires more system memory"}\n',
    b"\4" + _HEAD + b'"<think>x</think>S"}}\n' + _END + b'length"}',
    b"\3"
    + _HEAD
    + b'"", "tool_calls": [{"function": {"name": "calculator", "arguments": {"a": "1+1"}}}]}}\n'
    + _END
    + b'stop"}\n',
)


@cache
def _backend() -> OllamaBackend:
    return OllamaBackend("m", "http://127.0.0.1:9")


def check(data: bytes) -> None:
    """Lines are an answer or a typed error, the same however they are cut."""
    check_body(chats, _backend(), data)
