"""The OpenAI chat shape as the servers behind the router really speak it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.providers.script import ChatRequest, EmbeddingRequest, Reply, count_tokens
from tests.providers.stream import Stream, packed


@dataclass(frozen=True)
class Dialect:
    """One server's way of streaming a chat. ``dataclasses.replace`` makes variations."""

    name: str
    prefix: bytes = b"data: "
    content_type: str = "text/event-stream"
    id: str = "chatcmpl-loopback"
    object: str = "chat.completion.chunk"
    finish_names: dict[str, str] = field(default_factory=dict)
    """This server's own names of finish reasons."""
    usage: str = "asked"
    """Where token counts are: ``finish`` chunk, ``every`` chunk, ``alone`` in a chunk of their
    own, ``asked`` (alone, when the client asked for it), ``absent``."""
    role: str = "every"
    """Where the role is: in ``every`` delta, on the ``first`` one, or in a chunk ``alone``."""
    last_delta: dict[str, Any] = field(default_factory=lambda: {"content": ""})
    """The delta of the finish chunk."""
    tool_pieces: bool = False
    """A tool's name comes in one delta, its arguments in several that follow."""
    joins_last: bool = False
    """The last token and the finish reason come in one chunk."""
    omits_finish: bool = False
    """``finish_reason`` is absent, not null, until the end."""
    done: bytes = b"data: [DONE]\n\n"
    extra: dict[str, Any] = field(default_factory=dict)
    """Additional members of every chunk."""


TGI2_END = {"content": "</s>", "role": "assistant"}
DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect("tgi3", id="", last_delta={"role": "assistant", "content": ""}),
        Dialect(
            "tgi2",
            prefix=b"data:",
            id="",
            object="text_completion",
            finish_names={"stop": "eos_token"},
            last_delta=TGI2_END,
            done=b"",
        ),
        Dialect(
            "together",
            content_type="text/event-stream;charset=utf-8",
            finish_names={"stop": "eos"},
            usage="finish",
            last_delta={"role": "assistant", "content": "", "tool_calls": None},
            extra={"prompt": []},
        ),
        Dialect("fireworks", usage="finish", role="first", last_delta={}),
        Dialect("mistral", usage="finish", role="alone", last_delta={"content": ""}),
        Dialect("cohere", usage="finish", role="alone", last_delta={}),
        Dialect("hyperbolic", usage="every"),
        Dialect("openai", role="alone", last_delta={}, tool_pieces=True),
        Dialect("novita", role="first", joins_last=True, usage="absent"),
        Dialect("sambanova", role="first", usage="absent"),
        Dialect("nebius", role="first", usage="absent", extra={"service_tier": None}),
        Dialect(
            "cerebras",
            usage="finish",
            role="alone",
            last_delta={},
            omits_finish=True,
            done=b'"',
            extra={"system_fingerprint": "fp_cerebras"},
        ),
        Dialect("ollama", role="first", id="chatcmpl-107", last_delta={}),
        Dialect("ollama_old", role="every", id="chatcmpl-107", joins_last=True),
    )
}


def usage_of(chat: ChatRequest, reply: Reply) -> dict[str, int]:
    """Token counts of a call: the reply's own, or words."""
    asked = count_tokens(chat.prompt) if reply.input_tokens is None else reply.input_tokens
    given = len(reply.tokens) if reply.output_tokens is None else reply.output_tokens
    return {"prompt_tokens": asked, "completion_tokens": given, "total_tokens": asked + given}


def finish_of(reply: Reply, dialect: Dialect) -> str:
    """Why the answer ended, in this server's words."""
    if reply.tool_calls and reply.finish_reason == "stop":
        return "tool_calls"
    return dialect.finish_names.get(reply.finish_reason, reply.finish_reason)


def completion(chat: ChatRequest, reply: Reply, dialect: Dialect) -> dict[str, Any]:
    """The answer in one piece."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.reasoning:
        message["reasoning"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = tool_calls(reply)
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": finish_of(reply, dialect),
    }
    return {
        "id": dialect.id,
        "object": "text_completion" if dialect.name == "tgi2" else "chat.completion",
        "created": int(time.time()),
        "model": chat.model,
        "system_fingerprint": "loopback",
        "choices": [choice],
        "usage": usage_of(chat, reply),
    }


def embedding_list(call: EmbeddingRequest, vectors: Any) -> dict[str, Any]:
    """Vectors as ``/v1/embeddings`` answers them: each row says which text it belongs to."""
    shuffled = call.fault is not None and call.fault.kind == "shuffled"
    places = reversed(range(len(vectors))) if shuffled else range(len(vectors))
    rows = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in zip(places, vectors, strict=True)
    ]
    used = sum(map(count_tokens, call.texts))
    usage = {"prompt_tokens": used, "total_tokens": used}
    return {"object": "list", "data": rows, "model": call.model, "usage": usage}


def tool_calls(reply: Reply) -> list[dict[str, Any]]:
    """OpenAI's tool calls: the arguments are a string."""
    return [
        {
            "index": index,
            "id": f"call_{index:08d}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(dict(arguments))},
        }
        for index, (name, arguments) in enumerate(reply.tool_calls)
    ]


def event_stream(chat: ChatRequest, reply: Reply, dialect: Dialect) -> Stream:
    """The answer as server-sent events of this dialect."""
    usage = usage_of(chat, reply)
    chunk = partial(_chunk, _envelope(chat, dialect, usage), dialect)
    deltas = _deltas(reply, dialect)
    finish = finish_of(reply, dialect)
    last = deltas.pop() if dialect.joins_last and deltas else dialect.last_delta
    extra: dict[str, Any] = {"usage": usage} if dialect.usage == "finish" else {}
    if dialect.name == "cerebras":
        extra["time_info"] = {"queue_time": 0.0, "total_time": 0.0, "created": int(time.time())}
    closing = [packed(chunk(last, finish, extra))]
    asked = chat.body.get("stream_options") or {}
    if dialect.usage == "alone" or (dialect.usage == "asked" and asked.get("include_usage")):
        closing.append(packed({**chunk({}, None, {"usage": usage}), "choices": []}))
    if dialect.role == "alone":
        opening = [packed(chunk({"role": "assistant", "content": ""}, None, {}))]
    else:
        opening = []
    error = {"error": {"message": "Request failed during generation{key}", "http_status_code": 424}}
    return Stream(
        content_type=dialect.content_type,
        frame=lambda payload: dialect.prefix + payload + b"\n\n",
        opening=opening,
        tokens=[packed(chunk(delta, None, {})) for delta in deltas],
        closing=closing,
        error=dialect.prefix + packed(error) + b"\n\n" + dialect.done,
        done=dialect.done,
        comment=b": keep-alive\n\n",
    )


def _envelope(chat: ChatRequest, dialect: Dialect, usage: dict[str, int]) -> dict[str, Any]:
    envelope = {
        "id": dialect.id,
        "object": dialect.object,
        "created": int(time.time()),
        "model": chat.model,
        **dialect.extra,
    }
    return {**envelope, "usage": usage} if dialect.usage == "every" else envelope


def _chunk(
    envelope: dict[str, Any],
    dialect: Dialect,
    delta: dict[str, Any],
    finish: str | None,
    extra: dict[str, Any],
) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "delta": delta}
    if finish or not dialect.omits_finish:
        choice["finish_reason"] = finish
    return {**envelope, "choices": [choice], **extra}


def _pieces(call: dict[str, Any]) -> list[dict[str, Any]]:
    """One tool call as OpenAI streams it: only the first piece says whose arguments follow."""
    function = call["function"]
    begun = {**call, "function": {**function, "arguments": ""}}
    parts = [function["arguments"][at : at + 5] for at in range(0, len(function["arguments"]), 5)]
    index = call["index"]
    return [begun, *({"index": index, "function": {"arguments": part}} for part in parts)]


def _deltas(reply: Reply, dialect: Dialect) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = []
    if reply.reasoning:
        deltas.append({"content": "", "reasoning": reply.reasoning})
    deltas += [{"content": token} for token in reply.tokens]
    calls = tool_calls(reply)
    if dialect.tool_pieces:
        deltas += [{"tool_calls": [piece]} for call in calls for piece in _pieces(call)]
    elif calls:
        deltas.append({"content": "", "tool_calls": calls})
    if dialect.role == "every":
        return [{"role": "assistant", **delta} for delta in deltas]
    if dialect.role == "first" and deltas:
        deltas[0] = {"role": "assistant", **deltas[0]}
    return deltas
