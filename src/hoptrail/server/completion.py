"""A run told the way OpenAI tells a chat completion: whole, or chunk by chunk.

Steps are the reasoning, the answer is the content. Pure: events and traces in, JSON out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, Field, JsonValue

from hoptrail.answer import caveat
from hoptrail.errors import AnswerTorn
from hoptrail.events import (
    AnswerRestarted,
    AnswerText,
    Event,
    PlanRestarted,
    RunFinished,
    StepFinished,
    StepStarted,
    ToolUsed,
)
from hoptrail.evidence import Citation
from hoptrail.trace import StepTrace, ToolUse, Trace

ReasoningField = Literal["reasoning_content", "reasoning"]
"""Both are in use: LM Studio, vLLM, DeepSeek and xAI; Ollama, Groq and OpenRouter."""
FinishReason = Literal["stop", "length"]

_MARKUP = re.compile(r"[\[\]<`]")
_BETWEEN_LINES = "\n\n"


class CompletionUsage(BaseModel):
    """Tokens of all model calls of the run, by the backends' own counts where they tell them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionMessage(BaseModel):
    """The answer: its text ends with a list of sources where it has any."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    reasoning_content: str | None = Field(None, description="The steps (or as `reasoning`)")
    reasoning: str | None = None


class CompletionChoice(BaseModel):
    """The one answer there is."""

    index: Literal[0] = 0
    message: CompletionMessage
    logprobs: None = None
    finish_reason: FinishReason


class RunNote(BaseModel):
    """What Hoptrail adds to OpenAI's own fields.

    ``backends`` answered the calls of the run, ``ignored`` are parameters that had no effect,
    ``trace`` is the path of the whole record on this server.
    """

    run_id: str
    graph: str
    backends: list[str]
    short_answer: str
    abstained: bool
    degraded: bool
    stop_reason: str
    warnings: list[str]
    ignored: list[str]
    trace: str


class Completion(BaseModel):
    """A completed chat, as OpenAI's clients read it."""

    id: str = Field(examples=["chatcmpl-20261122-091500-4f2a9c"])
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage
    citations: list[Citation] = Field(description="The sources, in the order of the marks")
    hoptrail: RunNote


@dataclass(frozen=True)
class Heading:
    """What every part of one completion says: which run, which model, and since when.

    Without ``steps`` no reasoning is told: the one step of a conversation is its answer.
    """

    run_id: str
    model: str
    steps: bool = True
    reasoning_field: ReasoningField = "reasoning_content"
    ignored: Sequence[str] = ()
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def id(self) -> str:
        """The completion's id."""
        return f"chatcmpl-{self.run_id}"

    def note(self, trace: Trace) -> RunNote:
        """Give what Hoptrail adds about the run."""
        answered = [call.backend for call in trace.calls() if call.backend]
        return RunNote(
            run_id=trace.run_id,
            graph=trace.graph,
            backends=list(dict.fromkeys(answered)),
            short_answer=trace.short_answer,
            abstained=trace.abstained,
            degraded=trace.degraded,
            stop_reason=trace.stop_reason,
            warnings=trace.warnings,
            ignored=list(self.ignored),
            trace=f"/runs/{trace.run_id}",
        )


def completion(heading: Heading, trace: Trace) -> Completion:
    """Give a finished run as one completion."""
    steps = trace.steps if heading.steps else []
    lines = [line for step in steps for line in _whole_step(step)]
    reasoning = {heading.reasoning_field: _BETWEEN_LINES.join(lines)} if lines else {}
    message = CompletionMessage(content=trace.answer + _footer(trace), **reasoning)
    return Completion(
        id=heading.id,
        created=heading.created,
        model=heading.model,
        choices=[CompletionChoice(message=message, finish_reason=_finish_reason(trace))],
        usage=_usage(trace),
        citations=trace.citations,
        hoptrail=heading.note(trace),
    )


Chunk = dict[str, JsonValue]


class Chunks:
    """Turns the events of a run into the chunks of a streamed completion.

    No delta is empty: clients take an empty content for the end of the reasoning. ``complete``
    says that the answer has come to its end.
    """

    def __init__(self, heading: Heading, *, usage: bool = False) -> None:
        self._heading = heading
        self._with_usage = usage
        self._begun = self._reasoned = self._answered = False
        self._torn: AnswerRestarted | None = None
        self.complete = False

    def of(self, event: Event) -> Iterator[Chunk]:
        """Give the chunks that tell of an event.

        Raises:
            AnswerTorn: with the last event, when text sent before it had become void.
        """
        match event:
            case AnswerText(delta=text) if self._torn is None:
                yield from self._content(text)
            case AnswerRestarted() if self._answered:
                self._torn = self._torn or event
            case RunFinished(trace=trace):
                if trace.status in ("answered", "abstained"):  # or else its error comes next
                    yield from self._end(trace)
            case _ if self._heading.steps:
                yield from self._reasoning(_line_of(event))

    def _reasoning(self, line: str) -> Iterator[Chunk]:
        if line:
            between = _BETWEEN_LINES if self._reasoned else ""
            self._reasoned = True
            yield self._delta(self._heading.reasoning_field, between + line)

    def _content(self, text: str) -> Iterator[Chunk]:
        if text:
            self._answered = True
            yield self._delta("content", text)

    def _end(self, trace: Trace) -> Iterator[Chunk]:
        if self._torn is not None:
            whole = trace.answer + _footer(trace)
            raise AnswerTorn(self._torn.why, trace.run_id, whole)
        if not self._answered:  # an answer that nobody had to write, or an abstention
            yield from self._content(trace.answer)
        yield from self._content(_footer(trace))
        self.complete = True
        yield {
            **self._chunk({}, _finish_reason(trace)),
            "citations": [citation.model_dump() for citation in trace.citations],
            "hoptrail": self._heading.note(trace).model_dump(),
        }
        if self._with_usage:
            yield {**self._chunk({}), "choices": [], "usage": _usage(trace).model_dump()}

    def _delta(self, name: str, text: str) -> Chunk:
        delta: Chunk = {name: text}
        if not self._begun:
            self._begun, delta = True, {"role": "assistant", **delta}
        return self._chunk(delta)

    def _chunk(self, delta: Chunk, finish_reason: FinishReason | None = None) -> Chunk:
        return {
            "id": self._heading.id,
            "object": "chat.completion.chunk",
            "created": self._heading.created,
            "model": self._heading.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        }


def _footer(trace: Trace) -> str:
    """Give what stands below an answer: its sources, and whether a language model is behind it."""
    note = caveat(trace)
    return sources(trace.citations) + (f"\n\n{note}" if note else "")


def sources(citations: Iterable[Citation]) -> str:
    """Give the list of sources that stands below an answer, or nothing."""
    lines = [_source(number, cited) for number, cited in enumerate(citations, start=1)]
    return "\n\nSources:\n\n" + "\n".join(lines) if lines else ""


def _source(number: int, cited: Citation) -> str:
    title = cited.title or cited.passage_id
    where = f" ({cited.source})" if cited.source else ""
    quote = f" “{cited.quote}”" if cited.quote else ""
    return f"- [{number}] {_unmarked(title + where + quote)}"


def _unmarked(text: str) -> str:
    # A document is shown as text: its markup must not load pictures or become links in a chat.
    return _MARKUP.sub(lambda mark: f"\\{mark[0]}", " ".join(text.split()))


def _whole_step(step: StepTrace) -> Iterator[str]:
    if step.asked:
        yield _asked(step.id, step.asked)
    for use in step.tools:
        yield _used(step.id, use)
    yield _ended(step)


def _line_of(event: Event) -> str:
    match event:
        case StepStarted(id=step_id, asked=asked):
            return _asked(step_id, asked)
        case ToolUsed(step=step_id, use=use):
            return _used(step_id, use)
        case StepFinished(step=step):
            return _ended(step)
        case PlanRestarted(why=why):
            return f"The steps are planned anew: {why}"
    return ""


def _asked(step_id: int, asked: str) -> str:
    return f"Step {step_id}: {asked}"


def _used(step_id: int, use: ToolUse) -> str:
    given = ", ".join(f"{name}={value!r}" for name, value in use.arguments.items())
    return f"Step {step_id} used {use.tool}({given}) → {use.output or use.error}"


def _ended(step: StepTrace) -> str:
    if step.status != "answered":
        why = step.error or "; ".join(step.warnings) or "nothing was found"
        return f"Step {step.id} → no answer ({why})"
    backend = next((call.backend for call in reversed(step.calls) if call.backend), "")
    return f"Step {step.id} → {step.answer}" + (f" ({backend})" if backend else "")


def _finish_reason(trace: Trace) -> FinishReason:
    return "length" if trace.stop_reason == "budget:tokens" else "stop"


def _usage(trace: Trace) -> CompletionUsage:
    given, written = trace.usage.input_tokens, trace.usage.output_tokens
    return CompletionUsage(
        prompt_tokens=given, completion_tokens=written, total_tokens=given + written
    )
