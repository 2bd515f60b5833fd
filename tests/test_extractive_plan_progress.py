"""How far the built-in planner's own plan has come, and what it asks next."""

import json
from typing import Literal

from hoptrail.providers.extractive.backend import reply_to
from hoptrail.request import NextStepRequest, StepOutcome, SynthesisRequest

QUESTION = "Where was the composer of Finlandia born?"
FILMS = "Which film has the director who was born earlier, Seven Samurai or The Seventh Seal?"


def outcome(id_: int, question: str, answer: str = "") -> StepOutcome:
    status: Literal["answered", "abstained"] = "answered" if answer else "abstained"
    return StepOutcome(id=id_, question=question, status=status, answer=answer)


def following(question: str, *steps: StepOutcome, left: int = 7) -> list[str]:
    request = NextStepRequest(question=question, steps=steps, next_id=len(steps) + 1, left=left)
    asked: list[str] = json.loads(reply_to(request))["steps"]
    return asked


def test_the_plan_is_followed_with_the_answers_in_place() -> None:
    assert following(QUESTION) == ["Who is the composer of Finlandia?"]
    first = outcome(1, "Who is the composer of Finlandia?", "Sibelius")
    assert following(QUESTION, first) == ["Where was Sibelius born?"]
    assert following(QUESTION, first, outcome(2, "Where was Sibelius born?", "here")) == []


def test_what_found_nothing_is_asked_in_other_words_once() -> None:
    first = outcome(1, "Who is the composer of Finlandia?")
    assert following(QUESTION, first) == ["Who composed Finlandia?"]
    assert following(QUESTION, first, outcome(2, "Who composed Finlandia?")) == []
    found = outcome(2, "Who composed Finlandia?", "Sibelius")
    assert following(QUESTION, first, found) == ["Where was Sibelius born?"]


def test_the_steps_of_another_planner_are_gone_on_from_in_our_own_words() -> None:
    other = outcome(1, "Which man wrote Finlandia?", "Sibelius")
    assert following(QUESTION, other) == ["Who is the composer of Finlandia?"]


def test_a_plan_that_does_not_fit_is_asked_whole() -> None:
    assert following(QUESTION, left=0) == [QUESTION]


def test_a_comparison_is_decided_though_a_step_was_asked_twice() -> None:
    steps = (
        outcome(1, "Who is the director of Seven Samurai?"),
        outcome(2, "Who directed Seven Samurai?", "Akira Kurosawa"),
        outcome(3, "When was Akira Kurosawa born?", "23 March 1910"),
        outcome(4, "Who is the director of The Seventh Seal?", "Ingmar Bergman"),
        outcome(5, "When was Ingmar Bergman born?", "14 July 1918"),
    )
    for known in range(1, len(steps)):
        assert following(FILMS, *steps[:known]) == [steps[known].question]
    assert following(FILMS, *steps) == []
    concluded = reply_to(SynthesisRequest(question=FILMS, steps=steps))
    assert concluded.startswith("Seven Samurai")
