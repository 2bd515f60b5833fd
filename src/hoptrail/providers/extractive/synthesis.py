"""Synthesis without a model: the last step's answer, or what two steps' answers decide."""

from __future__ import annotations

from collections.abc import Sequence

from hoptrail.prompts import UNANSWERABLE
from hoptrail.providers.extractive.comparison import Comparison, comparison
from hoptrail.providers.extractive.plan_progress import progress
from hoptrail.providers.extractive.planner import split
from hoptrail.providers.extractive.statement import stated
from hoptrail.request import StepOutcome, SynthesisRequest

_MOST_STEPS = 64


def conclude(request: SynthesisRequest) -> str:
    """Give the final text: the short answer with its citations, then how it follows.

    It starts with ``UNANSWERABLE:`` and names the missing fact when a needed step found none.
    """
    known = len(request.evidence)
    compared = comparison(request.question)
    if compared:
        return _decided(compared, request, known)
    if not request.steps:
        return f"{UNANSWERABLE} nothing was looked up."
    last = request.steps[-1]
    if last.status != "answered":
        return _missing(request.steps)
    return f"{last.answer} {_marks([last], known)}".strip() + "\n\n" + _trail(request.steps, known)


def _decided(compared: Comparison, request: SynthesisRequest, known: int) -> str:
    sides = _ends(compared, request)
    if sides is None:
        return _missing(request.steps)
    verdict = compared.decide([[step.answer for step in side] for side in sides])
    used = [step for side in sides for step in side]
    if verdict is None:
        values = " and ".join(f"‘{step.answer}’" for step in used)
        return f"{UNANSWERABLE} {values} do not decide it."
    return f"{verdict} {_marks(used, known)}".strip() + "\n\n" + _trail(request.steps, known)


def _ends(compared: Comparison, request: SynthesisRequest) -> list[list[StepOutcome]] | None:
    """Give, for each side, the steps whose answers are compared, or None when one is missing.

    When the plan is not the one that our own rules make, the last answers are taken, in order.
    """
    steps = request.steps
    own = split(request.question, _MOST_STEPS)
    found = progress(own.steps, steps).answered
    if all(end in found for side in own.ends for end in side):
        return [[found[end] for end in side] for side in own.ends]
    per_side = len(compared.templates)
    if len(steps) >= len(own.steps) and _planned_here(own.steps, steps):
        spare = [step for step in steps[len(own.steps) :] if step.status == "answered"]
        waiting = [end for side in own.ends for end in side if steps[end - 1].status != "answered"]
        late = dict(zip(reversed(waiting), reversed(spare), strict=False))
        if len(late) < len(set(waiting)):
            return None
        return [[late.get(end) or steps[end - 1] for end in side] for side in own.ends]
    answered = [step for step in steps if step.status == "answered"][-2 * per_side :]
    if len(answered) < 2 * per_side:
        return None
    return [answered[:per_side], answered[per_side:]]


def _planned_here(own: Sequence[str], steps: Sequence[StepOutcome]) -> bool:
    """Whether the steps without references are ours, word for word."""
    pairs = zip(own, steps, strict=False)
    return all(step.question == asked for asked, step in pairs if "#" not in asked)


def _trail(steps: Sequence[StepOutcome], known: int) -> str:
    found = [step for step in steps if step.status == "answered"]
    said = (f"{stated(step.question, step.answer)} {_marks([step], known)}" for step in found)
    return " ".join(f"{each.strip()}." for each in said)


def _missing(steps: Sequence[StepOutcome]) -> str:
    missing = next((step for step in steps if step.status != "answered"), None)
    what = missing.question if missing else "an answer for each side of the comparison"
    return f"{UNANSWERABLE} the documents do not say: {what}"


def _marks(steps: Sequence[StepOutcome], known: int) -> str:
    numbers = dict.fromkeys(number for step in steps for number in step.passages)
    return "".join(f"[{number}]" for number in numbers if 1 <= number <= known)
