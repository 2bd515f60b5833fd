"""Planning by rules: which look-ups a question takes, and how a revision asks differently."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.providers.extractive.comparison import comparison
from hoptrail.providers.extractive.planner import split
from hoptrail.providers.extractive.rewording import revised, rewordings
from hoptrail.request import StepOutcome

PLANS = {
    "Who discovered Uranus?": ["Who discovered Uranus?"],
    "What is the capital of Finland?": ["What is the capital of Finland?"],
    "When was the astronomical clock in Prague built?": [
        "When was the astronomical clock in Prague built?"
    ],
    "What city became the state capital of South Carolina?": [
        "What city became the state capital of South Carolina?"
    ],
    "Who plays the voice of John Smith in Pocahontas?": [
        "Who plays the voice of John Smith in Pocahontas?"
    ],
    "Which river runs through the birthplace of the composer of Finlandia?": [
        "Who is the composer of Finlandia?",
        "What is the birthplace of #1?",
        "Which river runs through #2?",
    ],
    "Who is the spouse of the director of Jump for Glory?": [
        "Who is the director of Jump for Glory?",
        "Who is the spouse of #1?",
    ],
    "Where did Finlandia's composer's father die?": [
        "Who is the composer of Finlandia?",
        "Who is the father of #1?",
        "Where did #2 die?",
    ],
    "When was the astronomical clock built in the city where Karel Purkyně died?": [
        "In which city did Karel Purkyně die?",
        "When was the astronomical clock built in #1?",
    ],
    "What is the seat of the county where Van Hook Township is located?": [
        "In which county is Van Hook Township located?",
        "What is the seat of #1?",
    ],
    "Who is the chairman of the company that bought FleetBoston Financial?": [
        "Which company bought FleetBoston Financial?",
        "Who is the chairman of #1?",
    ],
    "When did the country containing Nugegoda leave the British Empire?": [
        "What is the country containing Nugegoda?",
        "When did #1 leave the British Empire?",
    ],
    "When did the city where the author of Pacem in Terris died become its own country?": [
        "Who is the author of Pacem in Terris?",
        "In which city did #1 die?",
        "When did #2 become its own country?",
    ],
    "What kind of university did the author of Alexander and the Terrible, Horrible, No Good, "
    "Very Bad Day attend?": [
        "Who is the author of Alexander and the Terrible, Horrible, No Good, Very Bad Day?",
        "What kind of university did #1 attend?",
    ],
    "Which novel's author was married to the owner of the Lyceum Theatre?": [
        "Who is the owner of the Lyceum Theatre?",
        "Which novel's author was married to #1?",
    ],
    "Who is the maternal grandfather of Margaret of Holland?": [
        "Who is the mother of Margaret of Holland?",
        "Who is the father of #1?",
    ],
    "Which river flows through the birthplace of the author of the novel that Nosferatu is based "
    "on?": [
        "Which novel is Nosferatu based on?",
        "Who is the author of #1?",
        "What is the birthplace of #2?",
        "Which river flows through #3?",
    ],
    "Who is older, Ivan Podolyak or Ladawan Mulasartsatorn?": [
        "When was Ivan Podolyak born?",
        "When was Ladawan Mulasartsatorn born?",
    ],
    "Which magazine is older, Guitar World or Science News?": [
        "When was Guitar World released?",
        "When was Science News released?",
    ],
    "Was Jamie Curry or Alyaksey Vasilewski born first?": [
        "When was Jamie Curry born?",
        "When was Alyaksey Vasilewski born?",
    ],
    "Which film has the director born later, Ghutan or Shunko?": [
        "Who is the director of Ghutan?",
        "When was #1 born?",
        "Who is the director of Shunko?",
        "When was #3 born?",
    ],
    "Who lived longer, Mary Shelley or Hans Rosling?": [
        "When was Mary Shelley born?",
        "When did Mary Shelley die?",
        "When was Hans Rosling born?",
        "When did Hans Rosling die?",
    ],
    "Are River Tamar and Badam River both located in the same country?": [
        "In which country is River Tamar located?",
        "In which country is Badam River located?",
    ],
    "Do both films Kraurya and Penniless Hearts have the directors that share the same "
    "nationality?": [
        "Who is the director of Kraurya?",
        "What is the nationality of #1?",
        "Who is the director of Penniless Hearts?",
        "What is the nationality of #3?",
    ],
    "Are Christopher Nolan and Sathish Kalathil both film directors?": [
        "Is Christopher Nolan a film director?",
        "Is Sathish Kalathil a film director?",
    ],
    "Is Kilimanjaro higher than Mont Blanc?": [
        "How high is Kilimanjaro?",
        "How high is Mont Blanc?",
    ],
    "Which has more members, DC Talk or Manchester Orchestra?": [
        "How many members does DC Talk have?",
        "How many members does Manchester Orchestra have?",
    ],
}


@pytest.mark.parametrize("question", PLANS)
def test_a_question_is_split_into_natural_look_ups(question: str) -> None:
    assert list(split(question, 8).steps) == PLANS[question]


def test_a_plan_that_is_too_long_is_not_cut_but_asked_whole() -> None:
    question = "Which river runs through the birthplace of the composer of Finlandia?"
    assert (question,) == split(question, 2).steps


def test_the_same_look_up_is_asked_once() -> None:
    found = split("Who is older, the director of Jaws or the spouse of the director of Jaws?", 8)
    assert sum(step == "Who is the director of Jaws?" for step in found.steps) == 1
    assert len(found.ends) == 2


@given(st.text(max_size=120), st.integers(1, 8))
def test_any_text_gives_a_plan_that_refers_only_backwards(text: str, most: int) -> None:
    steps = split(text, most).steps
    assert 1 <= len(steps) <= most
    if len(steps) > 1:
        for number, step in enumerate(steps, start=1):
            assert all(int(ref) < number for ref in re.findall(r"#(\d+)", step) if ref not in text)


_KNOWN = (
    "the composer of|the city where|was born|who|that|which|Is|Are|both|and|or|,|older|Finlandia|"
    "#1|'s father|the film|Which|director|?|in the same country|than|{0}|Émile|(1927)"
)
_PIECES = st.sampled_from(re.split(r"\|", _KNOWN))


@given(st.lists(_PIECES, max_size=14))
def test_any_mixture_of_the_words_it_knows_gives_a_plan(pieces: list[str]) -> None:
    text = " ".join(pieces)
    assert split(text, 8).steps == split(text, 8).steps
    assert 1 <= len(split(text, 8).steps) <= 8


DECISIONS = [
    ("Who is older, A Ba or C Da?", [["12 March 1900"], ["1901"]], "A Ba"),
    ("Who is younger, A Ba or C Da?", [["12 March 1900"], ["2 March 1900"]], "A Ba"),
    ("Who died first, A Ba or C Da?", [["44 BC"], ["4 AD"]], "A Ba"),
    ("Which river is longer, Rhine or Po?", [["1,230 kilometres"], ["405 miles"]], "Rhine"),
    ("Which is higher, A Ba or C Da?", [["2 km"], ["1,900 metres"]], "A Ba"),
    ("Which city has more inhabitants, A Ba or C Da?", [["1.2 million"], ["900,000"]], "A Ba"),
    ("Who lived longer, A Ba or C Da?", [["1900", "1950"], ["1800", "1890"]], "C Da"),
    ("Is A Ba taller than C Da?", [["100 m"], ["200 m"]], "no"),
    ("Are A Ba and C Da located in the same country?", [["Finnish"], ["Finland"]], "yes"),
    ("Are A Ba and C Da located in the same country?", [["Norway"], ["Finland"]], "no"),
    ("Are A Ba and C Da from different countries?", [["Norway"], ["Finland"]], "yes"),
    ("Are A Ba and C Da both painters?", [["yes"], ["no"]], "no"),
    ("Which is from Japan: A Ba or C Da?", [["no"], ["yes"]], "C Da"),
    ("Who is older, A Ba or C Da?", [["unclear"], ["1901"]], None),
    ("Who is older, A Ba or C Da?", [["1901"], ["1901"]], None),
    ("Which film has the director born first, A Ba or C Da?", [["1950"], ["1900"]], "C Da"),
]


@pytest.mark.parametrize(("question", "values", "expected"), DECISIONS)
def test_two_answers_decide_a_comparison(
    question: str, values: list[list[str]], expected: str | None
) -> None:
    compared = comparison(question)
    assert compared is not None
    assert expected == compared.decide(values)


def outcome(step_id: int, question: str, answer: str = "") -> StepOutcome:
    return StepOutcome(
        id=step_id, question=question, status="answered" if answer else "abstained", answer=answer
    )


def test_a_revision_asks_differently_and_takes_the_waiting_steps_along() -> None:
    steps = (
        outcome(1, "Who is the composer of the opera Fidelio?"),
        outcome(2, "Where was #1 born?"),
    )
    assert revised(steps, 3, 4) == ["Who composed the opera Fidelio?", "Where was #3 born?"]


def test_a_revision_keeps_what_was_answered_and_never_asks_the_same_twice() -> None:
    steps = [
        outcome(1, "Who is the composer of Fidelio?", "Beethoven"),
        outcome(2, "What is the birthplace of Beethoven?"),
    ]
    first = revised(steps, 3, 4)
    assert first == ["Where was Beethoven born?"]
    steps.append(outcome(3, first[0]))
    assert revised(steps, 4, 4) == []


def test_a_step_that_cannot_be_asked_otherwise_ends_its_branch() -> None:
    steps = (outcome(1, "Who discovered Uranus?"), outcome(2, "Where was #1 born?"))
    assert revised(steps, 3, 4) == []


def test_a_revision_stays_within_its_room() -> None:
    steps = [outcome(number, f"Who is the composer of Opus {number}?") for number in range(1, 6)]
    assert len(revised(steps, 6, 2)) == 2


def test_a_qualifier_is_dropped() -> None:
    assert "Who directed Metropolis?" in rewordings(
        "Who is the director of Metropolis (1927 film)?"
    )
