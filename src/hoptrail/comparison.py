"""Two runs side by side: what differs first, step by step, in evidence, answers, time, tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from pydantic import BaseModel, ConfigDict

from hoptrail.alignment import Positions, aligned_steps, same_passages
from hoptrail.difference import (
    Difference,
    EvidenceDifference,
    Places,
    Text,
    citation_differences,
    evidence_differences,
    run_differences,
    step_differences,
)
from hoptrail.trace import Call, StepTrace, Trace

Related = Literal["", "child", "parent", "sibling"]


class StepComparison(BaseModel):
    """A step of the one run beside that of the other; one of the ids is None if it has no match.

    ``question`` is as it was planned (in the second run, if that has the step). ``kept`` says
    that the second run took the step over from the first, unchanged.
    """

    model_config = ConfigDict(frozen=True)

    before: int | None
    after: int | None
    question: Text
    kept: bool = False
    differences: tuple[Difference, ...] = ()
    evidence: tuple[EvidenceDifference, ...] = ()

    @property
    def same(self) -> bool:
        """Whether both runs have it, and nothing differs."""
        both = self.before is not None and self.after is not None
        return both and not (self.differences or self.evidence)


class Measure(BaseModel):
    """A number of both runs: milliseconds, calls or tokens, as its ``name`` says."""

    model_config = ConfigDict(frozen=True)

    name: str
    before: float
    after: float


class Comparison(BaseModel):
    """The run ``before`` beside the run ``after``.

    ``related`` is ``child`` when the second was forked from the first, ``parent`` the other way
    round, ``sibling`` when both have one parent, else empty. ``first`` says in a sentence what
    differs first, in the order in which a run goes; it is empty when nothing does.
    """

    model_config = ConfigDict(frozen=True, title="Hoptrail comparison")

    before: Text
    after: Text
    related: Related = ""
    first: Text = ""
    differences: tuple[Difference, ...] = ()
    steps: tuple[StepComparison, ...] = ()
    citations: tuple[EvidenceDifference, ...] = ()
    measures: tuple[Measure, ...] = ()


@dataclass(frozen=True)
class _Beside:
    """A step of each run, or of one of them, and how they compare."""

    ours: StepTrace | None
    theirs: StepTrace | None
    compared: StepComparison

    @property
    def any(self) -> StepTrace:
        """The step of the second run, if that has it."""
        step = self.theirs or self.ours
        assert step is not None  # it is in one of them
        return step


def compare(before: Trace, after: Trace) -> Comparison:
    """Put two runs side by side; either may still be going."""
    same = same_passages(before, after)
    steps = list(_beside(before, after, same))
    differences = run_differences(before, after)
    citations = citation_differences(before.citations, after.citations, same)
    told = _told(before, after, differences, steps, citations)
    return Comparison(
        before=before.run_id,
        after=after.run_id,
        related=_related(before, after),
        first=next(told, ""),
        differences=tuple(differences),
        steps=tuple(step.compared for step in steps),
        citations=tuple(citations),
        measures=tuple(_measures(before, after)),
    )


def _related(before: Trace, after: Trace) -> Related:
    ours, theirs = before.parent_run_id, after.parent_run_id
    if theirs and theirs == before.run_id:
        return "child"
    if ours and ours == after.run_id:
        return "parent"
    return "sibling" if ours and ours == theirs and before.run_id != after.run_id else ""


def _beside(before: Trace, after: Trace, same: Mapping[str, str]) -> Iterator[_Beside]:
    positions = aligned_steps(before, after)
    places = _places(before, 0, positions), _places(after, 1, positions)
    for here, there in positions:
        ours = None if here is None else before.steps[here]
        theirs = None if there is None else after.steps[there]
        if ours and theirs:
            compared = StepComparison(
                before=ours.id,
                after=theirs.id,
                question=theirs.question,
                kept=_kept(before, after, ours, theirs),
                differences=tuple(step_differences(ours, theirs, *places)),
                evidence=tuple(evidence_differences(ours.evidence, theirs.evidence, same)),
            )
            yield _Beside(ours, theirs, compared)
        elif ours:
            alone = StepComparison(before=ours.id, after=None, question=ours.question)
            yield _Beside(ours, None, alone)
        elif theirs:
            alone = StepComparison(before=None, after=theirs.id, question=theirs.question)
            yield _Beside(None, theirs, alone)


def _places(trace: Trace, side: Literal[0, 1], positions: Sequence[Positions]) -> Places:
    """Give the place of each step by its id; of several with one id the first has it."""
    at = {pair[side]: place for place, pair in enumerate(positions)}
    places: dict[int, int] = {}
    for position, step in enumerate(trace.steps):
        places.setdefault(step.id, at[position])
    return places


def _kept(before: Trace, after: Trace, ours: StepTrace, theirs: StepTrace) -> bool:
    """Say whether one took it over from the other, or both from the same run."""
    if theirs.from_run and theirs.from_run in (before.run_id, ours.from_run):
        return True
    return bool(ours.from_run) and ours.from_run == after.run_id


def _measures(before: Trace, after: Trace) -> Iterator[Measure]:
    for name, measured in _MEASURES.items():
        ours, theirs = _finite(measured(before)), _finite(measured(after))
        yield Measure(name=name, before=ours, after=theirs)


def _finite(value: float) -> float:
    """Give a number that JSON can hold; a damaged trace may have any."""
    try:
        number = float(value)
    except OverflowError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _wall_ms(trace: Trace) -> float:
    """Give how long it took; a run that has not ended, how far it has come."""
    return trace.usage.wall_ms or max((step.finished_ms or 0.0 for step in trace.steps), default=0)


def _paid(trace: Trace) -> list[Call]:
    """Give the calls that a language model answered for this run."""
    calls = (call for call in trace.calls() if call.backend)
    return [call for call in calls if not (call.from_journal or call.degraded)]


_MEASURES: dict[str, Callable[[Trace], float]] = {
    "wall time ms": _wall_ms,
    "critical path ms": Trace.critical_path_ms,
    "LLM calls paid": lambda trace: len(_paid(trace)),
    "calls kept": lambda trace: sum(call.from_journal for call in trace.calls()),
    "input tokens": lambda trace: sum(call.input_tokens for call in _paid(trace)),
    "output tokens": lambda trace: sum(call.output_tokens for call in _paid(trace)),
    "steps": lambda trace: len(trace.steps),
    "passages given": lambda trace: sum(len(step.evidence) for step in trace.steps),
    "passages cited": lambda trace: len({each.passage_id for each in trace.citations}),
}


_LONGEST_QUOTE = 100
_MOST_NAMED = 3
_UNFINISHED = ("running", "interrupted", "failed")

_BEGUN = {
    "question": "Another question was asked:",
    "graph": "Another graph answered:",
    "documents": "Other documents were searched:",
    "models": "Other models were to be asked:",
    "budget": "Other limits were set:",
    "planned by": "The plan was made by",
}
_ENDED = {
    "written by": "The answer was written by",
    "stop reason": "The runs stopped for different reasons:",
    "status": "The runs ended differently:",
    "answer": "The answers differ:",
    "short answer": "The short answers differ:",
}
_PLANNED = {"question": "asks", "needs": "rests on step"}
_ASKED = {
    "question": "asks something else:",
    "needs": "rests on other steps:",
    "context": "was told other answers:",
    "asked": "was asked something else:",
    "retrieval": "was searched for in another way:",
    "embedding space": "was searched for in another embedding space:",
}
_ANSWERED = {
    "answered by": "was answered by",
    "tools": "used tools differently:",
    "status": "ended differently:",
    "answer": "was answered differently:",
}
"""What is told of a run and of a step, in the order in which it comes about."""


def _told(
    before: Trace,
    after: Trace,
    differences: Iterable[Difference],
    steps: Sequence[_Beside],
    citations: Sequence[EvidenceDifference],
) -> Iterator[str]:
    """Tell what differs in the order in which runs go, so that causes precede effects."""
    run = {each.name: each for each in differences}
    yield from _in_turn("", _BEGUN, run)
    # What an unfinished run lacks is no difference of its plan: it may have been yet to come.
    known = [each for each in steps if not _yet_to_come(each, before, after)]
    if before.graph == after.graph == "multi-hop":
        ahead = (each for each in known if not each.any.round)
        yield from chain.from_iterable(map(_planned, ahead))
    yield from chain.from_iterable(map(_went, known))
    yield from _failed("The {} run failed:", run)
    yield from _in_turn("", _ENDED, run)
    if citations:
        yield f"The answers cite other passages: {_cited(citations)}."
    yield from chain.from_iterable(map(_went, steps))
    yield from (_instead(f"They differ in their {name}:", each) for name, each in run.items())


def _yet_to_come(each: _Beside, before: Trace, after: Trace) -> bool:
    lacks_it = before if each.ours is None else after if each.theirs is None else None
    return lacks_it is not None and lacks_it.status in _UNFINISHED


def _planned(each: _Beside) -> Iterator[str]:
    """Tell how the plans differ in a step, where all steps are planned before any is asked."""
    found = {told.name: told for told in each.compared.differences}
    for told in chain(_alone(each), _in_turn(f"{_name(each)} ", _PLANNED, found)):
        yield f"The plans differ: {told[0].lower()}{told[1:]}"


def _went(each: _Beside) -> Iterator[str]:
    """Tell how a step went, what it was told first and what it answered last."""
    name, evidence = f"{_name(each)} ", each.compared.evidence
    found = {told.name: told for told in each.compared.differences}
    yield from _alone(each)
    if "answer" in found and each.theirs and each.theirs.given:
        yield _instead(f"{name}was given another answer:", found["answer"])
    elif "answer" in found and each.ours and each.ours.given:
        yield _instead(f"{name}was not given its answer:", found["answer"])
    yield from _in_turn(name, _ASKED, found)
    if changes := _found(evidence):
        yield f"{name}found other passages: {changes}."
    yield from _failed(f"{name}failed in the {{}} run:", found)
    yield from _in_turn(name, _ANSWERED, found)
    if evidence:
        yield f"{name}cites other passages: {_cited(evidence)}."
    yield from (_instead(f"{name}differs in its {told.name}:", told) for told in found.values())


def _alone(each: _Beside) -> Iterator[str]:
    if not (each.ours and each.theirs):
        which = "first" if each.ours else "second"
        yield f"Only the {which} run asks {_quoted(each.any.question)}."


def _name(each: _Beside) -> str:
    ours, theirs = each.compared.before, each.compared.after
    return f"Step {theirs}" if ours == theirs else f"Step {theirs} (step {ours} before)"


def _in_turn(
    subject: str, leads: Mapping[str, str], found: Mapping[str, Difference]
) -> Iterator[str]:
    for name, lead in leads.items():
        if name in found:
            yield _instead(f"{subject}{lead}", found[name])


def _failed(lead: str, found: Mapping[str, Difference]) -> Iterator[str]:
    each = found.get("error")
    if each and each.before and each.after:
        yield _instead(lead.format("second"), each)
    elif each:
        which = "second" if each.after else "first"
        yield f"{lead.format(which)} {_quoted(each.after or each.before)}."


def _instead(lead: str, each: Difference) -> str:
    return f"{lead} {_quoted(each.after)} instead of {_quoted(each.before)}."


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    if len(line) > _LONGEST_QUOTE:
        line = line[: _LONGEST_QUOTE - 1].rstrip() + "…"
    return f"“{line}”" if line else "nothing"


def _found(evidence: Sequence[EvidenceDifference]) -> str:
    return _changes(
        {
            "lost": [each for each in evidence if each.after_rank is None],
            "gained": [each for each in evidence if each.before_rank is None],
            "another text of": [each for each in evidence if each.rewritten],
        }
    )


def _cited(evidence: Sequence[EvidenceDifference]) -> str:
    return _changes(
        {
            "no longer": [each for each in evidence if not each.after_cited],
            "now": [each for each in evidence if not each.before_cited],
        }
    )


def _changes(changes: Mapping[str, Sequence[EvidenceDifference]]) -> str:
    return "; ".join(f"{what} {_named(passages)}" for what, passages in changes.items() if passages)


def _named(passages: Sequence[EvidenceDifference]) -> str:
    names = [" ".join(each.passage_id.split()) for each in passages[:_MOST_NAMED]]
    more = len(passages) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
