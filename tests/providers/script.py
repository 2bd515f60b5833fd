"""What was asked of the loopback providers, and what they are to answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.providers.fault import Fault


@dataclass(kw_only=True)
class Call:
    """One request as recorded. Times are ``time.monotonic()`` seconds."""

    backend: str
    path: str
    model: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float = field(default_factory=time.monotonic)
    ended_at: float | None = None
    fault: Fault | None = None
    status: int | None = None
    """The HTTP status that was sent; None when none was."""
    finished: bool = False
    """The whole response was sent, and the client was still there."""
    cancelled: bool = False
    """The client went away first."""


@dataclass(kw_only=True)
class ChatRequest(Call):
    """One chat call."""

    messages: list[dict[str, Any]]
    stream: bool
    options: dict[str, Any]
    """Ollama's ``options``; for Hugging Face all sampling parameters of the body."""
    format: Any = None
    response_format: Any = None
    truncated: bool = False
    """Ollama cut the prompt without telling (only ``prompt_eval_count`` shows it)."""

    @property
    def question(self) -> str:
        """The text of the last user message."""
        users = [m for m in self.messages if m.get("role") == "user"]
        return text_of(users[-1]) if users else ""

    @property
    def prompt(self) -> str:
        """The text of all messages."""
        return "\n".join(text_of(message) for message in self.messages)

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON schema the answer was to obey, whichever way it was sent."""
        if isinstance(self.format, dict):
            return self.format
        wanted = self.response_format or {}
        schema = wanted.get("json_schema", {}).get("schema") or wanted.get("value")
        return schema if isinstance(schema, dict) else None


@dataclass(kw_only=True)
class EmbeddingRequest(Call):
    """One embedding call."""

    texts: list[str]


@dataclass(frozen=True)
class Reply:
    """A chat answer and its pace. All times in seconds."""

    text: str = ""
    reasoning: str = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    """(name, arguments) of each tool to be called."""
    tool_calls_last: bool = False
    """Ollama's native engine: they come in the very line that ends the answer."""
    delay: float = 0.0
    """Before the first byte of the response."""
    first_token_delay: float = 0.0
    token_delay: float = 0.0
    tokens_per_second: float | None = None
    hold: Callable[[], bool] | None = None
    """Stop after ``hold_after`` tokens until this is so: then it is the test that says when."""
    hold_after: int = 0
    finish_reason: str = "stop"
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def tokens(self) -> list[str]:
        """The text, word by word; joined they are the text."""
        return re.findall(r"\s*\S+|\s+$", self.text)

    @property
    def pace(self) -> float:
        """Seconds between two tokens."""
        return 1 / self.tokens_per_second if self.tokens_per_second else self.token_delay


Answer = str | Reply
Respond = Callable[[ChatRequest], Answer]
Script = Answer | Mapping[str, Answer] | Sequence[Answer] | Respond


class UnexpectedRequest(Exception):
    """The script has no answer for this request."""


def scripted(answers: Mapping[str, Answer]) -> Respond:
    """Answer by the first key that occurs in the last user message."""

    def respond(request: ChatRequest) -> Answer:
        for part, answer in answers.items():
            if part in request.question:
                return answer
        raise UnexpectedRequest(f"no answer scripted for: {request.question!r}")

    return respond


def in_turn(answers: Sequence[Answer]) -> Respond:
    """Give the answers one after the other, then refuse."""
    left = iter(answers)

    def respond(request: ChatRequest) -> Answer:
        answer = next(left, None)
        if answer is None:
            raise UnexpectedRequest(f"all {len(answers)} answers were used: {request.question!r}")
        return answer

    return respond


def as_respond(script: Script) -> Respond:
    """Make any kind of script a function of the request."""
    if callable(script):
        return script
    if isinstance(script, Mapping):
        return scripted(script)
    if isinstance(script, str | Reply):
        return lambda _: script
    return in_turn(script)


def echo(request: ChatRequest) -> str:
    """The default answer: the question again, or the smallest document its schema allows."""
    if request.schema is not None:
        return json.dumps(smallest(request.schema, request.schema))
    if request.format == "json" or (request.response_format or {}).get("type") == "json_object":
        return json.dumps({"answer": request.question})
    return f"You asked: {request.question}"


def smallest(schema: Any, root: Mapping[str, Any]) -> Any:
    """A small document that a JSON schema allows (the keywords Pydantic writes)."""
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return smallest(target, root)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        if key in schema:
            return schema[key][0]
    union = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if union:
        return smallest(union[0], root)
    return _smallest_of_type(schema, root)


def _smallest_of_type(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    match schema.get("type"):
        case "object":
            parts = schema.get("properties", {})
            return {name: smallest(parts[name], root) for name in schema.get("required", parts)}
        case "array":
            return [smallest(schema["items"], root)] * max(schema.get("minItems", 1), 1)
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
        case "null":
            return None
    return "loopback"


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message, whether its content is a string or a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def count_tokens(text: str) -> int:
    """Words as tokens: no tokenizer is right for every model, and this one is predictable."""
    return len(text.split())
