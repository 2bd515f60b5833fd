"""Progress: how far a question's own plan has come, whoever asked its steps, in whatever order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hoptrail.plan import fill, references
from hoptrail.providers.extractive.rewording import rewordings
from hoptrail.request import StepOutcome


class Progress(NamedTuple):
    """The answered look-ups of a plan by their number, and the question to ask next, if any."""

    answered: dict[int, StepOutcome]
    following: str | None


def progress(planned: Sequence[str], steps: Sequence[StepOutcome]) -> Progress:
    """Give what of a plan is answered, and what of it can be asked now.

    A look-up that found nothing is asked once more, in other words. When that finds nothing
    either there is nothing to follow: each look-up of our plans is needed.
    """
    asked = {_form(step.question): step for step in steps}
    answered: dict[int, StepOutcome] = {}
    for number, look_up in enumerate(planned, start=1):
        if not set(references(look_up)) <= answered.keys():
            return Progress(answered, None)
        question = fill(look_up, {known: step.answer for known, step in answered.items()})
        for form in (question, *rewordings(question)[:1]):
            found = asked.get(_form(form))
            if found is None:
                return Progress(answered, form)
            if found.status == "answered":
                answered[number] = found
                break
        else:
            return Progress(answered, None)
    return Progress(answered, None)


def _form(question: str) -> str:
    return " ".join(question.casefold().split())
