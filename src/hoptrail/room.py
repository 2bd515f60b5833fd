"""Room in a prompt: what is told of steps and passages, cut to what a model can read at once."""

from __future__ import annotations

from collections.abc import Sequence

from hoptrail.evidence import Evidence
from hoptrail.prompts import passage_line
from hoptrail.request import StepOutcome
from hoptrail.tokens import WEIGHT_OF_TOKEN, beginning, cut, weight

_INSTRUCTIONS = 3_000
"""The weight of what a prompt says on its own, at most."""
_LEAST_ROOM = 2_000
_AROUND_LINE = 24
"""The weight of a line's number, and of the marks of a passage or two."""
_LEAST_OF_STEP = 120
_TITLE_SHARE = 4


def room_beside(question: str, tokens: int) -> int:
    """Give the weight that is left in a prompt of so many tokens, which holds a question."""
    return max(_LEAST_ROOM, tokens * WEIGHT_OF_TOKEN - weight(question) - _INSTRUCTIONS)


def weight_of_steps(steps: Sequence[StepOutcome]) -> int:
    """Give the weight of the lines that tell how steps ended."""
    return sum(weight(step.question) + weight(step.answer) + _AROUND_LINE for step in steps)


def steps_within(steps: Sequence[StepOutcome], room: int) -> tuple[StepOutcome, ...]:
    """Give how steps ended in at most this weight: the newest, all their texts cut alike."""
    if weight_of_steps(steps) <= room:
        return tuple(steps)
    kept = steps[-max(1, room // _LEAST_OF_STEP) :]
    share = (room // len(kept) - _AROUND_LINE) // 2
    return tuple(
        step.model_copy(
            update={"question": cut(step.question, share), "answer": cut(step.answer, share)}
        )
        for step in kept
    )


def newest_within(evidence: Sequence[Evidence], room: int) -> tuple[Evidence, ...]:
    """Give as many of some passages as have room, the last ones first, in their order."""
    kept: list[Evidence] = []
    for item in reversed(evidence):
        heavy = weight(passage_line(item)) + _AROUND_LINE
        if heavy > room:
            break
        room -= heavy
        kept.append(item)
    return tuple(reversed(kept))


def best_within(evidence: Sequence[Evidence], room: int, shortest: int) -> tuple[Evidence, ...]:
    """Give as many of some passages as have room, the first ones first.

    The first is given in any case, cut to what is left or to the weight ``shortest``: a step
    without any passage could only abstain.
    """
    kept: list[Evidence] = []
    for item in evidence:
        heavy = weight(passage_line(item))
        if heavy > room:
            return tuple(kept) or (_cut(item, max(room, shortest)),)
        room -= heavy
        kept.append(item)
    return tuple(kept)


def _cut(item: Evidence, heaviest: int) -> Evidence:
    passage = item.passage
    title = beginning(passage.title, heaviest // _TITLE_SHARE)
    text = beginning(passage.text, heaviest)
    if (title, text) == (passage.title, passage.text):
        return item
    end = passage.start + len(text)
    short = passage.model_copy(update={"title": title, "text": text, "end": end})
    return item.model_copy(update={"passage": short})
