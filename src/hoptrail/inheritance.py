"""Inheritance: what a step of a fork takes over from its parent, and what holds it back.

A kept step is taken over when it would be asked with the same answers before it; so what a change
leads to is asked anew, and where an answer turns out as it was, what rests on it is kept. In a
run that is no fork nothing here has an effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import RootModel

from hoptrail.context import steered
from hoptrail.kept import kept_as
from hoptrail.parts import Parts
from hoptrail.run import Key, Run
from hoptrail.trace import StepTrace


def step_key(key: Key, step: StepTrace, tools: Sequence[str]) -> str:
    """Name the work on a step, by what it is asked."""
    return key("step", step.id, step.round, step.asked, *tools)


def given_key(key: Key, step: StepTrace) -> str:
    """Name the answer that somebody gave to a step, whatever it would be asked."""
    return key("given", step.id, step.round, step.question)


def shown_key(key: Key, step: StepTrace) -> str:
    """Name the list of the steps whose answers the parent showed to a step, being similar."""
    return key("shown", step.id, step.round, step.question)


class _Shown(RootModel[list[int]]):
    """The ids of them."""


def shown(run: Run, step: StepTrace) -> tuple[int, ...] | None:
    """Give the steps whose answers the parent showed to a step, being similar.

    A fork shows it no others: which answers there were in time is not what was changed. None
    means that the step is not one of the parent's.
    """
    kept = run.kept.get(shown_key(run.key, step))
    return None if kept is None else tuple(kept_as(_Shown, kept).root)


def awaited(run: Run, step: StepTrace) -> list[int]:
    """Give the steps that a step waits for though it does not refer to them.

    They are those that its parent's was shown, unless they now wait for this one.
    """
    known = {each.id: each for each in run.trace.steps}
    others = [each for each in shown(run, step) or () if each in known]
    return [each for each in others if not _waits_for(run, known, each, step.id)]


def holds(run: Run, record: StepTrace, kept: StepTrace) -> bool:
    """Say whether a kept step would be asked with the same answers before it.

    What an earlier attempt at this very run finished always holds.
    """
    if not kept.from_run:
        return True
    answers = {step.id: step.answer for step in run.trace.steps if step.status == "answered"}
    told = [known for known in kept.earlier if known.reason != "memory"]
    return kept.depends_on == record.depends_on and all(
        answers.get(known.id) == known.answer for known in told
    )


def parts_for(run: Run, step: StepTrace) -> Parts:
    """Give what a step is answered with: passages may be pinned to it, or banned from it."""
    parts, lineage = run.parts, run.lineage
    if lineage is None or parts.search is None:
        return parts
    search = steered(parts.search, lineage.pinned(step.id), lineage.banned(step.id))
    return replace(parts, search=search)


def _waits_for(run: Run, known: Mapping[int, StepTrace], step_id: int, for_id: int) -> bool:
    """Say whether a step can only be asked when another one has ended."""
    seen: set[int] = set()
    ahead = [step_id]
    while ahead:
        step = known.get(ahead.pop())
        if step is not None and step.id not in seen:
            seen.add(step.id)
            ahead += [*step.depends_on, *(shown(run, step) or ())]
    return for_id in seen
