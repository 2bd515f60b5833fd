"""Data sets and measures, as the field defines them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.errors import RetrievalError
from hoptrail.evaluation import (
    Question,
    all_at,
    bootstrap_interval,
    exact_match,
    f1,
    load_dataset,
    normalise_answer,
    recall_at,
    taken_in_turn,
)

QUESTION = (
    '{"id": 1, "question": "Q?", "answer": "A", "aliases": ["B"], "type": "2hop", '
    '"supporting": ["p1", "p2"], "decomposition": ['
    '{"question": "X >> capital", "answer": "C#1", "supporting": "p1"}, '
    '{"question": "Who rules #1?", "answer": "A", "supporting": "p2"}]}'
)

ids = st.lists(st.sampled_from("abcdefgh"), unique=True)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The  Eiffel Tower!", "eiffel tower"),
        ("An apple, a pear", "apple pear"),
        ("theatre", "theatre"),
        ("U.S.", "us"),
        ("...", ""),
    ],
)
def test_normalise_answer(text: str, form: str) -> None:
    assert normalise_answer(text) == form


def test_of_several_answers_the_nearest_counts() -> None:
    assert exact_match("the pirates", ["Pittsburgh Pirates", "Pirates"]) == 1
    assert exact_match("pirates", ["Pittsburgh Pirates"]) == 0
    assert f1("the pirates", ["Orioles", "Pittsburgh Pirates"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [("", "", 1), ("", "x", 0), ("x", "", 0), ("a b b", "b b c", 0.8), ("x y", "x z", 0.5)],
)
def test_f1_is_the_harmonic_mean_of_word_precision_and_recall(
    prediction: str, answer: str, expected: float
) -> None:
    assert f1(prediction, [answer]) == pytest.approx(expected)


@given(st.text(), st.lists(st.text(), min_size=1))
def test_exact_match_is_never_above_f1(prediction: str, answers: list[str]) -> None:
    assert exact_match(prediction, answers) in (0, 1)
    assert 0 <= exact_match(prediction, answers) <= f1(prediction, answers) <= 1


@given(st.text(), st.lists(st.text()))
def test_a_right_answer_is_right(answer: str, others: list[str]) -> None:
    assert exact_match(answer, [*others, answer]) == f1(answer, [*others, answer]) == 1


def test_recall() -> None:
    ranked, gold = ["a", "x", "b"], ["a", "b", "c"]
    recalls = [recall_at(k, ranked, gold) for k in (0, 1, 3, 9)]
    assert recalls == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3])
    assert all_at(3, ranked, ["a", "b"]) == 1
    assert all_at(2, ranked, ["a", "b"]) == 0
    assert recall_at(3, ranked, []) == all_at(3, ranked, []) == 0


@given(ids, ids, st.integers(0, 9))
def test_recall_grows_with_k_up_to_one(ranked: list[str], gold: list[str], k: int) -> None:
    assert 0 <= all_at(k, ranked, gold) <= recall_at(k, ranked, gold) <= 1
    assert recall_at(k, ranked, gold) <= recall_at(k + 1, ranked, gold)


def test_rankings_are_taken_in_turn_without_repeats() -> None:
    assert taken_in_turn([["a", "b", "c"], ["b", "d"], []]) == ["a", "b", "d", "c"]


@given(st.lists(ids))
def test_taking_in_turn_keeps_everything_once(rankings: list[list[str]]) -> None:
    taken = taken_in_turn(rankings)
    assert sorted(taken) == sorted({one for ranking in rankings for one in ranking})


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_interval_holds_the_mean_between_the_extremes(values: list[float]) -> None:
    low, high = bootstrap_interval(values, draws=50)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert (low, high) == bootstrap_interval(values, draws=50)


def test_the_interval_narrows_with_more_questions() -> None:
    few, many = bootstrap_interval([0, 1] * 10), bootstrap_interval([0, 1] * 1000)
    assert few[1] - few[0] > 5 * (many[1] - many[0])
    assert many[0] < 0.5 < many[1]
    assert bootstrap_interval([]) == (0, 0)


def test_gold_steps_carry_the_gold_answers_and_no_relation_signs() -> None:
    question = Question.model_validate_json(QUESTION)
    assert question.gold_steps() == ["X capital", "Who rules C#1?"]
    assert question.answers == ("A", "B")
    assert question.id == "1"


def test_a_folder_and_a_file_are_data_sets(tmp_path: Path) -> None:
    folder = tmp_path / "musique"
    folder.mkdir()
    (folder / "questions.jsonl").write_text(f"{QUESTION}\n\n{QUESTION}\n")
    assert load_dataset(folder / "questions.jsonl").corpus is None
    (folder / "corpus.jsonl").write_text("{}")
    data = load_dataset(folder)
    assert (data.name, len(data.questions), data.corpus) == (
        "musique",
        2,
        folder / "corpus.jsonl",
    )
    only = load_dataset(folder / "questions.jsonl")
    assert (only.name, only.questions) == ("questions", data.questions)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "questions.jsonl:1: not a question: id Field required"),
        (QUESTION + "\nno json", "questions.jsonl:2: not a question"),
        (b"\xff", "no questions can be read"),
        (None, "no questions can be read"),
    ],
)
def test_what_is_no_data_set_says_where(
    tmp_path: Path, content: str | bytes | None, message: str
) -> None:
    file = tmp_path / "questions.jsonl"
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(RetrievalError, match=message):
        load_dataset(tmp_path)
