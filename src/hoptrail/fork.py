"""A fork: a run that begins with all of another run's work that a change leaves as it is.

What is kept is computed from the parent's trace and named by content, as a resume looks for it
(`hoptrail.run.work_key`); it stands in the fork's journal before the fork begins. From there on a
fork is a run like any other: what it does not find is asked anew, and after a crash it is resumed
by its own id. The parent is only read.

A kept call's ``from_run`` is the run that made it, and paid for it: in a fork of a fork that may
be the parent's own parent. A given answer rests on nobody's passages: it has no evidence and no
citations, and stays given in every fork of the fork until its own step is changed.
"""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from hoptrail.change import Change
from hoptrail.errors import ChangeImpossible, RunBusy, RunOfAnother
from hoptrail.evidence import Passage
from hoptrail.inheritance import given_key, shown_key, step_key
from hoptrail.journal import Journal
from hoptrail.lineage import LINEAGE, Lineage, lineage_in
from hoptrail.next_step import needs_of, next_key
from hoptrail.parts import Parts, asking
from hoptrail.plan import Step, bare_pronoun, read_plan, references
from hoptrail.planning import KeptPlan, plan_key, steps_key
from hoptrail.revision import revision_key
from hoptrail.run import Key, work_key
from hoptrail.synthesis import synthesis_request, written_key
from hoptrail.trace import Call, StepTrace, Trace

LookUp = Callable[[Sequence[str]], Awaitable[Mapping[str, Passage]]]
"""Gives those of some passages, by id, that the documents hold."""

_ENDED = ("answered", "abstained")


@dataclass(frozen=True)
class Forked:
    """A fork that is ready to be run: what it asks, and by which graph."""

    question: str
    graph: str


async def fork_run(
    parts: Parts, parent_id: str, change: Change, run_id: str, look_up: LookUp
) -> Forked:
    """Commit a fork of a run to the journal, ready to be run as ``run_id``.

    The same fork, asked for again under the same id, is there already.

    Raises:
        RunNotFound: there is no such parent.
        RunBusy: the parent is still under way.
        ChangeImpossible: the change makes no sense for the parent.
        RunOfAnother: there is a run of this id that is not this fork.
    """
    journal = parts.journal
    parent, before = await journal.off_loop(_parent, journal, parent_id)
    _check(parent, change)
    lineage = Lineage(
        parent_run_id=parent_id,
        changes=(*(before.changes if before else ()), change),
        passages=await _passages(parts, parent, change, before, look_up),
        documents=parent.documents,
    )
    question = change.question if change.is_new_question and change.question else parent.question
    policy = asking(parts, lineage).policy
    seeds = _Seeds(parent, change, partial(work_key, question, policy), parts).all()
    lineage = lineage.model_copy(update={"entries": len(seeds) + 1})
    options: dict[str, object] = {
        "policy": policy,
        "documents": parts.documents,
        "graph": parent.graph,
        "parent_run_id": parent_id,
    }
    seeds[LINEAGE] = lineage.model_dump_json()
    await journal.off_loop(_commit, journal, run_id, question, options, seeds)
    return Forked(question, parent.graph)


def _parent(journal: Journal, run_id: str) -> tuple[Trace, Lineage | None]:
    if journal.run(run_id).status == "running":
        raise RunBusy(f"run {run_id} is still under way: what it did can be changed when it ends")
    return journal.trace(run_id), lineage_in(journal.entries(run_id))


def _commit(
    journal: Journal,
    run_id: str,
    question: str,
    options: dict[str, object],
    entries: dict[str, str],
) -> None:
    wanted, there = lineage_in(entries), lineage_in(journal.entries(run_id))
    if there is None or wanted is None:
        journal.fork(run_id, question, options, entries)
    elif (there.parent_run_id, there.changes) != (wanted.parent_run_id, wanted.changes):
        raise RunOfAnother(f"run {run_id} is another fork: this one needs another id")


# What a change must be


def _check(parent: Trace, change: Change) -> None:
    run_id = parent.run_id
    if parent.graph == "chat":
        raise ChangeImpossible(f"run {run_id} is a turn of a conversation, which has no fork")
    if change.is_new_question:
        return
    written = [call for call in parent.plan.calls if call.purpose == "plan"]
    if not parent.steps or (written and not written[-1].output):
        raise ChangeImpossible(f"run {run_id} ended before its plan was known: ask it anew")
    known = {step.id: step for step in parent.steps}
    if change.step is not None and change.step not in known:
        ids = ", ".join(map(str, known))
        raise ChangeImpossible(f"run {run_id} has no step {change.step}: its steps are {ids}")
    if change.step is not None and change.question is not None:
        _needed_by(parent, known[change.step], change.question)
    _check_effect(parent, change)


def _check_effect(parent: Trace, change: Change) -> None:
    """Refuse to do nothing but ban passages from steps that were not given them."""
    others = (change.answer, change.question, change.model, change.pinned or None)
    if change.banned and not any(others):
        changed = [step for step in parent.steps if _is_changed(step, change)]
        if not any(_held(step, change.banned) for step in changed):
            whose = "no step" if change.step is None else f"step {change.step}"
            which = "any" if change.step is None else "none"
            raise ChangeImpossible(f"{whose} was given {which} of these: nothing would differ")


def _held(step: StepTrace, passages: Sequence[str]) -> bool:
    made = {use.passage_id for use in step.tools}
    return any(
        item.passage.id in passages and item.passage.id not in made for item in step.evidence
    )


def _is_changed(step: StepTrace, change: Change) -> bool:
    """Say whether a step is to be asked anew, whatever the steps before it answer."""
    if change.step is not None:
        return step.id == change.step
    return bool(change.model or change.pinned) or _held(step, change.banned)


def _needed_by(parent: Trace, step: StepTrace, question: str) -> tuple[int, ...]:
    """Give the steps that a step needs when it asks another question.

    Raises:
        ChangeImpossible: the question refers to a step that does not come before.
    """
    before = [each for each in parent.steps if each.id < step.id]
    needs = references(question)
    if unknown := sorted(set(needs) - {each.id for each in before}):
        raise ChangeImpossible(
            f"the question of step {step.id} refers to #{unknown[0]}, which is no step before it"
        )
    if parent.graph == "iterative":
        return needs_of(Step(id=step.id, question=question, depends_on=needs), before)
    return needs or (tuple(step.depends_on) if bare_pronoun(question) else ())


async def _passages(
    parts: Parts, parent: Trace, change: Change, before: Lineage | None, look_up: LookUp
) -> tuple[Passage, ...]:
    """Give the passages pinned by a change and by those before it.

    Raises:
        ChangeImpossible: there is no such passage, or there are no documents.
    """
    known = {passage.id: passage for passage in (before.passages if before else ())}
    named = [*change.pinned, *change.banned]
    if not named:
        return tuple(known.values())
    if parts.search is None:
        raise ChangeImpossible("passages are pinned and banned where there are documents")
    # The documents hold a passage whole; a step may have been given a part of it.
    seen = {item.passage.id: item.passage for step in parent.steps for item in step.evidence}
    for step in parent.steps:
        for use in step.tools:
            seen.pop(use.passage_id, None)
    found = {**seen, **known, **await look_up(named)}
    if unknown := [name for name in named if name not in found]:
        raise ChangeImpossible(
            f"there is no passage {unknown[0]!r}, neither in run {parent.run_id} nor in the "
            "documents"
        )
    return tuple((known | {name: found[name] for name in change.pinned}).values())


# What is kept


class _Seeds:
    """The entries that a fork's journal begins with: each method gives some, key -> JSON."""

    def __init__(self, parent: Trace, change: Change, key: Key, parts: Parts) -> None:
        self._parent, self._change, self._key = parent, change, key
        self._tools, self._prompt_tokens = parts.tool_names, parts.prompt_tokens

    def all(self) -> dict[str, str]:
        """Give all that is kept."""
        if self._change.is_new_question:
            return {}
        chosen = self._choices() if self._parent.graph == "iterative" else self._plans()
        steps = [self._step(step) for step in self._parent.steps]
        return dict(ChainMap(chosen, *steps, self._synthesis()))

    def _plans(self) -> dict[str, str]:
        """Keep the plan and its revisions, and their steps as they were read."""
        parent, calls = self._parent, self._calls("plan")
        plan = self._as_planned(step for step in parent.steps if step.round == 0)
        if calls:
            most = int(parent.budget.get("max_steps") or len(plan.steps))
            read = read_plan(calls[-1].output, parent.question, max_steps=most)
            plan = plan.model_copy(update={"repairs": read.repairs, "left_out": read.left_out})
        kept = self._reply(plan_key(self._key), calls[-1:], plan)
        for round_, call in enumerate(self._calls("revision"), start=1):
            before = [step for step in parent.steps if step.round < round_]
            plan = self._as_planned(step for step in parent.steps if step.round == round_)
            kept |= self._reply(revision_key(self._key, round_, before), [call], plan)
        return kept

    def _choices(self) -> dict[str, str]:
        """Keep each choice of a step, and that there were enough."""
        steps, kept = self._parent.steps, dict[str, str]()
        # What begins without being chosen is the only step.
        calls = [] if self._parent.plan.source == "gate" else self._calls("next")
        for at in range(max(len(steps), len(calls))):
            plan = self._as_planned(steps[at : at + 1])
            kept |= self._reply(next_key(self._key, steps[:at]), calls[at : at + 1], plan)
        return kept

    def _reply(self, key: str, calls: Sequence[Call], plan: KeptPlan) -> dict[str, str]:
        """Keep what a model replied, if one was asked, and the steps that were read from it."""
        kept = {steps_key(key): plan.model_dump_json()} if plan.steps else {}
        if calls:
            kept[key] = self._kept_call(calls[-1]).model_dump_json()
        return kept

    def _as_planned(self, steps: Iterable[StepTrace]) -> KeptPlan:
        """Give steps as they were planned, or with another question if that is what is changed."""
        planned = tuple(map(self._planned, steps))
        source = self._parent.plan.source
        if self._change.question is not None and self._change.step in {each.id for each in planned}:
            source = "given"
        return KeptPlan(steps=planned, source=source if source in ("gate", "given") else "journal")

    def _planned(self, step: StepTrace) -> Step:
        question, needs = step.question, tuple(step.depends_on)
        if step.id == self._change.step and self._change.question is not None:
            question = self._change.question
            needs = _needed_by(self._parent, step, question)
        return Step(id=step.id, question=question, depends_on=needs)

    def _step(self, step: StepTrace) -> dict[str, str]:
        """Keep what a step was shown, and its answer: what was found, or is given."""
        kept: dict[str, str] = {}
        if step.asked and not step.given:
            similar = [known.id for known in step.earlier if known.reason == "similar"]
            kept[shown_key(self._key, step)] = json.dumps(similar)
        if step.id == self._change.step and self._change.answer is not None:
            given = _given(step, self._change.answer)
            return kept | {given_key(self._key, step): given.model_dump_json()}
        if step.given and step.id != self._change.step:
            return kept | {given_key(self._key, step): self._kept_step(step).model_dump_json()}
        ended = step.asked and step.status in _ENDED and step.finished_ms is not None
        if not ended or step.given or _is_changed(step, self._change):
            return kept
        key = step_key(self._key, step, self._tools)
        return kept | {key: self._kept_step(step).model_dump_json()}

    def _synthesis(self) -> dict[str, str]:
        """Keep the answer, for the case that all steps end as they did."""
        calls = self._calls("synthesis", self._parent.synthesis)
        if not calls or (self._change.step is None and self._change.model):
            return {}
        asked = synthesis_request(self._parent, self._prompt_tokens)
        key = written_key(self._key, asked)
        return {key: self._kept_call(calls[-1]).model_dump_json()}

    def _calls(self, purpose: str, of: Sequence[Call] | None = None) -> list[Call]:
        """Give the calls of a kind that were answered."""
        calls = self._parent.plan.calls if of is None else of
        return [call for call in calls if call.purpose == purpose and call.output]

    def _kept_step(self, step: StepTrace) -> StepTrace:
        calls = [self._kept_call(call) for call in step.calls]
        by = step.from_run or self._parent.run_id
        return step.model_copy(update={"calls": calls, "from_run": by})

    def _kept_call(self, call: Call) -> Call:
        return call.model_copy(update={"from_run": call.from_run or self._parent.run_id})


def _given(step: StepTrace, answer: str) -> StepTrace:
    return StepTrace(
        id=step.id,
        question=step.question,
        asked=step.asked or step.question,
        round=step.round,
        status="answered",
        given=True,
        answer=answer,
    )
