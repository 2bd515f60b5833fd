import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.citations import citations_for
from hoptrail.evidence import Evidence, Passage
from hoptrail.request import StepReply


def evidence(*texts: str) -> list[Evidence]:
    return [
        Evidence(passage=Passage(id=f"p{rank}", text=text, source=f"{rank}.md"), rank=rank, score=1)
        for rank, text in enumerate(texts, start=1)
    ]


RIVERS = evidence(
    "Prague is a city. The Vltava flows through it! It is old.",
    "Brno lies where the Svratka meets the Svitava.",
)


def test_a_citation_quotes_the_sentence_with_the_answer() -> None:
    citations, warnings = citations_for(StepReply(answer="Vltava", passages=(1,)), RIVERS, 3)
    assert warnings == []
    assert [(c.passage_id, c.source, c.quote, c.step) for c in citations] == [
        ("p1", "1.md", "The Vltava flows through it!", 3)
    ]


def test_a_passage_that_was_not_given_is_refused() -> None:
    citations, warnings = citations_for(StepReply(answer="Svitava", passages=(2, 7)), RIVERS, 1)
    assert [citation.passage_id for citation in citations] == ["p2"]
    assert warnings == ["cited passages that it was not given: [7]"]


def test_an_answer_without_a_citation_is_traced_to_the_passage_that_has_it() -> None:
    citations, warnings = citations_for(StepReply(answer="svratka"), RIVERS, 1)
    assert [citation.passage_id for citation in citations] == ["p2"]
    assert warnings == ["cited nothing: passage 2 contains the answer"]


def test_an_answer_is_not_traced_to_the_middle_of_a_word() -> None:
    passages = evidence("It was built in 1975.", "It has 5 arches.", "首都は東京である。")
    for answer, found in (("5", "p2"), ("東京", "p3")):
        citations, _ = citations_for(StepReply(answer=answer), passages, 1)
        assert [citation.passage_id for citation in citations] == [found]


def test_an_answer_that_no_passage_contains_says_so() -> None:
    citations, warnings = citations_for(StepReply(answer="Danube"), RIVERS, 1)
    assert citations == ()
    assert warnings == ["cited nothing, and no passage contains the answer"]


def test_without_passages_nothing_is_cited_and_nothing_is_wrong() -> None:
    assert citations_for(StepReply(answer="42"), [], 1) == ((), [])


@pytest.mark.parametrize("text", ["", " ", "no full stop", "A. B. C."])
def test_any_passage_can_be_quoted(text: str) -> None:
    citations, _ = citations_for(StepReply(answer="B", passages=(1,)), evidence(text), 1)
    assert citations[0].quote in " ".join(text.split())


@given(st.lists(st.integers(-3, 9), max_size=6), st.integers(0, 4))
def test_citations_name_only_passages_that_were_given(numbers: list[int], given_: int) -> None:
    texts = [f"passage {n}" for n in range(given_)]
    reply = StepReply(answer="x", passages=tuple(numbers))
    citations, _ = citations_for(reply, evidence(*texts), 1)
    assert {citation.passage_id for citation in citations} <= {
        f"p{n}" for n in range(1, given_ + 1)
    }
