"""Everything that can go wrong with a provider, by name.

========== ==================================================================================
group      what a fault of the group does
========== ==================================================================================
CONNECTION breaks off before or inside the header block
STATUS     answers a status other than 200, with a body as real servers send it
BODY       answers 200 with a document that is not what was asked for
TRANSFER   sends a healthy document in a broken way
STREAM     breaks a token stream, ``after`` tokens; a non-stream answer is cut in its middle
VARIATION  looks odd and is healthy: a client must read it
EMBEDDING  answers vectors that must not be used
========== ==================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Vectors = list[list[float]]
HTML = b"<!DOCTYPE html><html><head><title>502</title></head><body>Bad Gateway</body></html>"

CONNECTION = frozenset(
    {
        "reset",
        "close",
        "hang",
        "half_header",
        "half_header_reset",
        "garbage",
        "http_9",
        "huge_header",
        "many_headers",
        "length_and_chunked",
        "negative_length",
    }
)
TRANSFER = frozenset(
    {
        "empty_body",
        "html_200",
        "no_content_type",
        "corrupt_gzip",
        "gzip_bomb",
        "utf16",
        "bom",
        "length_too_long",
        "reset_in_body",
        "infinite_body",
        "dribble",
        "slow_first_byte",
    }
)
STREAM = frozenset(
    {
        "stream_reset",
        "stream_close",
        "stream_end",
        "stream_stall",
        "empty_stream",
        "role_only",
        "error_event",
        "bad_line",
        "line_reset",
        "bad_chunk_size",
        "endless_comments",
        "giant_line",
        "endless_tokens",
    }
)
VARIATION = frozenset(
    {"no_done", "done_glued", "data_after_done", "split_utf8", "crlf", "comments"}
)


@dataclass(frozen=True)
class _Error:
    """One row of the table of errors real servers send."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


ERRORS: dict[str, _Error] = {
    "model_not_supported": _Error(
        400,
        {
            "error": {
                "message": "The requested model 'X' is not supported by any provider you have "
                "enabled.",
                "type": "invalid_request_error",
                "param": "model",
                "code": "model_not_supported",
            }
        },
    ),
    "provider_lacks_model": _Error(400, {"error": "Model not supported by provider together"}),
    "bad_token": _Error(401, {"error": "Invalid username or password."}),
    "bad_credentials": _Error(401, {"error": "Invalid credentials in Authorization header"}),
    "unauthorized_empty": _Error(401, b""),
    "out_of_credit": _Error(
        402,
        {
            "error": "You have depleted your monthly included credits. Purchase pre-paid credits "
            "to continue using Inference Providers with $2.00 of free credits a month."
        },
    ),
    "no_permission": _Error(
        403,
        {
            "error": "This authentication method does not have sufficient permissions to call "
            "Inference Providers on behalf of user X"
        },
    ),
    "gated": _Error(
        403,
        {"error": "Access to model X is restricted and you are not in the authorized list."},
        {"X-Error-Code": "GatedRepo"},
    ),
    "model_missing": _Error(404, {"error": "Model X does not exist"}),
    "route_missing": _Error(404, "Not Found"),
    "gone": _Error(
        410,
        {
            "error": "https://api-inference.huggingface.co is no longer supported. Please use "
            "https://router.huggingface.co instead."
        },
    ),
    "too_large": _Error(413, "Failed to buffer the request body: length limit exceeded"),
    "template": _Error(422, {"error": "Template error: unknown", "error_type": "template_error"}),
    "validation": _Error(
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096",
            "error_type": "validation",
        },
    ),
    "deserialize": _Error(
        422,
        "Failed to deserialize the JSON body into the target type: missing field `messages` at "
        "line 1 column 2",
    ),
    "detail": _Error(
        422, {"detail": [{"loc": ["body", "model"], "msg": "field required", "type": "missing"}]}
    ),
    "detail_text": _Error(400, {"detail": "Invalid request"}),
    "object_error": _Error(400, {"object": "error", "message": "Invalid request", "code": 40303}),
    "id_error": _Error(
        400,
        {"id": "oFakeId", "error": {"message": "Invalid request", "type": "invalid_request_error"}},
    ),
    "message": _Error(401, {"message": "Unauthorized", "request_id": "1f2e"}),
    "generation": _Error(
        424, {"error": "Request failed during generation", "error_type": "generation"}
    ),
    "rate_limit": _Error(429, {"error": "Rate limit reached. Please log in or use a HF token"}),
    "hub_rate_limit": _Error(
        429,
        {"error": "We had to rate limit your IP."},
        {
            "RateLimit": '"api";r=0;t=55',
            "RateLimit-Policy": '"fixed window";"api";q=500;w=300',
        },
    ),
    "overloaded": _Error(429, {"error": "Model is overloaded", "error_type": "overloaded"}),
    "server_error_html": _Error(500, HTML, {"content-type": "text/html"}),
    "bad_gateway": _Error(502, HTML, {"content-type": "text/html"}),
    "gateway_timeout": _Error(504, HTML, {"content-type": "text/html"}),
    "loading": _Error(503, {"error": "Model X is currently loading", "estimated_time": 20.0}),
    "scaled_to_zero": _Error(503, "Service Unavailable"),
    "busy": _Error(
        503, {"error": "server busy, please try again.  maximum pending requests exceeded"}
    ),
    "redirect_off_host": _Error(302, b"", {"location": "http://192.0.2.1/v1/chat/completions"}),
    "redirect_loop": _Error(307, b"", {"location": "{path}"}),
    "redirect_file": _Error(302, b"", {"location": "file:///etc/hostname"}),
    "no_content": _Error(204, b""),
    "switching_protocols": _Error(101, b"", {"upgrade": "websocket", "connection": "upgrade"}),
}
"""Error rows by name; each name is also a fault (``Fault("out_of_credit")``)."""


def _with_content(content: bytes) -> Callable[[bytes], bytes]:
    """A mutation that puts raw JSON in the place of the answer's text, or of each vector."""

    def mutate(payload: bytes) -> bytes:
        document = json.loads(payload) if payload[:1] in b"{[" else payload.decode()
        return json.dumps(_marked(document)).encode().replace(b'"@here"', content)

    return mutate


def _marked(document: Any) -> Any:
    """The document of either dialect with a mark where its text or its vectors were."""
    if isinstance(document, list):
        return ["@here" for _ in document]
    if not isinstance(document, dict):
        return document
    marked: dict[str, Any] = {}
    for name, value in document.items():
        if name in ("choices", "data") and isinstance(value, list):
            marked[name] = [_marked(choice) for choice in value]
        elif name in ("message", "delta"):
            marked[name] = _marked(value)
        else:
            marked[name] = "@here" if name in _CONTENT else value
    return marked


_CONTENT = frozenset(["content", "response", "embedding", "embeddings"])


def _without_answer(payload: bytes) -> bytes:
    """The document without its choices, message or vectors."""
    document = json.loads(payload) if payload[:1] == b"{" else {}
    hidden = {"choices", "message", "response", "data", "models", *_CONTENT}
    kept = {name: value for name, value in document.items() if name not in hidden}
    return json.dumps({**kept, "choices": []} if "choices" in document else kept).encode()


def _led_by(member: bytes) -> Callable[[bytes], bytes]:
    """A mutation that puts one more member at the head of a JSON object or list."""

    def mutate(payload: bytes) -> bytes:
        key = b'"n":' if payload[:1] == b"{" else b""
        return payload[:1] + key + member + b"," + payload[1:]

    return mutate


BODY: dict[str, Callable[[bytes], bytes]] = {
    "error_body": lambda _: b'{"error":"Internal error in the upstream provider{key}"}',
    "error_object_body": lambda _: b'{"error":{"message":"upstream failed{key}","code":500}}',
    "error_list": lambda _: b'[{"error":"Internal error in the upstream provider{key}"}]',
    "truncated_json": lambda payload: payload[: len(payload) // 2],
    "garbage_json": lambda _: b"@#$%^ this is no JSON {{{",
    "trailing_garbage": lambda payload: payload + b"}]garbage",
    "nan": _led_by(b"NaN"),
    "null": lambda _: b"null",
    "wrong_type": lambda _: b'"a string where an object was expected"',
    "number": lambda _: b"42",
    "empty_object": lambda _: b"{}",
    "no_choices": _without_answer,
    "content_null": _with_content(b"null"),
    "content_number": _with_content(b"7"),
    "nested_content": _with_content(b"[" * 300 + b"]" * 300),
    "deep_json": lambda _: b"[" * 200_000 + b"]" * 200_000,
    "huge_int": _led_by(b"9" * 200_000),
    "duplicate_keys": lambda payload: (
        payload[:-1] + b',"choices":null,"message":null,"embeddings":null}'
    ),
    "lone_surrogate": _with_content(b'"a\\ud800z"'),
    "nul": _with_content(b'"a\\u0000z"'),
    "lc_envelope": lambda _: (
        b'{"lc":1,"type":"constructor","id":["langchain","schema","messages","AIMessage"],'
        b'"kwargs":{"content":"injected"}}'
    ),
    "bad_utf8": _with_content(b'"a\xff\xfe\x80z"'),
}
"""Mutations of a healthy JSON payload, by name."""


EMBEDDING: dict[str, Callable[[Vectors], Any]] = {
    "too_few": lambda vectors: vectors[:-1],
    "too_many": lambda vectors: [*vectors, vectors[0]],
    "zero": lambda vectors: [[0.0] * len(v) for v in vectors],
    "nan_vectors": lambda vectors: [[float("nan"), *v[1:]] for v in vectors],
    "infinite_vectors": lambda vectors: [[float("inf"), *v[1:]] for v in vectors],
    "null_vectors": lambda vectors: [None for _ in vectors],
    "null_numbers": lambda vectors: [[None, *v[1:]] for v in vectors],
    "wrong_width": lambda vectors: [v[:-1] for v in vectors],
    "mixed_width": lambda vectors: [v[: len(v) - i % 2] for i, v in enumerate(vectors, start=1)],
    "strings": lambda vectors: [[str(x) for x in v] for v in vectors],
    "shuffled": lambda vectors: vectors[::-1],
    "huge_numbers": lambda vectors: [[1e30] * len(v) for v in vectors],
    "empty": lambda vectors: [],
    "empty_vectors": lambda vectors: [[] for _ in vectors],
}
"""Mutations of healthy vectors, by name. ``shuffled`` reverses the order."""

KINDS = frozenset(
    {"status", *CONNECTION, *ERRORS, *BODY, *TRANSFER, *STREAM, *VARIATION, *EMBEDDING}
)


@dataclass(frozen=True)
class Fault:
    """One fault. ``kind`` is a name of the groups above, or ``"status"``.

    ``Fault("status", status=418)`` answers any status; ``envelope`` shapes its body
    (``string``, ``object``, ``text``, ``html``, ``detail``, ``message``, ``empty``) unless
    ``body`` is given (JSON value, text or bytes). ``headers`` are added to every answer.
    """

    kind: str
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    envelope: str = "string"
    message: str = "the loopback provider was told to fail{key}"
    after: int = 0
    """Tokens that are sent before a stream breaks."""
    seconds: float | None = None
    """How long to hang or stall (default: an hour), or to wait before the first byte
    (``slow_first_byte``: a minute) or between two bytes (``dribble``: a second)."""
    size: int = 100_000_000
    """Bytes of ``giant_line`` and of the unpacked ``gzip_bomb``."""
    echo: bool = False
    """Repeat the key that was sent where an error has room for it (``{key}``), as proxies do."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; known: {', '.join(sorted(KINDS))}")

    def error(self, path: str) -> _Error | None:
        """The error answer this fault stands for; None when it is of another kind."""
        row = ERRORS.get(self.kind)
        if self.kind == "status":
            row = _Error(self.status, self.envelope_body())
        if row is None:
            return None
        headers = {**row.headers, **self.headers}
        headers = {name: value.replace("{path}", path) for name, value in headers.items()}
        return _Error(row.status, row.body if self.body is None else self.body, headers)

    def told(self, data: bytes, key: str) -> bytes:
        """The bytes of an error, with the key that was sent in it or without."""
        key = key if self.echo else ""
        escaped = json.dumps(key)[1:-1] if data[:1] in b"{[" or data[:5] == b"data:" else key
        return data.replace(b"{key}", escaped.encode())

    def envelope_body(self) -> Any:
        """The body of a ``status`` fault."""
        shapes: dict[str, Any] = {
            "string": {"error": self.message},
            "object": {"error": {"message": self.message, "type": "api_error", "code": None}},
            "text": self.message,
            "html": HTML,
            "detail": {"detail": self.message},
            "message": {"message": self.message},
            "empty": b"",
        }
        return shapes[self.envelope]
