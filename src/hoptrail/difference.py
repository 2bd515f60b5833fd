"""What differs between two steps, and between two runs, as somebody would tell it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict

from hoptrail.change import Change
from hoptrail.characters import whole
from hoptrail.evidence import Citation
from hoptrail.plan import fill
from hoptrail.request import EarlierAnswer
from hoptrail.trace import Call, StepTrace, ToolUse, Trace, TracedEvidence

_BY_HAND = "somebody by hand"
"""Who answered a step whose answer was given."""
_OF_BOTH = ("asked", "planned by", "answered by", "written by")
"""Where only one run has it, another difference says why."""
_OF_A_CALL = ("context", "retrieval", "embedding space", "degraded")
"""They say nothing of a step that was never asked."""

Text = Annotated[str, AfterValidator(whole)]
"""It can always be sent: a trace made by hand may hold half characters."""

Places = Mapping[int, int]
"""The place in the story of each step, by its id: the same for the same step of both runs."""


class Difference(BaseModel):
    """One thing that is told as ``before`` in the first run and as ``after`` in the second."""

    model_config = ConfigDict(frozen=True)

    name: str
    before: Text
    after: Text


class EvidenceDifference(BaseModel):
    """A passage that only one of two steps was given, or that only one of them cited.

    A ``rank`` is None where the passage was not given; of a citation it is the number of its
    mark: ``[1]``. ``rewritten`` says that the passage of this id holds another text. That
    another rank alone is no difference, a passage is looked for wherever it stands.
    """

    model_config = ConfigDict(frozen=True)

    passage_id: Text
    title: Text
    source: Text
    before_rank: int | None
    after_rank: int | None
    before_cited: bool
    after_cited: bool
    rewritten: bool = False


def run_differences(before: Trace, after: Trace) -> list[Difference]:
    """Give what differs between two runs as wholes, causes first."""
    found = _differences(_facts_of_run(before), _facts_of_run(after))
    told = _has_made_its_plan(before) and _has_made_its_plan(after)
    return [each for each in found if told or each.name != "plan"]


def step_differences(
    before: StepTrace, after: StepTrace, ours: Places, theirs: Places
) -> list[Difference]:
    """Give what differs between two steps beside their evidence, causes first."""
    found = _differences(_facts_of_step(before, ours), _facts_of_step(after, theirs))
    silent = () if before.calls and after.calls else _OF_A_CALL
    planned = [(each.before, each.after) for each in found if each.name == "question"]
    # Where no reference was filled in, it would be told twice.
    twice = [
        each for each in found if each.name == "asked" and (each.before, each.after) in planned
    ]
    return [each for each in found if each not in twice and each.name not in silent]


def evidence_differences(
    before: Sequence[TracedEvidence], after: Sequence[TracedEvidence], same: Mapping[str, str]
) -> list[EvidenceDifference]:
    """Give the passages lost, gained, and no longer or newly cited; ``same`` maps their ids."""
    ours, theirs = _by_passage(before, {}), _by_passage(after, same)
    pairs = ((ours.get(key), theirs.get(key)) for key in _all(ours, theirs))
    return [told for pair in pairs if (told := _evidence_difference(*pair))]


def citation_differences(
    before: Sequence[Citation], after: Sequence[Citation], same: Mapping[str, str]
) -> list[EvidenceDifference]:
    """Give the passages that only one of two answers cites."""
    ours, theirs = _by_mark(before, {}), _by_mark(after, same)
    return [
        _citation_difference(ours.get(key), theirs.get(key))
        for key in _all(ours, theirs)
        if (key in ours) != (key in theirs)
    ]


def answerers(calls: Iterable[Call]) -> str:
    """Say which models answered, in order, each once: ``ollama:qwen3:8b``."""
    names = [
        f"{call.backend}:{call.model}"
        if call.model and call.model != call.backend
        else call.backend
        for call in calls
        if call.backend
    ]
    return ", ".join(dict.fromkeys(names))


_Marked = tuple[int, Citation]
"""A citation and the number of its mark."""


class _Fact(NamedTuple):
    """What is told of a run or a step; ``compared`` is another form in which it is compared."""

    name: str
    told: str
    compared: Hashable = None


def _differences(before: Iterable[_Fact], after: Iterable[_Fact]) -> list[Difference]:
    return [
        Difference(name=ours.name, before=ours.told, after=theirs.told)
        for ours, theirs in zip(before, after, strict=True)
        if _differ(ours, theirs)
    ]


def _differ(ours: _Fact, theirs: _Fact) -> bool:
    if ours.told == theirs.told or (ours.name in _OF_BOTH and not (ours.told and theirs.told)):
        return False
    return (ours.compared or ours.told) != (theirs.compared or theirs.told)


def _has_made_its_plan(trace: Trace) -> bool:
    """Say whether where the plan is from tells how it came about: not if it was taken over."""
    return trace.plan.source != "journal" and not trace.parent_run_id


def _facts_of_run(trace: Trace) -> list[_Fact]:
    return [
        _Fact("change", _change(trace.change)),
        _Fact("question", trace.question),
        _Fact("graph", trace.graph),
        _Fact("documents", trace.documents),
        _Fact("models", trace.model_policy),
        _Fact("budget", _listed(trace.budget)),
        _Fact("planned by", answerers(trace.plan.calls)),
        _Fact("plan", trace.plan.source),
        _Fact("plan repairs", "; ".join(trace.plan.repairs)),
        _Fact("written by", answerers(trace.synthesis)),
        _Fact("answer", trace.answer),
        _Fact("short answer", trace.short_answer),
        _Fact("status", trace.status),
        _Fact("stop reason", trace.stop_reason),
        _Fact("degraded", _yes(trace.degraded)),
        _Fact("error", trace.error),
        _Fact("warnings", "; ".join(trace.warnings)),
        _Fact("versions", _listed(trace.versions)),
    ]


def _facts_of_step(step: StepTrace, places: Places) -> list[_Fact]:
    named = {step_id: f"\0{place}\0" for step_id, place in places.items()}
    question = " ".join(fill(step.question, named).split())
    needs = sorted(set(step.depends_on))
    known = {(places.get(each.id, -each.id), each.reason, each.answer) for each in step.earlier}
    return [
        _Fact("question", step.question, question),
        _Fact("needs", ", ".join(map(str, needs)), frozenset(places.get(n, -n) for n in needs)),
        _Fact("context", "; ".join(map(_known, step.earlier)), frozenset(known)),
        _Fact("asked", step.asked),
        _Fact("retrieval", step.retrieval_mode),
        _Fact("embedding space", step.embedding_space or ""),
        _Fact("answered by", _BY_HAND if step.given else answerers(step.calls)),
        _Fact("tools", "; ".join(map(_tool, step.tools))),
        _Fact("answer", step.answer),
        _Fact("status", step.status),
        _Fact("degraded", _yes(step.degraded)),
        _Fact("error", step.error),
        _Fact("warnings", "; ".join(step.warnings)),
    ]


def _known(earlier: EarlierAnswer) -> str:
    place = f"step {earlier.id}" if earlier.id else earlier.reason
    similar = " (similar)" if earlier.reason == "similar" else ""
    return f"{place}{similar}: {earlier.answer}"


def _tool(use: ToolUse) -> str:
    return f"{use.written} → {use.error or use.output}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _listed(values: Mapping[str, object]) -> str:
    told = sorted((name, value) for name, value in values.items() if value is not None)
    return ", ".join(f"{name} {value}" for name, value in told)


def _change(change: Change | None) -> str:
    if change is None:
        return ""
    told = {
        "answer": change.answer,
        "question": change.question,
        "model": change.model,
        "pinned": ", ".join(change.pinned),
        "banned": ", ".join(change.banned),
    }
    where = f"step {change.step}, " if change.step is not None else ""
    return where + "; ".join(f"{name}: {value}" for name, value in told.items() if value)


def _by_passage(
    evidence: Iterable[TracedEvidence], same: Mapping[str, str]
) -> dict[str, TracedEvidence]:
    found: dict[str, TracedEvidence] = {}
    for item in evidence:
        found.setdefault(same.get(item.passage.id, item.passage.id), item)
    return found


def _by_mark(citations: Iterable[Citation], same: Mapping[str, str]) -> dict[str, _Marked]:
    found: dict[str, _Marked] = {}
    for number, citation in enumerate(citations, start=1):
        found.setdefault(same.get(citation.passage_id, citation.passage_id), (number, citation))
    return found


def _all(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    return list(dict.fromkeys((*ours, *theirs)))


def _evidence_difference(
    ours: TracedEvidence | None, theirs: TracedEvidence | None
) -> EvidenceDifference | None:
    told = theirs or ours
    assert told is not None  # it is in one of them
    rewritten = bool(ours and theirs and ours.passage.text != theirs.passage.text)
    if ours and theirs and ours.cited == theirs.cited and not rewritten:
        return None
    return EvidenceDifference(
        passage_id=told.passage.id,
        title=told.passage.title,
        source=told.passage.source,
        before_rank=ours.rank if ours else None,
        after_rank=theirs.rank if theirs else None,
        before_cited=bool(ours and ours.cited),
        after_cited=bool(theirs and theirs.cited),
        rewritten=rewritten,
    )


def _citation_difference(ours: _Marked | None, theirs: _Marked | None) -> EvidenceDifference:
    told = theirs or ours
    assert told is not None  # it is in one of them
    return EvidenceDifference(
        passage_id=told[1].passage_id,
        title=told[1].title,
        source=told[1].source,
        before_rank=ours[0] if ours else None,
        after_rank=theirs[0] if theirs else None,
        before_cited=ours is not None,
        after_cited=theirs is not None,
    )
