"""A run in OpenAI's form: what of it is sent, in what order, and what is refused."""

import pickle
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError

from hoptrail.errors import AnswerTorn
from hoptrail.events import (
    AnswerRestarted,
    AnswerText,
    Event,
    PlanFinished,
    PlanProposed,
    PlanRestarted,
    RunFinished,
    RunStarted,
    StepFinished,
    StepPlanned,
    StepStarted,
    ToolUsed,
)
from hoptrail.evidence import Citation
from hoptrail.server.completion import Chunks, Heading, ReasoningField, completion, sources
from hoptrail.server.completion_request import CompletionRequest
from hoptrail.trace import StepTrace, ToolUse, Trace
from tests.sample_trace import sample_trace

HEADING = Heading("run-1", "hoptrail/multi-hop", ignored=("temperature",), created=1_790_000_000)
QUESTION = {"role": "user", "content": "Which river?"}


def told(trace: Trace, answer: Sequence[Event]) -> list[Event]:
    """What a run tells whose steps are those of a trace and whose answer came like this."""
    events: list[Event] = [RunStarted(trace.run_id, trace.question), StepPlanned(1, "Who?")]
    for step in trace.steps:
        events += [StepStarted(step.id, step.asked), StepFinished(step)]
    return [*events, PlanFinished(), *answer, RunFinished(trace)]


def chunks_of(
    events: Sequence[Event], *, usage: bool = False, heading: Heading = HEADING
) -> list[ChatCompletionChunk]:
    chunks = Chunks(heading, usage=usage)
    return [
        ChatCompletionChunk.model_validate(chunk, strict=True)
        for event in events
        for chunk in chunks.of(event)
    ]


def text_in(chunks: Sequence[ChatCompletionChunk], field: str) -> str:
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    return "".join(getattr(choice.delta, field, None) or "" for choice in choices)


def test_steps_are_reasoning_and_the_answer_is_content() -> None:
    trace = sample_trace()
    chunks = chunks_of(told(trace, [AnswerText("Vlt"), AnswerText("ava [1]")]))
    assert text_in(chunks, "reasoning_content").split("\n\n") == [
        "Step 1: Who wrote The Trial?",
        "Step 1 → Franz Kafka (ollama)",
        "Step 2: Which river flows through the birthplace of Franz Kafka?",
        "Step 2 → Vltava (ollama)",
    ]
    assert text_in(chunks, "content") == "Vltava [1]" + sources(trace.citations)
    assert "<think>" not in text_in(chunks, "content")


def test_stream_begins_with_the_role_and_ends_with_the_reason() -> None:
    chunks = chunks_of(told(sample_trace(), [AnswerText("Vltava")]))
    roles = [chunk.choices[0].delta.role for chunk in chunks]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert roles == ["assistant", *[None] * (len(chunks) - 1)]
    assert reasons == [*[None] * (len(chunks) - 1), "stop"]
    assert {(chunk.id, chunk.created, chunk.model) for chunk in chunks} == {
        ("chatcmpl-run-1", 1_790_000_000, "hoptrail/multi-hop")
    }


def test_last_chunk_carries_the_citations_and_what_hoptrail_knows() -> None:
    trace = sample_trace()
    last = chunks_of(told(trace, [AnswerText("Vltava")]))[-1]
    extra: dict[str, Any] = last.model_extra or {}
    assert [Citation(**each) for each in extra["citations"]] == trace.citations
    assert extra["hoptrail"]["run_id"] == trace.run_id
    assert extra["hoptrail"]["trace"] == f"/runs/{trace.run_id}"
    assert extra["hoptrail"]["backends"] == ["ollama"]
    assert extra["hoptrail"]["ignored"] == ["temperature"]


def test_usage_comes_last_and_only_when_asked_for() -> None:
    trace = sample_trace()
    assert all(chunk.usage is None for chunk in chunks_of(told(trace, [])))
    last = chunks_of(told(trace, []), usage=True)[-1]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.prompt_tokens == trace.usage.input_tokens
    assert last.usage.completion_tokens == trace.usage.output_tokens


def test_an_answer_that_nobody_had_to_write_is_sent_whole() -> None:
    trace = sample_trace()
    assert text_in(chunks_of(told(trace, [])), "content").startswith(trace.answer)


pieces = st.lists(st.sampled_from(["", "a", " ", "Sibelius "]), max_size=6)


@given(pieces)
def test_no_delta_is_empty(texts: list[str]) -> None:
    for chunk in chunks_of(told(sample_trace(), [AnswerText(text) for text in texts])):
        delta = chunk.choices[0].delta
        assert delta.content != ""
        assert getattr(delta, "reasoning_content", None) != ""


def test_a_restart_before_any_text_is_silent() -> None:
    answer: list[Event] = [AnswerRestarted("ollama broke off"), AnswerText("Vltava")]
    chunks = chunks_of(told(sample_trace(), answer))
    assert text_in(chunks, "content").startswith("Vltava")


@given(pieces, pieces)
def test_texts_of_two_attempts_are_never_joined(before: list[str], after: list[str]) -> None:
    trace = sample_trace()
    chunks, sent = Chunks(HEADING), ""
    events: list[Event] = [
        *(AnswerText(f"<{text}") for text in ["first", *before]),
        AnswerRestarted("ollama broke off"),
        *(AnswerText(f">{text}") for text in after),
    ]
    for event in events:
        sent += "".join(str(chunk["choices"]) for chunk in chunks.of(event))
    with pytest.raises(AnswerTorn) as torn:
        list(chunks.of(RunFinished(trace)))
    assert ">" not in sent
    assert torn.value.answer == trace.answer + sources(trace.citations)
    assert trace.run_id in str(torn.value)
    assert str(pickle.loads(pickle.dumps(torn.value))) == str(torn.value)


def test_an_answer_is_complete_only_when_its_run_is() -> None:
    chunks, trace = Chunks(HEADING), sample_trace()
    failed = trace.model_copy(update={"status": "failed"})
    assert list(chunks.of(RunFinished(failed))) == []
    assert list(chunks.of(PlanProposed("run-1", ("Who?",)))) == []
    assert not chunks.complete
    assert list(chunks.of(RunFinished(trace)))
    assert chunks.complete


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (StepTrace(id=2, question="?", status="abstained"), "Step 2 → no answer"),
        (StepTrace(id=2, question="?", status="failed", error="BackendBusy: later"), "later"),
        (StepTrace(id=2, question="?", status="answered", answer="12"), "Step 2 → 12"),
    ],
)
def test_how_a_step_ended_is_told(step: StepTrace, line: str) -> None:
    assert line in text_in(chunks_of([StepFinished(step)]), "reasoning_content")


def test_tools_and_new_plans_are_told() -> None:
    use = ToolUse(tool="calculator", arguments={"expression": "6*7"}, output="42")
    chunks = chunks_of([PlanRestarted("ollama broke off"), ToolUsed(1, use)])
    reasoning = text_in(chunks, "reasoning_content")
    assert "anew: ollama broke off" in reasoning
    assert "calculator(expression='6*7') → 42" in reasoning


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_can_be_spelled_either_way(field: ReasoningField) -> None:
    heading = Heading("run-1", "hoptrail/multi-hop", reasoning_field=field)
    other = "reasoning" if field == "reasoning_content" else "reasoning_content"
    chunks = chunks_of(told(sample_trace(), []), heading=heading)
    assert "Franz Kafka" in text_in(chunks, field)
    assert text_in(chunks, other) == ""
    message = completion(heading, sample_trace()).choices[0].message
    assert "Franz Kafka" in (getattr(message, field) or "")
    assert getattr(message, other) is None


def test_a_conversation_has_no_steps_to_tell() -> None:
    heading = Heading("run-1", "hoptrail/chat", steps=False)
    chunks = chunks_of(told(sample_trace(), [AnswerText("Hello.")]), heading=heading)
    assert text_in(chunks, "reasoning_content") == ""
    assert completion(heading, sample_trace()).choices[0].message.reasoning_content is None


def test_whole_and_streamed_say_the_same() -> None:
    trace = sample_trace()
    whole = ChatCompletion.model_validate(completion(HEADING, trace).model_dump(), strict=True)
    chunks = chunks_of(told(trace, [AnswerText(trace.answer)]))
    message = whole.choices[0].message
    assert message.content == text_in(chunks, "content")
    assert (message.model_extra or {})["reasoning_content"] == text_in(chunks, "reasoning_content")
    assert (whole.model_extra or {})["hoptrail"] == (chunks[-1].model_extra or {})["hoptrail"]
    assert whole.id == chunks[-1].id


def test_a_spent_token_budget_is_a_length() -> None:
    trace = sample_trace().model_copy(update={"stop_reason": "budget:tokens"})
    assert completion(HEADING, trace).choices[0].finish_reason == "length"


def test_sources_are_text_not_markup() -> None:
    cited = Citation(
        passage_id="p", source="a.md", title="![x](http://evil.example/a.png)", quote="<img src=x>"
    )
    shown = sources([cited])
    assert "![x]" not in shown
    assert "\\<img" in shown
    assert sources([]) == ""


def test_content_parts_are_joined_and_history_keeps_its_roles() -> None:
    asked = CompletionRequest.model_validate(
        {
            "model": "hoptrail/chat",
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "assistant", "content": None},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": [part("Which"), part("river?")]},
            ],
        }
    )
    assert asked.question == "Which\nriver?"
    assert [(turn.type, turn.text) for turn in asked.history] == [
        ("system", "Be brief."),
        ("ai", "Hello."),
    ]


def part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def test_tuning_is_ignored_and_named() -> None:
    asked = CompletionRequest.model_validate(
        {"model": "m", "messages": [QUESTION], "temperature": 0.2, "max_tokens": 5, "seed": None}
    )
    assert asked.ignored == ["max_tokens", "temperature"]


@pytest.mark.parametrize(
    "harmless",
    [{"n": 1}, {"tools": []}, {"logprobs": False}, {"response_format": {"type": "text"}}],
)
def test_what_changes_nothing_is_accepted(harmless: dict[str, Any]) -> None:
    asked = {"model": "m", "messages": [QUESTION], **harmless}
    assert CompletionRequest.model_validate(asked).question == "Which river?"


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        ({"n": 2}, "one answer"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"functions": [{"name": "f"}]}, "tools"),
        ({"logprobs": True}, "probabilities"),
        ({"modalities": ["text", "audio"]}, "only text"),
        ({"audio": {"voice": "alloy", "format": "mp3"}}, "only text"),
        ({"response_format": {"type": "json_object"}}, "free text"),
        ({"messages": []}, "at least 1"),
        ({"messages": [{"role": "assistant", "content": "Hello."}]}, "the user's question"),
        ({"messages": [{"role": "user", "content": " "}]}, "the user's question"),
        ({"messages": [{"role": "tool", "content": "42"}]}, "role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "no image",
        ),
    ],
    ids=str,
)
def test_what_would_be_left_out_silently_is_refused(refused: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        CompletionRequest.model_validate({"model": "m", "messages": [QUESTION], **refused})


def test_a_reader_of_the_text_alone_sees_that_no_model_is_behind_it() -> None:
    trace = sample_trace()
    trace.degraded = True
    message = completion(HEADING, trace).choices[0].message.content
    assert message.endswith("no language model stood behind some of this; check the sources.")
    assert text_in(chunks_of(told(trace, [AnswerText(trace.answer)])), "content") == message
