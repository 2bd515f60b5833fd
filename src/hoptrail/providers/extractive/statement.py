"""Statements: a question and its answer as one sentence."""

from __future__ import annotations

import re

_FORMS: tuple[tuple[str, str], ...] = (
    (r"(?:Who|What) (is|was) the (.+)", r"the \2 \1 {}"),
    (r"(?:Where|In which \w+) was (.+) born", r"\1 was born in {}"),
    (r"In which (?:\w+ )?\w+ (is|was) (.+) (\w+)", r"\2 \1 \3 in {}"),
    (r"When (was|were) (.+) (\w+)", r"\2 \1 \3 {on} {}"),
    (r"When did (.+) die", r"\1 died {on} {}"),
    (r"Where did (.+) die", r"\1 died in {}"),
    (r"How (high|long|tall|deep|wide|old) is (.+)", r"\2 is {} \1"),
    (r"(?:Which|What) country is (.+) from", r"\1 is from {}"),
    (r"Which \w+ does (.+) (flow|run|lie) (into|on)", r"\1 \2s \3 {}"),
    (r"Which \w+ is (.+) (based on|part of|named after)", r"\1 is \2 {}"),
    (r"(?:Who|Which \w+) (?!(?:is|was|are|were|do|does|did|has|have|had|can)\b)(\w+ .+)", r"{} \1"),
)


def stated(question: str, answer: str) -> str:
    """Say an answer as a sentence where the question's form is known, else beside its question."""
    asked = question.strip().rstrip("?")
    for pattern, form in _FORMS:
        if (match := re.fullmatch(pattern, asked)) and answer.lower() not in ("yes", "no"):
            before, _, after = _dated(form, answer).partition("{}")
            sentence = f"{match.expand(before)}{answer}{match.expand(after)}"
            return sentence[:1].upper() + sentence[1:]
    return f"{question} {answer}"


def _dated(form: str, answer: str) -> str:
    """Use 'on' for a day and 'in' for a month or year."""
    day = re.match(r"\d{1,2}(?:st|nd|rd|th)?\s+[A-Z]|[A-Z]\w+ \d{1,2}(?!\d)", answer)
    return form.replace("{on}", "on" if day else "in")
