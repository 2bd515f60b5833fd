"""A run as spans: the tree, the times, the names, and what is kept back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.secrecy import Secrets
from hoptrail.span_attributes import LONGEST_TEXT, MOST_LISTED, SpanAttributes
from hoptrail.spans import Span, span_id_of, spans_of, trace_id_of
from hoptrail.trace import (
    Attempt,
    Call,
    Message,
    PlanTrace,
    StepTrace,
    ToolCall,
    ToolUse,
    Trace,
    Usage,
)
from tests.long_trace import long_trace, running_trace
from tests.planting import planted_trace, text_fields
from tests.sample_trace import KAFKA, QUESTION, evidence, sample_trace

STARTED_NS = 1_795_338_900_000_000_000
MS = 1_000_000
CONTENT = SpanAttributes(content=True)

OPENTELEMETRY = {
    "error.type",
    "exception.type",
    "exception.message",
    "gen_ai.agent.name",
    "gen_ai.conversation.id",
    "gen_ai.data_source.id",
    "gen_ai.input.messages",
    "gen_ai.operation.name",
    "gen_ai.output.messages",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.finish_reasons",
    "gen_ai.response.model",
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.retrieval.documents",
    "gen_ai.retrieval.query.text",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.tool.name",
    "gen_ai.tool.type",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.workflow.name",
    "server.address",
    "server.port",
}
"""Those of semantic-conventions-genai that we use, written a second time."""
OPENINFERENCE = {
    "graph.node.id",
    "graph.node.name",
    "graph.node.parent_id",
    "input.mime_type",
    "input.value",
    "llm.input_messages.#.message.content",
    "llm.input_messages.#.message.role",
    "llm.model_name",
    "llm.output_messages.#.message.content",
    "llm.output_messages.#.message.role",
    "llm.output_messages.#.message.tool_calls.#.tool_call.function.arguments",
    "llm.output_messages.#.message.tool_calls.#.tool_call.function.name",
    "llm.provider",
    "llm.token_count.completion",
    "llm.token_count.prompt",
    "llm.token_count.total",
    "openinference.span.kind",
    "output.mime_type",
    "output.value",
    "retrieval.documents.#.document.content",
    "retrieval.documents.#.document.id",
    "retrieval.documents.#.document.metadata",
    "retrieval.documents.#.document.score",
    "session.id",
    "tool.name",
    "tool.parameters",
}


def tree(spans: Sequence[Span]) -> list[str]:
    """Write the spans as an indented list."""
    depth: dict[str | None, int] = {None: -1}
    lines = []
    for span in spans:
        depth[span.path] = depth[span.parent] + 1
        lines.append("  " * depth[span.path] + span.name)
    return lines


def named(spans: Sequence[Span], name: str) -> Span:
    """Give the one span of a name."""
    (span,) = [span for span in spans if span.name == name]
    return span


def at(spans: Sequence[Span], path: str) -> Span:
    """Give the span of a path."""
    return next(span for span in spans if span.path == path)


def is_tree(spans: Sequence[Span]) -> bool:
    """Say whether each span comes after, and lies within, the one around it."""
    seen: dict[str, Span] = {}
    for span in spans:
        if span.parent is None:
            assert not seen
        else:
            around = seen[span.parent]
            assert around.start_ns <= span.start_ns <= span.end_ns <= around.end_ns
        assert span.path not in seen
        assert 0 <= span.start_ns <= span.end_ns < 2**63
        assert all(span.start_ns <= event.at_ns <= span.end_ns for event in span.events)
        seen[span.path] = span
    return len({span.span_id for span in spans}) == len(spans)


def test_a_run_is_a_tree_of_what_it_did() -> None:
    spans = spans_of(sample_trace())
    assert tree(spans) == [
        "invoke_workflow multi-hop",
        "  plan hoptrail",
        "    chat qwen3:8b",
        "  step 1",
        "    retrieval",
        "    chat qwen3:8b",
        "      attempt huggingface",
        "      attempt ollama",
        "  step 2",
        "    retrieval",
        "    chat qwen3:8b",
        "  chat qwen3:8b",
    ]
    assert is_tree(spans)


def test_the_times_are_those_of_the_run() -> None:
    spans = spans_of(sample_trace())
    times = {
        span.path: ((span.start_ns - STARTED_NS) / MS, (span.end_ns - STARTED_NS) / MS)
        for span in spans
    }
    assert times == {
        "run": (0, 2600),
        "plan/0": (2, 702),
        "plan/0/0": (2, 702),
        "steps/0": (600, 1450),
        "steps/0/retrieval": (600, 650),
        "steps/0/calls/0": (650, 1450),
        "steps/0/calls/0/attempts/0": (650, 770),
        "steps/0/calls/0/attempts/1": (770, 1450),
        "steps/1": (1450, 2000),
        "steps/1/retrieval": (1450, 1500),
        "steps/1/calls/0": (1500, 2000),
        "synthesis/0": (2000, 2600),
    }
    assert at(spans, "steps/0/calls/0").attributes["gen_ai.response.time_to_first_chunk"] == 0.2


def test_a_span_says_what_it_is_in_both_vocabularies() -> None:
    spans = spans_of(sample_trace())
    kinds = [
        (span.attributes.get("gen_ai.operation.name"), span.attributes["openinference.span.kind"])
        for span in spans
    ]
    assert kinds[:8] == [
        ("invoke_workflow", "CHAIN"),
        ("plan", "CHAIN"),
        ("chat", "LLM"),
        (None, "CHAIN"),
        ("retrieval", "RETRIEVER"),
        ("chat", "LLM"),
        (None, "CHAIN"),
        (None, "CHAIN"),
    ]
    told = at(spans, "steps/0/calls/0").attributes
    assert told["gen_ai.provider.name"] == told["llm.provider"] == "ollama"
    assert told["gen_ai.request.model"] == told["gen_ai.response.model"] == "qwen3:8b"
    assert told["llm.model_name"] == "qwen3:8b"
    assert told["gen_ai.usage.input_tokens"] == told["llm.token_count.prompt"] == 400
    assert told["gen_ai.usage.output_tokens"] == told["llm.token_count.completion"] == 20
    assert told["llm.token_count.total"] == 420
    assert told["hoptrail.reason"] == "huggingface was busy"


def test_no_name_is_made_up_in_a_vocabulary_of_others() -> None:
    used = set()
    asked = sample_trace()
    asked.steps[0].calls[0].attempts[0].server = "127.0.0.1:11434"
    for trace in (asked, long_trace(), planted(str)):
        for span in spans_of(trace, CONTENT):
            for told in (span.attributes, *(event.attributes for event in span.events)):
                used |= {re.sub(r"\.\d+\.", ".#.", name) for name in told}
    own = {name for name in used if name.startswith("hoptrail.")} | {"message"}
    assert used - own == OPENTELEMETRY | OPENINFERENCE


def test_documents_have_their_ids_scores_and_whether_they_were_cited() -> None:
    told = at(spans_of(sample_trace()), "steps/0/retrieval").attributes
    scores = {"bm25": 11.2, "dense": 0.71, "fused": 0.033, "graph": 0.18}
    halves = {name: score / 2 for name, score in scores.items()}
    assert json.loads(str(told["gen_ai.retrieval.documents"])) == [
        {"id": "n1", "score": 0.18, "rank": 1, "cited": True, "scores": scores},
        {"id": "p1", "score": 0.09, "rank": 2, "cited": False, "scores": halves},
    ]
    assert told["retrieval.documents.1.document.id"] == "p1"
    assert told["retrieval.documents.1.document.score"] == 0.09
    assert json.loads(str(told["retrieval.documents.1.document.metadata"]))["cited"] is False
    assert told["hoptrail.retrieval.mode"] == "hybrid"
    assert told["hoptrail.embedding_space"] == "local:all-MiniLM-L6-v2:0123456789ab"


def test_the_plan_is_a_graph_with_all_its_edges() -> None:
    trace = long_trace()
    spans = spans_of(trace)
    assert is_tree(spans)
    for place, step in enumerate(trace.steps):
        span = at(spans, f"steps/{place}")
        assert span.attributes["graph.node.id"] == f"step-{step.id}"
        needed = [f"step-{need}" for need in step.depends_on] or ["plan"]
        assert span.attributes["graph.node.parent_id"] == needed[0]
        assert span.attributes["hoptrail.depends_on"] == needed
        linked = [next(each for each in spans if each.path == link.path) for link in span.links]
        assert [each.attributes["hoptrail.step.id"] for each in linked] == step.depends_on
    assert any(len(step.depends_on) > 1 for step in trace.steps)
    nodes = {str(span.attributes.get("graph.node.id")) for span in spans}
    assert {"run", "plan", "synthesis"} <= nodes
    for span in spans:
        assert span.attributes.get("graph.node.parent_id", "run") in nodes


def test_what_the_calls_cost_adds_up_to_what_the_run_cost() -> None:
    trace = long_trace()
    told = [span.attributes for span in spans_of(trace)]
    for name, paid in (
        ("gen_ai.usage.input_tokens", trace.usage.input_tokens),
        ("llm.token_count.completion", trace.usage.output_tokens),
    ):
        assert sum(int(str(each.get(name, 0))) for each in told) == paid > 0


def test_a_kept_call_took_no_time_and_costs_nothing() -> None:
    trace = sample_trace()
    first, second = trace.steps[0].calls[0], trace.steps[1].calls[0]
    first.from_journal = True
    second.from_run, second.from_journal = "another-run", True
    spans = spans_of(trace)
    for step, run in ((0, None), (1, "another-run")):
        span = at(spans, f"steps/{step}/calls/0")
        assert span.start_ns == span.end_ns
        assert span.attributes["gen_ai.usage.input_tokens"] == 0
        assert span.attributes["llm.token_count.total"] == 0
        assert span.attributes["hoptrail.kept"] is True
        assert span.attributes.get("hoptrail.from_run") == run
    assert "attempt huggingface" not in {span.name for span in spans}
    assert is_tree(spans)


def test_a_failed_call_step_and_run_are_errors_of_their_class() -> None:
    trace = sample_trace()
    step, call = trace.steps[0], trace.steps[0].calls[0]
    call.error = step.error = trace.error = "AllBackendsFailed: no backend answered (secret words)"
    step.status = trace.status = "failed"
    call.model = None
    spans = spans_of(trace)
    failed = {span.path: span.error for span in spans if span.error}
    assert failed == {
        "run": "AllBackendsFailed",
        "steps/0": "AllBackendsFailed",
        "steps/0/calls/0": "AllBackendsFailed",
        "steps/0/calls/0/attempts/0": "BackendBusy",
    }
    told = at(spans, "steps/0/calls/0")
    assert told.attributes["error.type"] == "AllBackendsFailed"
    assert told.attributes["gen_ai.request.model"] == "qwen3:8b"
    assert "gen_ai.response.model" not in told.attributes
    assert [(each.name, each.attributes) for each in told.events] == [
        ("exception", {"exception.type": "AllBackendsFailed"})
    ]
    with_content = at(spans_of(trace, CONTENT), "run")
    assert with_content.error_message == trace.error
    assert with_content.events[-1].attributes["exception.message"] == trace.error


def test_attempts_are_told_where_there_is_something_to_tell() -> None:
    attempts = [Attempt(backend="ollama", outcome="ok", ms=5)]
    trace = sample_trace()
    trace.synthesis[0].attempts = attempts
    assert not any(span.path.startswith("synthesis/0/") for span in spans_of(trace))
    attempts[0].outcome = "running"
    attempts.insert(0, Attempt(backend="huggingface", outcome="BackendUnavailable", ms=3))
    spans = spans_of(trace)
    under_way = at(spans, "synthesis/0/attempts/1")
    assert under_way.end_ns == at(spans, "synthesis/0").end_ns
    assert not under_way.error


def test_a_call_says_which_server_was_asked() -> None:
    trace = sample_trace()
    for attempt, server in zip(
        trace.steps[0].calls[0].attempts, ("router.huggingface.co:443", "::1:11434"), strict=True
    ):
        attempt.server = server
    trace.synthesis[0].attempts = [Attempt(backend="ollama", server="made by hand")]
    spans = spans_of(trace)
    told = {
        span.path: (span.attributes["server.address"], span.attributes["server.port"])
        for span in spans
        if "server.address" in span.attributes
    }
    call = "steps/0/calls/0"
    assert told == {
        f"{call}/attempts/0": ("router.huggingface.co", 443),
        f"{call}/attempts/1": ("::1", 11434),
        call: ("::1", 11434),
    }


def test_models_in_this_process_are_no_client_calls() -> None:
    trace = sample_trace()
    trace.synthesis[0].backend = "extractive"
    spans = spans_of(trace)
    assert at(spans, "synthesis/0").kind == "internal"
    assert at(spans, "plan/0/0").kind == "client"


def test_a_model_that_was_passed_in_has_the_conventions_name_of_its_provider() -> None:
    trace = sample_trace()
    trace.synthesis[0].backend = "openai-chat"
    trace.plan.calls[0].backend = "my-own"
    spans = spans_of(trace)
    assert at(spans, "synthesis/0").attributes["gen_ai.provider.name"] == "openai"
    assert at(spans, "plan/0/0").attributes["gen_ai.provider.name"] == "my-own"


def test_each_change_of_a_plan_is_a_planning_of_its_own() -> None:
    calls = [Call(purpose=purpose, ms=1) for purpose in ("plan", "plan", "revision", "revision")]
    trace = Trace(run_id="r", question="?", plan=PlanTrace(calls=calls))
    assert tree(spans_of(trace)) == [
        "invoke_workflow multi-hop",
        "  plan hoptrail",
        "    chat",
        "    chat",
        "  plan hoptrail",
        "    chat",
        "  plan hoptrail",
        "    chat",
    ]
    nodes = [span.attributes.get("graph.node.id") for span in spans_of(trace)]
    assert [node for node in nodes if node] == ["run", "plan", "plan-2", "plan-3"]


def test_steps_that_were_broken_off_end_where_they_were() -> None:
    trace = sample_trace()
    broken = trace.steps[0].model_copy(update={"finished_ms": None})
    waiting = StepTrace(id=9, question="?", planned_ms=40)
    trace.voided, trace.steps = [broken, waiting], trace.steps[1:]
    spans = spans_of(trace)
    voided = named(spans, "voided step 1")
    assert (voided.start_ns - STARTED_NS, voided.end_ns - STARTED_NS) == (600 * MS, 1450 * MS)
    assert voided.attributes["hoptrail.step.voided"] is True
    never = named(spans, "voided step 9")
    assert never.start_ns == never.end_ns == STARTED_NS + 40 * MS
    assert is_tree(spans)


def test_a_run_still_going_is_told_as_far_as_it_is() -> None:
    trace = running_trace()
    spans = spans_of(trace)
    assert is_tree(spans)
    under_way = [step.id for step in trace.steps if step.status == "running"]
    assert under_way
    for step_id in under_way:
        assert named(spans, f"step {step_id}").end_ns == spans[0].end_ns


def test_a_tool_is_told_and_what_it_found_is_no_document() -> None:
    trace = sample_trace()
    trace.steps[0].tools = [
        ToolUse(tool="calculator", output="12", passage_id="tool:calculator:1.1", started_ms=700),
        ToolUse(tool="made up by a model", error="there is no tool of this name", started_ms=800),
        ToolUse(tool="raiser", error="ValueError: not that", started_ms=800, ms=10),
    ]
    computed = evidence(KAFKA.model_copy(update={"id": "tool:calculator:1.1"}), 3, cited=True)
    trace.steps[0].evidence.append(computed)
    spans = spans_of(trace)
    names = [span.name for span in spans if span.name.startswith("execute_tool")]
    assert names == ["execute_tool calculator", "execute_tool _OTHER", "execute_tool raiser"]
    errors = [span.error for span in spans if span.name.startswith("execute_tool")]
    assert errors == ["", "_OTHER", "ValueError"]
    told = at(spans, "steps/0/retrieval").attributes
    assert "tool:calculator" not in str(told)


def test_a_step_that_searched_nothing_has_no_retrieval() -> None:
    trace = sample_trace()
    trace.steps[0].evidence, trace.steps[0].retrieval_mode = [], "none"
    trace.steps[1].evidence = []
    assert [span.path for span in spans_of(trace) if span.name == "retrieval"] == [
        "steps/1/retrieval"
    ]


# Identity


def test_a_run_that_is_told_twice_is_told_alike() -> None:
    assert spans_of(sample_trace()) == spans_of(sample_trace())


def test_runs_have_nothing_in_common() -> None:
    other = sample_trace().model_copy(update={"run_id": "another"})
    ids = [{(each.trace_id, each.span_id) for each in spans_of(t)} for t in (sample_trace(), other)]
    assert not ids[0] & ids[1]


def test_the_parts_of_a_resumed_run_are_told_beside_each_other() -> None:
    first, later = sample_trace(), sample_trace()
    later.started_at, later.resumed = "2026-11-22T10:00:00.000+00:00", True
    before, after = spans_of(first), spans_of(later)
    assert {span.trace_id for span in before} == {span.trace_id for span in after}
    assert not {span.span_id for span in before} & {span.span_id for span in after}


def test_a_fork_is_linked_to_the_run_it_was_forked_from() -> None:
    parent, fork = sample_trace(), sample_trace()
    fork.run_id, fork.parent_run_id = "the-fork", parent.run_id
    fork.plan.calls[0].from_journal, fork.plan.calls[0].from_run = True, parent.run_id
    root, root_of_parent = spans_of(fork)[0], spans_of(parent)[0]
    (link,) = root.links
    assert (link.trace_id, link.span_id) == (root_of_parent.trace_id, root_of_parent.span_id)
    assert link.relation == "forked_from"
    assert root.attributes["hoptrail.parent_run_id"] == parent.run_id
    assert (root.trace_id, root.span_id) == (trace_id_of("the-fork"), span_id_of("the-fork"))


# Content


def planted(write: Callable[[str], str], **fixed: object) -> Trace:
    """Give a trace whose every text is written by a function of its field's path."""

    def text(path: str, number: int | None) -> str:
        return write(path) if number is None else f"{write(path)}.{number}"

    document = planted_trace(Trace, text, [0, 1], checked=True, **fixed)
    document["started_at"] = "2026-11-22T09:15:00+00:00"
    return Trace.model_validate(document)


TOLD_WITHOUT_CONTENT = {
    "run_id",
    "parent_run_id",
    "thread_id",
    "model_policy",
    "stop_reason",
    "plan.calls[].backend",
    "plan.calls[].model",
    "plan.calls[].reason",
    "plan.calls[].from_run",
    "plan.calls[].finish_reason",
    "steps[].from_run",
    "steps[].retrieval_mode",
    "steps[].embedding_space",
    "steps[].evidence[].passage.id",
    "steps[].evidence[].scores{}",
    "steps[].calls[].backend",
    "steps[].calls[].model",
    "steps[].calls[].reason",
    "steps[].calls[].finish_reason",
    "steps[].calls[].from_run",
    "steps[].calls[].attempts[].backend",
    "steps[].calls[].attempts[].model",
    "steps[].calls[].attempts[].reason",
    "steps[].calls[].attempts[].outcome",
    "steps[].tools[].tool",
    "steps[].tools[].passage_id",
}
"""Ids, and names of models, backends, tools and kinds: of texts, nothing."""


def test_without_content_only_ids_and_names_are_told() -> None:
    trace = planted(lambda path: re.sub(r"\W", "-", path) + "-planted")
    for call in trace.calls():
        call.from_run, call.from_journal = "", False
    told = repr(spans_of(trace))
    found = {path for path in text_fields(Trace) if re.sub(r"\W", "-", path) + "-planted" in told}
    allowed = {re.sub(r"^(voided|steps)", "steps", path) for path in found}
    allowed = {re.sub(r"^(synthesis|plan\.calls)\[\]", "steps[].calls[]", path) for path in allowed}
    allowed = {path.replace("plan.calls[]", "steps[].calls[]") for path in allowed}
    assert allowed <= {
        path.replace("plan.calls[]", "steps[].calls[]") for path in TOLD_WITHOUT_CONTENT
    }
    assert "steps[].evidence[].passage.id" in found


def test_a_reason_does_not_repeat_what_a_backend_answered() -> None:
    trace = sample_trace()
    call = trace.steps[0].calls[0]
    call.reason = "huggingface: failed with InvalidResponse (got: Kafka's (secret) question)"
    call.attempts[1].reason = "huggingface: benched for 9 s after BackendBusy (Kafka; (again))"
    spans = spans_of(trace)
    assert at(spans, "steps/0/calls/0").attributes["hoptrail.reason"] == (
        "huggingface: failed with InvalidResponse"
    )
    assert "Kafka" not in repr(spans)
    assert at(spans_of(trace, CONTENT), "steps/0/calls/0").attributes["hoptrail.reason"] == (
        call.reason
    )


def test_with_content_everything_is_there_in_both_forms() -> None:
    spans = spans_of(sample_trace(), CONTENT)
    assert spans[0].attributes["input.value"] == QUESTION
    assert str(spans[0].attributes["output.value"]).startswith("Vltava")
    call = at(spans, "steps/0/calls/0").attributes
    assert json.loads(str(call["gen_ai.input.messages"])) == [
        {"role": "system", "parts": [{"type": "text", "content": "Answer."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Who?"}]},
    ]
    assert json.loads(str(call["gen_ai.output.messages"])) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": '{"answer": "Franz Kafka"}'}],
            "finish_reason": "stop",
        }
    ]
    assert call["llm.input_messages.1.message.role"] == "user"
    assert call["llm.input_messages.1.message.content"] == "Who?"
    assert call["llm.output_messages.0.message.content"] == '{"answer": "Franz Kafka"}'
    found = at(spans, "steps/0/retrieval").attributes
    assert found["retrieval.documents.0.document.content"] == "The Trial is a novel by Franz Kafka."
    assert json.loads(str(found["gen_ai.retrieval.documents"]))[0]["source"] == "novels.md"
    assert found["gen_ai.data_source.id"] == "notes/"
    warned = at(spans, "steps/1").events[0]
    assert warned.name == "hoptrail.warning"
    assert warned.attributes == {"message": "no embedder matches the index: searched by words only"}


def test_a_call_of_tools_is_a_reply_of_its_kind() -> None:
    trace = sample_trace()
    call = trace.steps[0].calls[0]
    call.output, call.tool_calls = (
        "",
        [ToolCall(tool="calculator", arguments={"expression": "3*4"})],
    )
    told = at(spans_of(trace, CONTENT), "steps/0/calls/0").attributes
    (message,) = json.loads(str(told["gen_ai.output.messages"]))
    assert message["finish_reason"] == "tool_call"
    assert message["parts"][0]["name"] == "calculator"
    prefix = "llm.output_messages.0.message.tool_calls.0.tool_call.function."
    assert told[f"{prefix}name"] == "calculator"
    assert json.loads(str(told[f"{prefix}arguments"])) == {"expression": "3*4"}
    assert message["parts"][0]["arguments"] == {"expression": "3*4"}


def test_odd_arguments_of_a_tool_are_json_all_the_same() -> None:
    trace = sample_trace()
    secret = "hf_" + "aB3" * 12
    given = {"\ud800": [float("inf")], "key": secret}
    long = ToolCall(tool="long", arguments={"text": "x" * 2 * LONGEST_TEXT})
    trace.steps[0].calls[0].tool_calls = [ToolCall(tool="odd", arguments=given), long]
    told = at(spans_of(trace, CONTENT), "steps/0/calls/0").attributes
    text = str(told["gen_ai.output.messages"])
    (message,) = json.loads(text, parse_constant=pytest.fail)
    _reply, odd, cut = message["parts"]
    assert odd["arguments"] == {"\ufffd": ["Infinity"], "key": "hf_…"}
    assert len(cut["arguments"]) == LONGEST_TEXT
    assert secret not in repr(told)


def test_secrets_are_masked_in_content() -> None:
    trace = sample_trace()
    trace.steps[0].calls[0].prompt = [Message(role="human", content="key hf_" + "aB3" * 12)]
    trace.answer = "it is my-own-known-value-77"
    told = repr(spans_of(trace, SpanAttributes(True, Secrets(["my-own-known-value-77"]))))
    assert "aB3aB3" not in told
    assert "known-value-77" not in told
    assert "hf_…" in told


def test_what_is_long_or_many_is_cut() -> None:
    trace = sample_trace()
    call = trace.steps[0].calls[0]
    call.prompt = [Message(role="human", content=f"{n} {'x' * 50_000}") for n in range(200)]
    trace.steps[0].evidence = [evidence(KAFKA, rank, cited=False) for rank in range(1, 101)]
    trace.warnings = [f"warning {n}" for n in range(1000)]
    spans = spans_of(trace, CONTENT)
    told = at(spans, "steps/0/calls/0").attributes
    assert len(told) <= 128
    last = str(told[f"llm.input_messages.{MOST_LISTED - 1}.message.content"])
    assert last.startswith("199 ")
    assert len(last) == LONGEST_TEXT
    assert len(json.loads(str(told["gen_ai.input.messages"]))) == 200
    found = at(spans, "steps/0/retrieval").attributes
    assert len(found) <= 128
    assert len(json.loads(str(found["gen_ai.retrieval.documents"]))) == 100
    assert len(spans[0].events) < 128


# Anything


def test_odd_texts_and_numbers_become_what_can_be_exported() -> None:
    trace = planted(lambda path: f"\ud800 \0 \x1b[2J __proto__ {path}")
    trace.usage.input_tokens = 10**30
    trace.steps[0].evidence[0] = (
        trace.steps[0]
        .evidence[0]
        .model_copy(update={"score": float("nan"), "scores": {"\udfff": float("inf")}})
    )
    spans = spans_of(trace, CONTENT)
    assert is_tree(spans)
    for span in spans:
        for told in (span.attributes, *(event.attributes for event in span.events)):
            for value in told.values():
                texts = value if isinstance(value, list) else [value]
                for text in texts:
                    str(text).encode()
                    assert "\0" not in str(text)
        span.name.encode()
    assert spans[0].attributes["hoptrail.usage.input_tokens"] == 2**63 - 1
    documents = at(spans, "steps/0/retrieval").attributes["gen_ai.retrieval.documents"]
    assert "NaN" not in str(documents)
    assert "Infinity" not in str(documents)


ms = st.one_of(st.floats(), st.floats(-1e4, 1e5), st.just(0.0))
calls = st.builds(
    Call,
    purpose=st.sampled_from(["plan", "revision", "next", "step", "synthesis", "chat"]),
    attempts=st.lists(
        st.builds(
            Attempt,
            backend=st.text(max_size=5),
            outcome=st.sampled_from(["ok", "running", "BackendBusy", ""]),
            started_ms=ms,
            first_token_ms=st.none() | ms,
            ms=ms,
        ),
        max_size=3,
    ),
    started_ms=ms,
    first_token_ms=st.none() | ms,
    ms=ms,
    from_journal=st.booleans(),
    error=st.sampled_from(["", "Boom: x", "\0"]),
)
steps = st.builds(
    StepTrace,
    id=st.integers(-1, 4),
    question=st.text(max_size=3),
    depends_on=st.lists(st.integers(-1, 5), max_size=3),
    status=st.sampled_from(["waiting", "running", "answered", "abstained", "failed"]),
    planned_ms=st.none() | ms,
    started_ms=st.none() | ms,
    retrieved_ms=st.none() | ms,
    finished_ms=st.none() | ms,
    retrieval_mode=st.sampled_from(["", "none", "hybrid"]),
    calls=st.lists(calls, max_size=2),
    tools=st.lists(st.builds(ToolUse, tool=st.text(max_size=3), started_ms=ms, ms=ms), max_size=2),
)
traces = st.builds(
    Trace,
    run_id=st.text(max_size=3),
    parent_run_id=st.none() | st.text(max_size=3),
    question=st.text(max_size=3),
    status=st.sampled_from(["running", "answered", "abstained", "failed", "interrupted"]),
    started_at=st.one_of(
        st.text(max_size=5), st.datetimes().map(str), st.just("9999-12-31T23:59:59+00:00")
    ),
    plan=st.builds(PlanTrace, calls=st.lists(calls, max_size=3)),
    steps=st.lists(steps, max_size=3),
    voided=st.lists(steps, max_size=2),
    synthesis=st.lists(calls, max_size=2),
    usage=st.builds(Usage, wall_ms=ms),
)


@given(traces, st.booleans())
def test_whatever_a_trace_says_its_spans_are_a_tree(trace: Trace, content: bool) -> None:
    spans = spans_of(trace, SpanAttributes(content))
    assert is_tree(spans)
    expected = 1 + len(trace.steps) + len(trace.voided) + len(list(trace.calls()))
    assert len(spans) >= expected


@pytest.mark.parametrize("graph", ["multi-hop", "iterative", "chat"])
def test_the_workflow_is_the_graph(graph: Any) -> None:
    trace = sample_trace().model_copy(update={"graph": graph, "thread_id": "monday"})
    root = spans_of(trace)[0]
    assert root.name == f"invoke_workflow {graph}"
    assert root.attributes["gen_ai.workflow.name"] == graph
    assert root.attributes["session.id"] == root.attributes["gen_ai.conversation.id"] == "monday"
    assert root.attributes.get("hoptrail.plan.source") == (
        "model" if graph == "multi-hop" else None
    )
