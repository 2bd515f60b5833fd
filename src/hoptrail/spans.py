"""Spans: a run as OpenTelemetry tells it, with the times at which everything happened.

::

    invoke_workflow multi-hop
    ├── plan hoptrail
    │   └── chat {model}
    │       └── attempt {backend}     one each, where one failed or there were several
    ├── step 1
    │   ├── retrieval
    │   ├── chat {model}
    │   └── execute_tool {tool}
    ├── step 2                        linked to the steps it depends on
    └── chat {model}                  the synthesis

The ids of a span come from its run and its place in it, so that a run that is told twice is told
alike, and that a fork can be linked to the run it was forked from. Of a run that was resumed each
part is told on its own, in one and the same OpenTelemetry trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import groupby
from math import isfinite
from typing import Literal

from hoptrail.span_attributes import (
    SpanAttributes,
    Told,
    Value,
    clean,
    clean_text,
    error_type,
    is_kept,
    listed,
    model_of,
    tool_error_type,
    tool_name,
)
from hoptrail.trace import Attempt, Call, StepTrace, ToolUse, Trace

_ROOT = "run"
_PLAN = "plan"
_SYNTHESIS = "synthesis"
_NS_PER_MS = 1_000_000
_LONGEST_MS = 1e11
"""About three years: what is longer is no time that a run can take."""
_LATEST_NS = 2**63 - 1
_MOST_EVENTS = 100
_IN_PROCESS = frozenset({"local", "extractive"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class SpanEvent:
    """Something that happened in a span."""

    name: str
    at_ns: int
    attributes: dict[str, Value]


@dataclass(frozen=True)
class SpanLink:
    """Another span that one rests on: its ids, and its path if it is one of the same run."""

    trace_id: int
    span_id: int
    relation: str
    path: str = ""

    @property
    def attributes(self) -> dict[str, Value]:
        """What is told of the link."""
        return {"hoptrail.relation": self.relation}


@dataclass
class Span:
    """One span; ``path`` is its place in the run, ``parent`` that of the span around it.

    Times are nanoseconds since 1970. ``error`` is the class of the error it ended with.
    """

    path: str
    parent: str | None
    trace_id: int
    span_id: int
    name: str
    kind: Literal["internal", "client"]
    start_ns: int
    end_ns: int
    attributes: dict[str, Value] = field(default_factory=dict)
    events: list[SpanEvent] = field(default_factory=list)
    links: list[SpanLink] = field(default_factory=list)
    error: str = ""
    error_message: str = ""


def spans_of(trace: Trace, told: SpanAttributes | None = None) -> list[Span]:
    """Give the spans of a run, each after the one around it; without content unless it is told."""
    return _Telling(trace, told or SpanAttributes()).spans()


def trace_id_of(run_id: str) -> int:
    """Give the id of the OpenTelemetry trace that a run is told in."""
    return _digest(16, "trace", run_id)


def span_id_of(run_id: str, path: str = _ROOT, part: str = "") -> int:
    """Give the id of a span of a run; ``part`` tells the parts of a resumed run apart."""
    return _digest(8, "span", run_id, part, path)


def _digest(size: int, *words: str) -> int:
    written = "\0".join(words).encode("utf-8", "surrogatepass")
    # Zero means "none" to OpenTelemetry.
    return int.from_bytes(sha256(written).digest()[:size], "big") or 1


class _Telling:
    """A run that is being told, span by span."""

    def __init__(self, trace: Trace, told: SpanAttributes) -> None:
        self._trace, self._told = trace, told
        self._trace_id = trace_id_of(trace.run_id)
        self._part = trace.started_at if trace.resumed else ""
        self._zero = _nanoseconds(trace.started_at)
        self._spans: list[Span] = []

    def spans(self) -> list[Span]:
        """Tell everything."""
        trace = self._trace
        root = self._root()
        planned = self._plans(root)
        for at, step in enumerate(trace.voided):
            self._step(root, f"voided/{at}", step, planned, voided=True)
        for at, step in enumerate(trace.steps):
            self._step(root, f"steps/{at}", step, planned, voided=False)
        for at, call in enumerate(trace.synthesis):
            span = self._call(root, f"synthesis/{at}", call)
            needed = [_node(step.id) for step in _last_steps(trace.steps)]
            span.attributes |= clean(self._told.node(_SYNTHESIS, _SYNTHESIS, needed or [planned]))
        return self._spans

    def _root(self) -> Span:
        trace = self._trace
        attributes = self._told.run(trace) | self._told.node(_ROOT, trace.graph, [])
        name = f"invoke_workflow {trace.graph}"
        root = self._add(None, _ROOT, name, (0.0, _last_ms(trace)), attributes)
        if trace.parent_run_id:
            parent = trace.parent_run_id
            link = SpanLink(trace_id_of(parent), span_id_of(parent), "forked_from")
            root.links.append(link)
        self._happened(root, "hoptrail.warning", trace.warnings)
        self._happened(root, "hoptrail.repair", trace.plan.repairs)
        self._happened(root, "hoptrail.revision", trace.plan.revisions)
        if trace.status == "failed":
            self._failed(root, error_type(trace.error), trace.error)
        return root

    def _plans(self, root: Span) -> str:
        """Tell how the plan was made and changed; gives the node that the first steps follow."""
        plans = list(_plannings(self._trace.plan.calls))
        for at, calls in enumerate(plans):
            path = f"plan/{at}"
            times = min(_begin(call) for call in calls), max(_end(call) for call in calls)
            attributes = self._told.plan(calls) | self._told.node(
                _PLAN if at == 0 else f"{_PLAN}-{at + 1}", calls[0].purpose, [_ROOT]
            )
            span = self._add(root, path, "plan hoptrail", times, attributes)
            for number, call in enumerate(calls):
                self._call(span, f"{path}/{number}", call)
            if calls[-1].error:
                self._failed(span, error_type(calls[-1].error), calls[-1].error)
        return _PLAN if plans else _ROOT

    def _step(self, root: Span, path: str, step: StepTrace, planned: str, *, voided: bool) -> None:
        times = _step_times(step, voided=voided)
        name = f"{'voided ' if voided else ''}step {step.id}"
        needs = [_node(need) for need in step.depends_on]
        attributes = self._told.step(step, voided=voided) | self._told.node(
            f"voided-{_node(step.id)}" if voided else _node(step.id), name, needs or [planned]
        )
        span = self._add(root, path, name, times, attributes)
        if not voided:
            span.links += self._needed(step)
        self._retrieval(span, path, step)
        for at, call in enumerate(step.calls):
            self._call(span, f"{path}/calls/{at}", call)
        for at, use in enumerate(step.tools):
            self._tool(span, f"{path}/tools/{at}", use)
        self._happened(span, "hoptrail.warning", step.warnings)
        if step.status == "failed":
            self._failed(span, error_type(step.error), step.error)

    def _needed(self, step: StepTrace) -> Iterator[SpanLink]:
        places = {each.id: at for at, each in reversed(list(enumerate(self._trace.steps)))}
        for need in step.depends_on:
            if need in places and need != step.id:
                path = f"steps/{places[need]}"
                yield SpanLink(self._trace_id, self._id(path), "depends_on", path)

    def _retrieval(self, around: Span, path: str, step: StepTrace) -> None:
        found = listed(step.evidence, step.tools)
        if not found and step.retrieval_mode in ("", "none"):
            return
        # A step that was kept has its passages, but searched for none.
        end = step.started_ms if step.retrieved_ms is None else step.retrieved_ms
        attributes = self._told.retrieval(step, found, self._trace.documents)
        times = step.started_ms or 0.0, end or 0.0
        self._add(around, f"{path}/retrieval", "retrieval", times, attributes, client=True)

    def _call(self, around: Span, path: str, call: Call) -> Span:
        model, client = model_of(call), call.backend not in _IN_PROCESS
        attributes, times = self._told.call(call, self._trace), (_begin(call), _end(call))
        name = f"chat {model}" if model else "chat"
        span = self._add(around, path, name, times, attributes, client=client)
        if call.error:
            self._failed(span, error_type(call.error), call.error)
        attempts = call.attempts
        if not is_kept(call) and (len(attempts) > 1 or any(map(_has_failed, attempts))):
            for at, attempt in enumerate(attempts):
                self._attempt(span, f"{path}/attempts/{at}", call, attempt)
        return span

    def _attempt(self, around: Span, path: str, call: Call, attempt: Attempt) -> None:
        start = call.started_ms + attempt.started_ms
        # One that is under way when the run ends has not been told its length.
        end = _end(call) if attempt.outcome == "running" else start + attempt.ms
        name, client = f"attempt {attempt.backend}", attempt.backend not in _IN_PROCESS
        told = self._told.attempt(attempt)
        span = self._add(around, path, name, (start, end), told, client=client)
        if _has_failed(attempt):
            self._failed(span, error_type(attempt.outcome), attempt.detail)

    def _tool(self, around: Span, path: str, use: ToolUse) -> None:
        times = use.started_ms, use.started_ms + use.ms
        name = f"execute_tool {tool_name(use)}"
        span = self._add(around, path, name, times, self._told.tool(use))
        if use.error:
            self._failed(span, tool_error_type(use.error), use.error)

    def _add(
        self,
        around: Span | None,
        path: str,
        name: str,
        times: tuple[float, float],
        attributes: Told,
        *,
        client: bool = False,
    ) -> Span:
        start, end = (self._ns(ms) for ms in times)
        if around is not None:
            start = min(max(start, around.start_ns), around.end_ns)
            end = min(end, around.end_ns)
        span = Span(
            path=path,
            parent=around.path if around else None,
            trace_id=self._trace_id,
            span_id=self._id(path),
            name=clean_text(name),
            kind="client" if client else "internal",
            start_ns=start,
            end_ns=max(start, end),
            attributes=clean(attributes),
        )
        self._spans.append(span)
        return span

    def _failed(self, span: Span, kind: str, message: str) -> None:
        told = self._told
        span.error, span.error_message = kind, str(told.text(message) or "")
        span.attributes |= clean({"error.type": kind})
        self._happen(span, "exception", told.exception(kind, message))

    def _happened(self, span: Span, name: str, texts: Sequence[str]) -> None:
        for text in texts[:_MOST_EVENTS]:
            self._happen(span, name, self._told.happening(text))

    def _happen(self, span: Span, name: str, attributes: Told) -> None:
        span.events.append(SpanEvent(name, span.end_ns, clean(attributes)))

    def _id(self, path: str) -> int:
        return span_id_of(self._trace.run_id, path, self._part)

    def _ns(self, ms: float) -> int:
        return min(self._zero + round(_possible(ms) * _NS_PER_MS), _LATEST_NS)


def _plannings(calls: Iterable[Call]) -> Iterator[list[Call]]:
    """Give the calls of each planning; a plan may take several, a change of it takes one."""
    for purpose, group in groupby(calls, key=lambda call: call.purpose):
        if purpose == "plan":
            yield list(group)
        else:
            yield from ([call] for call in group)


def _last_steps(steps: Sequence[StepTrace]) -> list[StepTrace]:
    """Give the steps that no other builds on."""
    needed = {need for step in steps for need in step.depends_on}
    return [step for step in steps if step.id not in needed]


def _node(step_id: int) -> str:
    return f"step-{step_id}"


def _has_failed(attempt: Attempt) -> bool:
    return attempt.outcome not in ("ok", "running")


def _begin(call: Call) -> float:
    return 0.0 if is_kept(call) else call.started_ms


def _end(call: Call) -> float:
    """Give when a call ended; what was kept took no time of this run."""
    return 0.0 if is_kept(call) else call.started_ms + call.ms


def _step_times(step: StepTrace, *, voided: bool) -> tuple[float, float]:
    """Give when a step ran; one that never did stands where it was planned."""
    start, end = step.started_ms, step.finished_ms
    if start is None:
        start = end = step.planned_ms or 0.0
    elif end is None and voided:  # it was broken off: where what is known of it ends
        end = max([start, step.retrieved_ms or start, *map(_end, step.calls)])
    return start, _LONGEST_MS if end is None else end


def _last_ms(trace: Trace) -> float:
    """Give when the last of what a trace tells ended; a run that was left told no length."""
    times = [trace.usage.wall_ms, *map(_end, trace.calls())]
    for step in (*trace.steps, *trace.voided):
        times += [ms for ms in (step.started_ms, step.retrieved_ms, step.finished_ms) if ms]
        times += [use.started_ms + use.ms for use in step.tools if not use.from_journal]
    return max(map(_possible, times))


def _possible(ms: float) -> float:
    return min(max(ms, 0.0), _LONGEST_MS) if isfinite(ms) else 0.0


def _nanoseconds(written: str) -> int:
    """Give a time in nanoseconds since 1970; the start of 1970 for what is no time."""
    try:
        told = datetime.fromisoformat(written)
    except ValueError:
        return 0
    moment = told if told.tzinfo else told.replace(tzinfo=UTC)
    return max(0, round((moment - _EPOCH).total_seconds() * 1_000)) * _NS_PER_MS
