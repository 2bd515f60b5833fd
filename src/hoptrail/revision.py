"""Revision: what found nothing is asked differently, or by another way round."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from hoptrail.errors import HoptrailError, StorageFailed
from hoptrail.loose_json import read_json
from hoptrail.plan import Step, read_plan
from hoptrail.planning import Voided, enter_step, kept_plan, note_repairs
from hoptrail.request import RevisionRequest
from hoptrail.run import Key, Run
from hoptrail.synthesis import told_steps
from hoptrail.trace import StepTrace


async def revise_plan(run: Run, round_: int) -> None:
    """Enter new steps for what is still missing into the run's trace; there may be none.

    A revision that cannot be had is a warning, not an error: what was found still stands.
    """
    steps = run.trace.steps
    first, room = len(steps) + 1, run.parts.budget.max_steps - len(steps)
    key = revision_key(run.key, round_, steps)
    try:
        text = await _revision_text(run, first, room, key)
    except StorageFailed:
        raise  # it may have been had, and would be paid for once more
    except HoptrailError as error:
        run.trace.warnings.append(f"no revision of the plan: {error}")
        return
    if read_json(text) == {"steps": []}:
        return
    known = [step.id for step in steps if step.status == "answered"]
    plan = read_plan(text, run.trace.question, first_id=first, known=known, max_steps=room)
    note_repairs(run, plan)
    kept = kept_plan(run, key)
    if kept is None and [step.question for step in plan.steps] == [run.trace.question]:
        return  # nothing new: it is what began the run, or a text that holds no plan
    for step in (kept or plan).steps:
        enter_step(run, step, round_)


async def steps_of_round(run: Run, round_: int) -> AsyncIterator[Step | Voided]:
    """Give the steps that a revision added."""
    for step in [step for step in run.trace.steps if step.round == round_]:
        yield Step(id=step.id, question=step.question, depends_on=tuple(step.depends_on))


def revision_key(key: Key, round_: int, steps: Sequence[StepTrace]) -> str:
    """Name the revision that begins a round, by how the steps before it ended."""
    found = [(step.id, step.asked or step.question, step.status, step.answer) for step in steps]
    return key("revision", round_, found)


async def _revision_text(run: Run, first: int, room: int, key: str) -> str:
    calls = run.trace.plan.calls
    if (earlier := run.recalled(key, calls)) is not None:
        return earlier.output
    request = RevisionRequest(
        question=run.trace.question,
        steps=told_steps(run),
        first_id=first,
        max_steps=room,
    )
    text = await run.ask("revision", request, calls)
    await run.keep(key, calls[-1].model_dump_json())
    return text
