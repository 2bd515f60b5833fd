"""The next step of a question, chosen from what the steps before it found."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Literal

from hoptrail.errors import BudgetExceeded
from hoptrail.events import PlanFinished
from hoptrail.loose_json import read_json
from hoptrail.plan import Step, bare_pronoun, fill, mentions, read_plan
from hoptrail.plan_text import items_of
from hoptrail.planning import Voided, enter_step, kept_plan
from hoptrail.reply import says_nothing
from hoptrail.request import NextStepRequest
from hoptrail.run import Key, Run
from hoptrail.synthesis import told_steps
from hoptrail.trace import StepTrace

Choice = Literal["step", "enough", "stopped"]
"""A step was chosen; what was found is said to suffice; or there is no way to go on."""


async def choose_step(run: Run) -> Choice:
    """Enter the next step into the run's trace, or say why there is none.

    Raises:
        HoptrailError: nobody could be asked; a budget that is spent is no error once there is
            something to answer from.
    """
    try:
        choice = await _choice(run)
    except BudgetExceeded:
        if not run.trace.steps:
            raise
        choice = "stopped"
    if choice != "step":
        made = run.trace.plan
        if made.source == "model" and all(call.from_journal for call in made.calls):
            made.source = "journal"
        run.tell(PlanFinished(tuple(made.repairs), made.source))
    return choice


async def chosen_steps(run: Run) -> AsyncIterator[Step | Voided]:
    """Give the steps that were chosen and have not ended: one."""
    for step in run.trace.steps:
        if step.finished_ms is None:
            yield Step(id=step.id, question=step.question, depends_on=tuple(step.depends_on))


async def _choice(run: Run) -> Choice:
    made, steps, question = run.trace.plan, run.trace.steps, run.trace.question
    if made.source == "gate":
        return "enough"
    key = next_key(run.key, steps)
    if (kept := kept_plan(run, key)) is not None:
        run.recalled(key, made.calls)
        made.source = made.source if kept.source == "journal" else kept.source
        enter_step(run, kept.steps[0])
        return "step"
    if not steps and run.parts.gate is not None and run.parts.gate(question):
        made.source = "gate"
        enter_step(run, Step(id=1, question=question))
        return "step"
    if len(steps) >= run.parts.budget.max_steps:
        run.ledger.stopped_by = run.ledger.stopped_by or "steps"
    if run.ledger.stopped_by is not None:
        return "stopped"
    text = await _reply(run, key)
    if steps and not _names_a_step(text):
        return _end(run, text)
    step = _new_step(run, text)
    if step is None:
        return "stopped"
    enter_step(run, step)
    return "step"


def next_key(key: Key, steps: Sequence[StepTrace]) -> str:
    """Name the choice of the step that comes after others, by how those ended."""
    found = [(step.asked or step.question, step.status, step.answer) for step in steps]
    return key("next", found)


async def _reply(run: Run, key: str) -> str:
    """Give what was chosen, kept before it is acted on: a resumed run goes the same way."""
    steps, made = run.trace.steps, run.trace.plan
    if (earlier := run.recalled(key, made.calls)) is not None:
        return earlier.output
    number = len(steps) + 1
    request = NextStepRequest(
        question=run.trace.question,
        steps=told_steps(run),
        next_id=number,
        left=run.parts.budget.max_steps - number,
        tools=run.parts.tool_names,
    )
    text = await run.ask("next", request, made.calls)
    await run.keep(key, made.calls[-1].model_dump_json())
    return text


def _names_a_step(text: str) -> bool:
    return any(item.text and not says_nothing(item.text) for item in items_of(text)[0])


def _end(run: Run, text: str) -> Choice:
    if isinstance(read_json(text), dict):
        return "enough"
    run.trace.plan.repairs.append(
        f"What was to come after step {len(run.trace.steps)} cannot be read: no more steps."
    )
    return "stopped"


def _new_step(run: Run, text: str) -> Step | None:
    """Give the first step of a text that can be asked now and was not asked before."""
    made, steps = run.trace.plan, run.trace.steps
    number = len(steps) + 1
    if not _names_a_step(text):
        made.source, text = "fallback", ""
    plan = read_plan(text, run.trace.question, first_id=number, known=range(1, number))
    made.repairs += plan.repairs
    asked = {_words(step.asked or step.question) for step in steps}
    answers = {step.id: step.answer for step in steps if step.status == "answered"}
    for step in plan.steps:
        can_be_asked = set(step.depends_on) <= answers.keys() and not says_nothing(step.question)
        if can_be_asked and _words(fill(step.question, answers)) not in asked:
            return Step(id=number, question=step.question, depends_on=needs_of(step, steps))
    made.repairs.append(
        f"Nothing new was to be asked after step {number - 1}, only: {plan.steps[0].question}"
    )
    return None


def needs_of(step: Step, steps: Sequence[StepTrace]) -> tuple[int, ...]:
    """Give those of the steps before whose answers a question refers to or names.

    What only says "he" or "there" means the last answer.
    """
    found = [each for each in steps if each.status == "answered"]
    named = {each.id for each in found if mentions(step.question, each.answer)}
    needs = {*step.depends_on, *named}
    if not needs and found and bare_pronoun(step.question):
        needs = {found[-1].id}
    return tuple(sorted(needs))


def _words(question: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", question.casefold()))
