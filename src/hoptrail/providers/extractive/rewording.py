"""Rewording: another way to ask for what was not found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from hoptrail.request import StepOutcome

_MORE: tuple[tuple[str, str], ...] = (
    (r"Who is the composer of (.+)\?", r"Who composed \1?"),
    (r"Who is the (?:author|writer) of (.+)\?", r"Who wrote \1?"),
    (r"Who is the director of (.+)\?", r"Who directed \1?"),
    (r"Who is the producer of (.+)\?", r"Who produced \1?"),
    (r"Who is the (?:performer|singer|artist) of (.+)\?", r"Who recorded \1?"),
    (r"Who is the (?:founder|creator) of (.+)\?", r"Who founded \1?"),
    (r"Who is the inventor of (.+)\?", r"Who invented \1?"),
    (r"Who is the discoverer of (.+)\?", r"Who discovered \1?"),
    (r"Who is the (?:designer|architect) of (.+)\?", r"Who designed \1?"),
    (r"Who is the painter of (.+)\?", r"Who painted \1?"),
    (r"Who is the owner of (.+)\?", r"Who owns \1?"),
    (r"Who is the (?:spouse|wife|husband) of (.+)\?", r"Who did \1 marry?"),
    (r"What is the (?:birthplace|place of birth|hometown) of (.+)\?", r"Where was \1 born?"),
    (r"In which \w+ was (.+) born\?", r"Where was \1 born?"),
    (r"Where was (.+) born\?", r"What is the birthplace of \1?"),
    (r"What is the place of death of (.+)\?", r"Where did \1 die?"),
    (r"What is the nationality of (.+)\?", r"Which country is \1 from?"),
    (r"Which country is (.+) from\?", r"What is the nationality of \1?"),
    (r"In which (\w+) is (.+) located\?", r"Which \1 is \2 in?"),
    (r"Which river (?:runs|flows) through (.+)\?", r"Which river does \1 lie on?"),
    (r"When was (.+) (?:founded|established|formed)\?", r"When was \1 created?"),
    (r"When was (.+) (?:released|published)\?", r"In which year did \1 come out?"),
    (r"How (?:high|tall) is (.+)\?", r"What is the height of \1?"),
    (r"How long is (.+)\?", r"What is the length of \1?"),
)
_LESS = (
    (r"\s*\([^()]*\)", ""),
    (r"\b(?:the\s+)?(?:film|movie|song|album|book|novel|opera|series)\s+(?=[\"“A-Z])", ""),
    (r",?\s+(?:in|during|after|before|since)\s+(?:\w+\s+){0,2}\d{4}(?=\?)", ""),
    (r"\b(?:first|last|current|former|famous|official|original)\s+", ""),
)
_REFERENCE = re.compile(r"#(\d+)")


def revised(steps: Sequence[StepOutcome], first_id: int, max_steps: int) -> list[str]:
    """Give new steps for those that found nothing, with the steps that waited for them.

    A step that cannot be asked in another way gives nothing, and neither do those that wait
    for it. Steps that an earlier revision has already replaced are left alone.
    """
    asked = {step.question for step in steps}
    new_ids: dict[int, int] = {step.id: step.id for step in steps if step.status == "answered"}
    found: list[str] = []
    replaced: set[str] = set()
    for step in steps:
        needs = [int(number) for number in _REFERENCE.findall(step.question)]
        form = _REFERENCE.sub("#", step.question)
        if step.status == "answered" or form in replaced or not all(n in new_ids for n in needs):
            continue
        options = (
            [step.question] if needs else [q for q in rewordings(step.question) if q not in asked]
        )
        replaced.update([form, *rewordings(form)])
        if options and len(found) < max_steps:
            new_ids[step.id] = first_id + len(found)
            found.append(_REFERENCE.sub(lambda m: f"#{new_ids[int(m[1])]}", options[0]))
    return found


def rewordings(question: str) -> list[str]:
    """Give other ways to ask a question, the most promising first."""
    return list(dict.fromkeys(q for q in _forms(question) if q != question))


def _forms(question: str) -> Iterator[str]:
    shorter = question
    for pattern, text in _LESS:
        shorter = re.sub(pattern, text, shorter)
    for asked in (question, shorter):
        for pattern, text in _MORE:
            if re.fullmatch(pattern, asked):
                yield re.sub(pattern, text, asked)
    yield shorter
