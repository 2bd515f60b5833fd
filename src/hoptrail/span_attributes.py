"""Span attributes: what a span tells of a run, a step, a call, under the names others look for.

Two families stand on the same span, and do not collide: those of OpenTelemetry's GenAI
conventions (https://github.com/open-telemetry/semantic-conventions-genai, schema 1.42.0; all of
them in development, so that this is the one place that names them) and those of OpenInference
(https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md, as in
openinference-semantic-conventions 0.1.42). What neither has a name for is ``hoptrail.*``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from hoptrail.characters import whole
from hoptrail.secrecy import Secrets
from hoptrail.trace import (
    Attempt,
    Call,
    Message,
    StepTrace,
    ToolCall,
    ToolUse,
    Trace,
    TracedEvidence,
)

SCHEMA_URL = "https://opentelemetry.io/schemas/gen-ai/1.42.0"

Value = str | bool | int | float | list[str]
Told = dict[str, Value | None]
"""Attributes; what is None is not told."""

MOST_LISTED = 20
"""Of what OpenInference spreads over numbered names: a span may have 128 attributes in all."""
LONGEST_TEXT = 32_000
_LARGEST = 2**63 - 1
_OTHER = "_OTHER"
_KIND = "openinference.span.kind"
_OPERATION = "gen_ai.operation.name"
_JSON = "application/json"
_TEXT = "text/plain"
_CLASS = re.compile(r"[A-Z]\w*(?=: |$)")
_ERROR_CLASS = re.compile(r"[A-Z]\w*(?:Error|Exception)(?=: |$)")
_PLAIN_NAME = re.compile(r"[\w.-]{1,64}")
_ROLES = {"human": "user", "ai": "assistant"}
_PROVIDERS = {
    "openai-chat": "openai",
    "azure-openai-chat": "azure.ai.openai",
    "anthropic-chat": "anthropic",
    "mistralai-chat": "mistral_ai",
    "groq-chat": "groq",
    "chat-ollama": "ollama",
    "huggingface-chat-wrapper": "huggingface",
}
"""The conventions' names of what LangChain's models call themselves."""


def clean(told: Mapping[str, Value | None]) -> dict[str, Value]:
    """Give attributes that every exporter and every store can take."""
    return {name: _clean(value) for name, value in told.items() if value is not None}


def clean_text(text: str) -> str:
    """Give a text that every store can take: some keep it in a way that ends at a NUL."""
    return whole(text).replace("\0", "\ufffd")


def error_type(error: str) -> str:
    """Give the class of an error that Hoptrail noted as ``Class: message``."""
    found = _CLASS.match(error)
    return found.group() if found else _OTHER


def tool_error_type(error: str) -> str:
    """Give the class of a tool's error, which may be any text."""
    found = _ERROR_CLASS.match(error)
    return found.group() if found else _OTHER


def tool_name(use: ToolUse) -> str:
    """Give the name of a tool; a model may have made it up."""
    return use.tool if _PLAIN_NAME.fullmatch(use.tool) else _OTHER


def is_kept(call: Call) -> bool:
    """Say whether a call was made before this run, or in another one."""
    return call.from_journal or bool(call.from_run)


@dataclass(frozen=True)
class SpanAttributes:
    """Gives the attributes of each kind of span.

    Without ``content`` nothing of what was asked, read, called for or written is told: only ids,
    scores, counts, times, the names of models, tools and backends, and the classes of errors. The
    id of a passage is told, and has the file's name within the folder of documents in it.
    """

    content: bool = False
    secrets: Secrets = field(default_factory=Secrets, repr=False)

    def text(self, text: str) -> str | None:
        """Give a text without what looks like a secret, if texts may be told."""
        if not self.content:
            return None
        shown = self.secrets.masked(whole(text))
        return shown if len(shown) <= LONGEST_TEXT else f"{shown[: LONGEST_TEXT - 1]}…"

    def run(self, trace: Trace) -> Told:
        """Tell of a whole run."""
        usage, change = trace.usage, trace.change
        return {
            _OPERATION: "invoke_workflow",
            "gen_ai.workflow.name": trace.graph,
            _KIND: "CHAIN",
            **_session(trace),
            "hoptrail.run_id": trace.run_id,
            "hoptrail.parent_run_id": trace.parent_run_id or None,
            "hoptrail.change.step": change.step if change else None,
            "hoptrail.status": trace.status,
            "hoptrail.stop_reason": trace.stop_reason or None,
            "hoptrail.abstained": trace.abstained,
            "hoptrail.degraded": trace.degraded,
            "hoptrail.model_policy": trace.model_policy or None,
            "hoptrail.plan.source": trace.plan.source if trace.graph == "multi-hop" else None,
            "hoptrail.usage.llm_calls": usage.llm_calls,
            "hoptrail.usage.input_tokens": usage.input_tokens,
            "hoptrail.usage.output_tokens": usage.output_tokens,
            **self._values(trace.question, trace.answer),
        }

    def plan(self, calls: Sequence[Call]) -> Told:
        """Tell of one making, or one change, of a plan."""
        return {
            _OPERATION: "plan",
            "gen_ai.agent.name": "hoptrail",
            _KIND: "CHAIN",
            "hoptrail.purpose": calls[0].purpose,
        }

    def step(self, step: StepTrace, *, voided: bool) -> Told:
        """Tell of a step."""
        return {
            _KIND: "CHAIN",
            "hoptrail.step.id": step.id,
            "hoptrail.step.round": step.round,
            "hoptrail.step.given": step.given or None,
            "hoptrail.step.voided": voided or None,
            "hoptrail.step.planned_ms": step.planned_ms,
            "hoptrail.status": step.status,
            "hoptrail.degraded": step.degraded,
            "hoptrail.from_run": step.from_run or None,
            "hoptrail.citations": len(step.citations),
            **self._values(step.asked or step.question, step.answer),
        }

    def node(self, node: str, name: str, parents: Sequence[str]) -> Told:
        """Tell where a span stands in the graph; OpenInference knows one parent of a node."""
        return {
            "graph.node.id": node,
            "graph.node.name": name,
            "graph.node.parent_id": parents[0] if parents else None,
            "hoptrail.depends_on": list(parents) if parents else None,
        }

    def retrieval(self, step: StepTrace, found: Sequence[TracedEvidence], documents: str) -> Told:
        """Tell of what was searched and found for a step."""
        listed: Told = {}
        for at, item in enumerate(found[:MOST_LISTED]):
            prefix = f"retrieval.documents.{at}.document."
            listed[f"{prefix}id"] = item.passage.id
            listed[f"{prefix}score"] = _number(item.score)
            listed[f"{prefix}metadata"] = _written(self._metadata(item))
            listed[f"{prefix}content"] = self.text(item.passage.text)
        return {
            **listed,
            _OPERATION: "retrieval",
            _KIND: "RETRIEVER",
            "gen_ai.data_source.id": self.text(documents) or None,
            "gen_ai.retrieval.query.text": self.text(step.asked or step.question),
            "gen_ai.retrieval.documents": _written([self._document(item) for item in found]),
            "hoptrail.retrieval.mode": step.retrieval_mode or None,
            "hoptrail.retrieval.cited": sum(item.cited for item in found),
            "hoptrail.embedding_space": step.embedding_space or None,
            "input.value": self.text(step.asked or step.question),
        }

    def call(self, call: Call, trace: Trace) -> Told:
        """Tell of a question put to a model, whichever backends it took to answer it."""
        model, last = model_of(call), _last(call)
        provider = provider_of(call.backend or last.backend)
        return {
            **self._messages(call),
            _OPERATION: "chat",
            _KIND: "LLM",
            **_session(trace),
            "gen_ai.provider.name": provider,
            "llm.provider": provider,
            "gen_ai.request.model": model,
            "gen_ai.response.model": None if call.error else model,
            "llm.model_name": model,
            "gen_ai.response.finish_reasons": [call.finish_reason] if call.finish_reason else None,
            "gen_ai.response.time_to_first_chunk": _first_chunk(call),
            **_usage(call),
            "hoptrail.purpose": call.purpose,
            "hoptrail.backend": call.backend or None,
            "hoptrail.reason": self._reason(call.reason),
            "hoptrail.attempts": len(call.attempts),
            "hoptrail.queued_ms": call.queued_ms,
            "hoptrail.degraded": call.degraded,
            **_server(last),
        }

    def attempt(self, attempt: Attempt) -> Told:
        """Tell of one call to one backend.

        None of the names of a model call is on it: those of the call it belongs to would be
        counted twice.
        """
        return {
            _KIND: "CHAIN",
            "hoptrail.backend": attempt.backend,
            "hoptrail.model": attempt.model or None,
            "hoptrail.reason": self._reason(attempt.reason),
            "hoptrail.outcome": attempt.outcome,
            **_server(attempt),
        }

    def tool(self, use: ToolUse) -> Told:
        """Tell of a call of a tool."""
        given = self.text(_written(use.arguments))
        return {
            _OPERATION: "execute_tool",
            _KIND: "TOOL",
            "gen_ai.tool.name": tool_name(use),
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.arguments": given,
            "gen_ai.tool.call.result": self.text(use.output),
            "tool.name": tool_name(use),
            "tool.parameters": given,
            "hoptrail.kept": use.from_journal or None,
            "hoptrail.passage_id": use.passage_id or None,
            **self._values(_written(use.arguments), use.output, _JSON),
        }

    def happening(self, text: str) -> Told:
        """Tell of a warning or a repair."""
        return {"message": self.text(text)}

    def exception(self, kind: str, message: str) -> Told:
        """Tell of a failure, as OpenTelemetry tells of exceptions."""
        return {"exception.type": kind, "exception.message": self.text(message)}

    def _values(self, given: str, taken: str, mime_type: str = _TEXT) -> Told:
        if not self.content:
            return {}
        return {
            "input.value": self.text(given),
            "input.mime_type": mime_type,
            "output.value": self.text(taken),
            "output.mime_type": _TEXT,
        }

    def _messages(self, call: Call) -> Told:
        if not self.content:
            return {}
        prompt = [(_role(each), self.text(each.content)) for each in call.prompt]
        told: Told = {
            "gen_ai.input.messages": _written([_message(role, text) for role, text in prompt]),
            "input.value": prompt[-1][1] if prompt else None,
            "input.mime_type": _TEXT,
        }
        # What was said last is what counts, where a conversation is longer than can be listed.
        for at, (role, text) in enumerate(prompt[-MOST_LISTED:]):
            told[f"llm.input_messages.{at}.message.role"] = role
            told[f"llm.input_messages.{at}.message.content"] = text
        return told | ({} if call.error else self._reply(call))

    def _reply(self, call: Call) -> Told:
        prefix = "llm.output_messages.0.message."
        told: Told = {f"{prefix}role": "assistant", f"{prefix}content": self.text(call.output)}
        parts: list[dict[str, object]] = []
        if call.output:
            parts.append({"type": "text", "content": self.text(call.output)})
        for at, each in enumerate(call.tool_calls[:MOST_LISTED]):
            arguments = self._arguments(each)
            parts.append({"type": "tool_call", "name": each.tool, "arguments": arguments})
            told[f"{prefix}tool_calls.{at}.tool_call.function.name"] = each.tool
            told[f"{prefix}tool_calls.{at}.tool_call.function.arguments"] = _written(arguments)
        reason = "tool_call" if call.tool_calls else call.finish_reason or "stop"
        message = {"role": "assistant", "parts": parts, "finish_reason": reason}
        return told | {
            "gen_ai.output.messages": _written([message]),
            "output.value": self.text(call.output),
            "output.mime_type": _TEXT,
        }

    def _arguments(self, call: ToolCall) -> object:
        """Give what a tool was to be called with: not as a text, unless it is too long."""
        written = whole(_written(call.arguments))
        if len(written) > LONGEST_TEXT:
            return self.text(written)
        # JSON knows no Infinity.
        return json.loads(self.secrets.masked_in(written), parse_constant=str)

    def _reason(self, reason: str) -> str | None:
        """Give why a backend was chosen; what another one answered may repeat what was asked."""
        if self.content:
            return self.text(reason) or None
        return reason.partition(" (")[0] or None

    def _metadata(self, item: TracedEvidence) -> dict[str, object]:
        told: dict[str, object] = {"rank": item.rank, "cited": item.cited}
        told["scores"] = {name: _number(score) for name, score in item.scores.items()}
        if self.content:
            told["title"] = self.text(item.passage.title)
            told["source"] = self.text(item.passage.source)
        return told

    def _document(self, item: TracedEvidence) -> dict[str, object]:
        told = {"id": item.passage.id, "score": _number(item.score), **self._metadata(item)}
        return told | ({"content": self.text(item.passage.text)} if self.content else {})


def model_of(call: Call) -> str | None:
    """Give the model of a call: who answered, or who was asked last."""
    return call.model or _last(call).model or None


def provider_of(backend: str) -> str:
    """Give a backend's name as the conventions would have it."""
    return _PROVIDERS.get(backend, backend) or _OTHER


def _last(call: Call) -> Attempt:
    return call.attempts[-1] if call.attempts else Attempt(backend="")


def _server(attempt: Attempt) -> Told:
    host, _, port = attempt.server.rpartition(":")
    if not (host and port.isdecimal()):
        return {}
    return {"server.address": host, "server.port": int(port)}


def _session(trace: Trace) -> Told:
    thread = trace.thread_id or None
    return {"session.id": thread, "gen_ai.conversation.id": thread}


def _usage(call: Call) -> Told:
    """Tell the tokens a call took; those of a kept one were paid, and told, elsewhere."""
    kept = is_kept(call)
    given, written = (0, 0) if kept else (call.input_tokens, call.output_tokens)
    return {
        "gen_ai.usage.input_tokens": given,
        "gen_ai.usage.output_tokens": written,
        "llm.token_count.prompt": given,
        "llm.token_count.completion": written,
        "llm.token_count.total": given + written,
        "hoptrail.tokens_estimated": call.tokens_estimated or None,
        "hoptrail.kept": kept or None,
        "hoptrail.from_run": call.from_run or None,
    }


def _first_chunk(call: Call) -> float | None:
    """Give the seconds until the answer began: attempts count from the start of the call."""
    first = _last(call).first_token_ms
    if first is None and call.first_token_ms is not None:
        first = call.first_token_ms - call.started_ms
    return None if first is None or is_kept(call) else max(first, 0.0) / 1000


def _role(message: Message) -> str:
    return _ROLES.get(message.role, message.role)


def _message(role: str, text: str | None) -> dict[str, object]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _number(value: float) -> float | None:
    return value if isfinite(value) else None


def _clean(value: Value) -> Value:
    match value:
        case str():
            return clean_text(value)
        case bool():
            return value
        case int():
            return max(-_LARGEST, min(_LARGEST, value))
        case float():
            return value if isfinite(value) else 0.0
        case _:
            return list(map(clean_text, value))


def listed(found: Iterable[TracedEvidence], tools: Iterable[ToolUse]) -> list[TracedEvidence]:
    """Give what a search found, without what tools have added to it."""
    added = {use.passage_id for use in tools if use.passage_id}
    return [item for item in found if item.passage.id not in added]
