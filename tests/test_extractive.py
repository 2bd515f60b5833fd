"""The built-in backend: it reads, concludes and abstains, in the form that a model is asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langchain_core.outputs import ChatGenerationChunk

from hoptrail.backend import CallOptions
from hoptrail.errors import BackendRefused
from hoptrail.evidence import Evidence, Passage
from hoptrail.prompts import UNANSWERABLE, render
from hoptrail.providers.extractive import ExtractiveBackend
from hoptrail.providers.extractive.backend import reply_to
from hoptrail.providers.extractive.candidates import candidates
from hoptrail.providers.extractive.quantities import quantity, same
from hoptrail.providers.extractive.reader import read
from hoptrail.providers.extractive.scenes import mentions
from hoptrail.providers.extractive.sentences import sentences
from hoptrail.providers.extractive.statement import stated
from hoptrail.providers.extractive.words import names
from hoptrail.reply import read_final, read_step_reply
from hoptrail.request import (
    EarlierAnswer,
    PlanRequest,
    Request,
    RevisionRequest,
    StepOutcome,
    StepReply,
    StepRequest,
    SynthesisRequest,
)

TEXTS = {
    "Nabucco": "Nabucco is an opera in four acts, composed by Giuseppe Verdi and first given at La "
    "Scala in Milan on 9 March 1842. The libretto is by Temistocle Solera.",
    "Giuseppe Verdi": "Giuseppe Verdi was an Italian composer. He was born on 10 October 1813 in "
    "Le Roncole, a village near Busseto, and died in Milan on 27 January 1901. His second wife was "
    "the singer Giuseppina Strepponi.",
    "Milan": "Milan is a city in the north of Italy. The little river Olona reaches the city from "
    "the north-west. Its cathedral is 158 metres long.",
    "La Scala": "La Scala is an opera house in Milan. It was designed by Giuseppe Piermarini and "
    "opened on 3 August 1778. It has 2,030 seats.",
    "Po": "The Po is the longest river of Italy, 652 kilometres long. It flows into the Adriatic "
    "Sea near Venice.",
}

READINGS = {
    "Who is the composer of Nabucco?": "Giuseppe Verdi",
    "Who wrote the libretto of Nabucco?": "Temistocle Solera",
    "Where was Giuseppe Verdi born?": "Le Roncole",
    "When was Giuseppe Verdi born?": "10 October 1813",
    "When did Giuseppe Verdi die?": "27 January 1901",
    "Where did Giuseppe Verdi die?": "Milan",
    "Who is the wife of Giuseppe Verdi?": "Giuseppina Strepponi",
    "What is the nationality of Giuseppe Verdi?": "Italian",
    "Which country is Giuseppe Verdi from?": "Italy",
    "In which country is Milan located?": "Italy",
    "Who designed La Scala?": "Giuseppe Piermarini",
    "When was La Scala opened?": "3 August 1778",
    "How many seats does La Scala have?": "2,030",
    "How long is the Po?": "652 kilometres",
    "Which sea does the Po flow into?": "Adriatic Sea",
    "Is Giuseppe Verdi a composer?": "yes",
    "Is Milan in Italy?": "yes",
    "Is Milan in Spain?": "no",
    "Is La Scala a river?": "no",
}


def evidence(texts: dict[str, str]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(passage=Passage(id=title, title=title, text=text), rank=rank, score=1.0 / rank)
        for rank, (title, text) in enumerate(texts.items(), start=1)
    )


def step(question: str, given_evidence: Sequence[Evidence] | None = None) -> StepReply:
    found = evidence(TEXTS) if given_evidence is None else tuple(given_evidence)
    request = StepRequest(question=question, main_question=question, evidence=found)
    return StepReply.model_validate_json(reply_to(request))


@pytest.mark.parametrize("question", READINGS)
def test_a_question_is_answered_with_a_span(question: str) -> None:
    reply = step(question)
    assert reply.found
    assert reply.answer == READINGS[question]


def test_the_passage_and_the_sentence_are_named() -> None:
    reply = step("When was La Scala opened?")
    assert reply.passages == (4,)
    assert "It was designed by Giuseppe Piermarini and opened on 3 August 1778." in reply.reasoning
    assert reply.reasoning.startswith("‘3 August 1778’ stands in “")


@pytest.mark.parametrize(
    "question",
    [
        "Who is the composer of Fidelio?",
        "What is the capital of Atlantis?",
        "Who is the architect of the Po?",
        "Which river flows through Busseto?",
        "Is Atlantis a city?",
        "How high is La Scala?",
        "",
        "?",
    ],
)
def test_it_abstains_when_the_passages_do_not_say(question: str) -> None:
    reply = step(question)
    assert not reply.found
    assert reply.answer == ""
    assert reply.passages == ()
    assert reply.reasoning


def test_without_passages_it_abstains_and_says_so() -> None:
    reply = step("Who wrote Nabucco?", ())
    assert not reply.found
    assert "no passage" in reply.reasoning


def test_a_question_that_was_answered_before_is_not_lost() -> None:
    earlier = EarlierAnswer(id=7, question="Who composed Nabucco?", answer="Verdi", reason="memory")
    request = StepRequest(
        question="Who composed Nabucco?", main_question="?", earlier=(earlier,), evidence=()
    )
    reply = StepReply.model_validate_json(reply_to(request))
    assert (reply.found, reply.answer, reply.passages) == (True, "Verdi", ())


def test_an_embedder_can_take_part_in_judging_sentences() -> None:
    asked: list[str] = []

    def similarity(question: str, given_sentences: list[str]) -> list[float]:
        asked.append(question)
        return [1.0 if "libretto" in sentence else 0.0 for sentence in given_sentences]

    found = read("Who wrote the libretto of Nabucco?", evidence(TEXTS), similarity)
    assert found is not None
    assert found.answer == "Temistocle Solera"
    assert set(asked) == {"Who wrote the libretto of Nabucco?"}


def outcomes(*answers: tuple[str, str]) -> tuple[StepOutcome, ...]:
    return tuple(
        StepOutcome(
            id=number,
            question=question,
            status="answered" if answer else "abstained",
            answer=answer,
            passages=(number,) if answer else (),
        )
        for number, (question, answer) in enumerate(answers, start=1)
    )


def conclude(question: str, *answers: tuple[str, str]) -> str:
    known = evidence({f"t{number}": "x" for number in range(len(answers))})
    return reply_to(SynthesisRequest(question=question, steps=outcomes(*answers), evidence=known))


def test_the_last_answer_comes_first_and_is_cited() -> None:
    text = conclude(
        "Where was the composer of Nabucco born?",
        ("Who is the composer of Nabucco?", "Giuseppe Verdi"),
        ("Where was Giuseppe Verdi born?", "Le Roncole"),
    )
    assert text == (
        "Le Roncole [2]\n\nThe composer of Nabucco is Giuseppe Verdi [1]. "
        "Giuseppe Verdi was born in Le Roncole [2]."
    )
    assert read_final(text, 2).short == "Le Roncole"


def test_a_missing_fact_is_named() -> None:
    text = conclude(
        "Where was the composer of Nabucco born?",
        ("Who is the composer of Nabucco?", "Giuseppe Verdi"),
        ("Where was Giuseppe Verdi born?", ""),
    )
    assert text.startswith(UNANSWERABLE)
    assert "Where was Giuseppe Verdi born?" in text
    assert read_final(text, 2).abstained


def test_a_comparison_is_decided_from_both_answers() -> None:
    text = conclude(
        "Which is longer, the Po or the Rhine?",
        ("How long is the Po?", "652 kilometres"),
        ("How long is the Rhine?", "1,230 kilometres"),
    )
    assert text.startswith("the Rhine [1][2]\n\nThe Po is 652 kilometres long [1].")


def test_a_comparison_takes_the_answer_of_a_revised_step() -> None:
    text = conclude(
        "Which is longer, the Po or the Rhine?",
        ("How long is the Po?", "652 kilometres"),
        ("How long is the Rhine?", ""),
        ("What is the length of the Rhine?", "1,230 kilometres"),
    )
    assert text.startswith("the Rhine [1][3]")


def test_a_comparison_over_the_plan_of_a_model_takes_the_last_answers() -> None:
    text = conclude(
        "Are Milan and Venice located in the same country?",
        ("Where is Milan?", "Italy"),
        ("And Venice?", "Italy"),
    )
    assert text.startswith("yes [1][2]")


@pytest.mark.parametrize("second", ["", "long ago"])
def test_a_comparison_without_both_values_is_unanswerable(second: str) -> None:
    text = conclude(
        "Who is older, Ada Ba or Cy Da?",
        ("When was Ada Ba born?", "1900"),
        ("When was Cy Da born?", second),
    )
    assert text.startswith(UNANSWERABLE)


def test_nothing_to_conclude_from_is_unanswerable() -> None:
    assert conclude("Where was the composer of Nabucco born?").startswith(UNANSWERABLE)


@pytest.mark.parametrize(
    ("question", "answer", "sentence"),
    [
        ("Who is the mother of Ada?", "Eva", "The mother of Ada is Eva"),
        ("Which river runs through Rome?", "Tiber", "Tiber runs through Rome"),
        ("When was Rome founded?", "21 April 753 BC", "Rome was founded on 21 April 753 BC"),
        ("When was Rome founded?", "1999", "Rome was founded in 1999"),
        ("How high is Etna?", r"3,403 \1 m", r"Etna is 3,403 \1 m high"),
        ("Is Rome a city?", "yes", "Is Rome a city? yes"),
        ("Why {} so?", "{x}", "Why {} so? {x}"),
    ],
)
def test_an_answer_is_said_as_a_sentence(question: str, answer: str, sentence: str) -> None:
    assert stated(question, answer) == sentence


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,230 kilometres", 1_230_000.0),
        ("4,806 m", 4806.0),
        ("1.2 million", 1_200_000.0),
        ("44 BC", -44.0),
        ("19th century", 1800.0),
        ("1923", 1923.0),
        ("seven members", 7.0),
        ("nobody knows", None),
    ],
)
def test_quantities_are_read(text: str, value: float | None) -> None:
    assert quantity(text) == value


def test_dates_of_one_year_are_told_apart() -> None:
    dates = ["2 March 1900", "12 March 1900", "April 1, 1900"]
    values = [quantity(date) for date in dates]
    assert values == sorted(values, key=lambda value: value or 0.0)
    assert len(set(values)) == 3


def test_the_same_country_in_two_words_is_the_same() -> None:
    assert same("Finnish", "Finland")
    assert same("Rome, Italy", "Italy")
    assert not same("Georgia", "Germany")


def test_sentences_do_not_end_at_initials_and_abbreviations() -> None:
    text = "Michael J. Fox met Dr. No in the U.S. Senate. He left at 5 p.m. on No. 9."
    assert [span.text for span in sentences(text)] == [
        "Michael J. Fox met Dr. No in the U.S. Senate.",
        "He left at 5 p.m. on No. 9.",
    ]


def test_names_are_found_in_any_script_and_without_sentence_openers() -> None:
    text = "In the Øresund, Émile saw the Bridge of Sighs. Лев Толстой wrote Война и мир in 1869."
    found = [span.text for span in names(text)]
    assert found[:3] == ["Øresund", "Émile", "Bridge of Sighs"]
    assert "Лев Толстой" in found
    assert all(text[span.start : span.end] == span.text for span in names(text))


def test_candidates_stand_where_they_say() -> None:
    text = "The Vltava, 430 kilometres long, met “The Elbe” on 3 May 1901 as a quiet river."
    found = {(each.kind, each.text) for each in candidates(text)}
    assert {("date", "3 May 1901"), ("number", "430 kilometres"), ("name", "Vltava")} <= found
    assert all(text[each.start : each.end] == each.text for each in candidates(text))


_WORDS = (
    "Who", "is", "the", "composer", "of", "Nabucco", "was", "born", "on", "9 March 1842", "in",
    "Milan", ",", ".", "(", "“", "’s", "1,000 km", "by", "Giuseppe Verdi", "Émile", "#1", "{0}",
    "\n\n", "王", "river", "flows", "?", "Dr.", "and", "A.",
)  # fmt: skip
_TEXT = st.one_of(
    st.text(max_size=200), st.lists(st.sampled_from(_WORDS), max_size=40).map(" ".join)
)
_EVIDENCE = st.lists(st.tuples(_TEXT, _TEXT), max_size=4).map(
    lambda pairs: tuple(
        Evidence(passage=Passage(id=str(n), title=title, text=text), rank=n + 1, score=1.0)
        for n, (title, text) in enumerate(pairs)
    )
)


@given(_TEXT, _EVIDENCE)
def test_any_text_gets_a_readable_reply_with_valid_passages(
    question: str, found: tuple[Evidence, ...]
) -> None:
    request = StepRequest(question=question, main_question=question, evidence=found)
    text = reply_to(request)
    reply = read_step_reply(text)
    assert reply_to(request) == text
    assert all(1 <= number <= len(found) for number in reply.passages)
    assert reply.found == bool(reply.answer) == bool(reply.passages)


@given(_TEXT, st.lists(st.tuples(_TEXT, st.sampled_from(["", "1900", "yes", "x [9]"])), max_size=5))
def test_any_outcome_is_concluded_citing_only_what_was_given(
    question: str, pairs: list[tuple[str, str]]
) -> None:
    text = conclude(question, *pairs)
    assert text.strip()
    steps = outcomes(*pairs)
    revision = RevisionRequest(question=question, steps=steps, first_id=len(steps) + 1)
    assert isinstance(json.loads(reply_to(revision))["steps"], list)


REQUESTS: tuple[Request, ...] = (
    PlanRequest(question="Where was the composer of Nabucco born?"),
    RevisionRequest(question="?", steps=outcomes(("Where was Verdi born?", "")), first_id=2),
    StepRequest(question="Who composed Nabucco?", main_question="?", evidence=evidence(TEXTS)),
    SynthesisRequest(question="?", steps=outcomes(("Who composed Nabucco?", "Verdi"))),
)


@pytest.mark.anyio
@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.kind)
async def test_the_stream_is_the_whole_answer(request_: Request) -> None:
    backend = ExtractiveBackend()
    messages = render(request_)
    whole = (await backend.generate(messages, CallOptions())).generations[0].message
    chunks = [chunk async for chunk in backend.stream(messages, CallOptions())]
    joined = sum(chunks[1:], start=chunks[0])
    assert isinstance(joined, ChatGenerationChunk)
    assert joined.text == whole.text == reply_to(request_)
    for message in (whole, joined.message):
        assert message.response_metadata["model_name"] == "extractive-1"
        assert message.response_metadata["finish_reason"] == "stop"
        assert getattr(message, "usage_metadata", None) is not None


@pytest.mark.anyio
async def test_it_is_always_up_and_says_that_it_is_degraded() -> None:
    backend = ExtractiveBackend()
    assert (await backend.probe()).up
    assert backend.degraded
    assert backend.name == "extractive"


@pytest.mark.anyio
async def test_a_conversation_is_refused_with_what_to_start_instead() -> None:
    backend = ExtractiveBackend()
    with pytest.raises(BackendRefused, match="ollama serve"):
        await backend.generate([HumanMessage("Hello!")], CallOptions())
    with pytest.raises(BackendRefused, match="HF_TOKEN"):
        async for _ in backend.stream([HumanMessage("Hello!")], CallOptions()):
            pass


def test_a_prompt_is_never_parsed() -> None:
    """The same request answers the same, whatever the message says."""
    request = REQUESTS[2]
    other = HumanMessage("Ignore this.", additional_kwargs=render(request)[-1].additional_kwargs)
    assert ExtractiveBackend()._reply([other]) == ExtractiveBackend()._reply(render(request))


def test_a_hostile_passage_costs_no_time() -> None:
    """No pattern backtracks without bound: what is slow here is slow by orders of magnitude."""
    texts = ["A " * 4000, "a" * 20000, "the " * 4000, "born " * 3000, "(" * 9000, "1," * 9000]
    texts += ["Of the " * 3000, "is a " * 4000, "\n\n" * 9000, "“" * 9000, "Mr. " * 4000]
    started = time.process_time()  # others may have the processor, too
    for text in texts:
        step("Where was Giuseppe Verdi born?", evidence({"Giuseppe Verdi": f"Verdi {text}"}))
        reply_to(PlanRequest(question=text[:4000]))
    assert time.process_time() - started < 20


def test_a_name_without_a_word_is_mentioned_nowhere() -> None:
    assert not mentions(frozenset({"danube"}), [])
    assert mentions(frozenset({"danube"}), ["danube"])
