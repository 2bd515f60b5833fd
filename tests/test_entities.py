"""The names that passages mention and questions ask about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.retrieval.entities import canonical, mentions, named_in, own_name, phrases


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("Theodred II (Bishop of Elmham)", "theodred ii"),
        ("St. Louis, Missouri", "st louis missouri"),
        ("Ada Lovelace's", "ada lovelace"),
        ("Ada  Lovelace’s", "ada lovelace"),
        ('"Katy Lied"', "katy lied"),
        ("(band)", ""),
    ],
)
def test_canonical(name: str, form: str) -> None:
    assert canonical(name) == form


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The Vltava flows through Prague. It is long.", ["vltava", "prague"]),
        (
            "Émile Zola met Øystein on the Åland Islands.",
            ["émile zola", "øystein", "åland islands"],
        ),
        ("the Ministry of the Interior of Spain", ["ministry of the interior of spain"]),
        ("Apollo 11 and the Eagle", ["apollo 11 and the eagle", "apollo 11", "eagle"]),
        ("Tom Hanks and Meg Ryan", ["tom hanks and meg ryan", "tom hanks", "meg ryan"]),
        ("Ada Byron's Analytical Engine", ["ada byron's analytical engine", "ada byron"]),
        ("In 1903 he went. An A in B.", []),
        ("nothing here", []),
    ],
)
def test_phrases(text: str, found: list[str]) -> None:
    assert list(phrases(text)) == found


def test_a_passage_mentions_its_title_and_the_names_in_it() -> None:
    counts = mentions("Stanley, North Dakota", "Stanley is a city. Minot is near.")
    assert counts == {
        "stanley": 2,
        "minot": 1,
        "north dakota": 1,
        "stanley north dakota": 2,
    }


def test_a_title_of_a_few_letters_is_no_name() -> None:
    assert (own_name("X (film)"), own_name("Bonn")) == ("", "bonn")


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("When was Port Blair's harbour built?", ["port blair"]),
        ("Who governs the Port of Blair (India)?", ["blair", "india"]),
        ("Blair or Port Blair?", ["port blair"]),
        ("Where is Blair?", ["blair"]),
        ("where is blair?", ["blair"]),
        ("Where is blair?", []),
        ("What is it?", []),
        ("", []),
    ],
)
def test_names_in_a_question(question: str, found: list[str]) -> None:
    assert named_in(question, {"port blair", "blair", "india", "what"}) == found


@given(st.text(), st.sets(st.text()))
def test_any_question_gives_only_known_names(question: str, known: set[str]) -> None:
    assert set(named_in(question, known)) <= known


@given(st.text(), st.text())
def test_any_text_gives_names_on_one_line(title: str, text: str) -> None:
    for name, count in mentions(title, text).items():
        assert name == " ".join(name.split())
        assert count > 0
