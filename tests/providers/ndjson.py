"""Ollama's chat and generate answers, whole and as a stream of lines."""

from __future__ import annotations

from typing import Any

from tests.providers.models import Loaded, go_json, rfc3339
from tests.providers.script import ChatRequest, Reply, count_tokens
from tests.providers.stream import Stream

NDJSON = "application/x-ndjson"
BROKEN = b'{"error":"an error was encountered while running the model: unexpected EOF{key}"}\n'


def document(
    chat: ChatRequest, text: str, extras: dict[str, Any] | None = None, *, done: bool
) -> dict[str, Any]:
    """One object of an answer; the text is where the endpoint puts it, and always there."""
    start = {"model": chat.model, "created_at": rfc3339()}
    if chat.path == "/api/generate":
        return {**start, "response": text, **(extras or {}), "done": done}
    message = {"role": "assistant", "content": text, **(extras or {})}
    return {**start, "message": message, "done": done}


def whole(chat: ChatRequest, reply: Reply, statistics: dict[str, Any]) -> dict[str, Any]:
    """The answer in one piece."""
    return {**document(chat, reply.text, _extras(chat, reply), done=True), **statistics}


def lines(chat: ChatRequest, reply: Reply, statistics: dict[str, Any]) -> Stream:
    """The answer as a stream: thinking, text, tool calls, statistics."""
    extras = _extras(chat, reply)
    calls = extras.pop("tool_calls", None)
    tokens = [go_json(document(chat, token, done=False)) for token in reply.tokens]
    called = {"tool_calls": calls} if calls else {}
    last = called if reply.tool_calls_last else {}
    if called and not last:
        tokens.append(go_json(document(chat, "", called, done=False)))
    return Stream(
        content_type=NDJSON,
        frame=lambda payload: payload + b"\n",
        opening=[go_json(document(chat, "", extras, done=False))] if extras else [],
        tokens=tokens,
        closing=[go_json({**document(chat, "", last, done=True), **statistics})],
        error=BROKEN,
        late_header=True,
    )


def _extras(chat: ChatRequest, reply: Reply) -> dict[str, Any]:
    """Thinking and tool calls; unlike OpenAI's, the arguments are an object."""
    extras: dict[str, Any] = {}
    if reply.reasoning and chat.body.get("think") is not False:
        extras["thinking"] = reply.reasoning
    if reply.tool_calls:
        extras["tool_calls"] = [
            {
                "id": f"call_{index:08d}",
                "function": {"index": index, "name": name, "arguments": dict(arguments)},
            }
            for index, (name, arguments) in enumerate(reply.tool_calls)
        ]
    return extras


def statistics(chat: ChatRequest, reply: Reply, loaded: Loaded, *, kept: int) -> dict[str, Any]:
    """Reason and counts of the last object; what is zero is left out. Times in nanoseconds.

    ``kept`` is what a silent truncation leaves of the prompt, in tokens.
    """
    asked = count_tokens(chat.prompt) if reply.input_tokens is None else reply.input_tokens
    given = len(reply.tokens) if reply.output_tokens is None else reply.output_tokens
    load = loaded.take_load_seconds()
    reading, writing = reply.delay + reply.first_token_delay, reply.pace * given
    counts = {
        "total_duration": int((load + reading + writing) * 1e9) + 1_000_000,
        "load_duration": int(load * 1e9) + 900_000,
        "prompt_eval_count": kept if chat.truncated else asked,
        "prompt_eval_duration": int(reading * 1e9),
        "eval_count": given,
        "eval_duration": int(writing * 1e9),
    }
    told = {name: count for name, count in counts.items() if count}
    return {"done_reason": reply.finish_reason, **told}
