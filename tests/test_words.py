"""BM25, word by word."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.retrieval.words import K1, B, WordIndex, stems, words

TEXTS = ["The river flows through Prague", "rivers and more rivers", "Bread needs yeast", ""]


def test_words_leave_out_stop_words_and_single_letters() -> None:
    assert words("The Vltava is a river: 430 km, e.g.") == ["vltava", "river", "430", "km"]


def test_stems_meet_across_forms_and_diacritics() -> None:
    found = stems(["rivers", "river", "flowing", "müller", "muller", "𐐀"])
    assert found["rivers"] == found["river"] == "river"
    assert found["flowing"] == "flow"
    assert found["müller"] == found["muller"]
    assert set(found) == {"rivers", "river", "flowing", "müller", "muller", "𐐀"}


def test_scores_are_lucenes_bm25() -> None:
    lengths = [len(words(text)) for text in TEXTS]
    mean = sum(lengths) / len(lengths)
    rarity = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    expected = [
        rarity * count / (count + K1 * (1 - B + B * length / mean))
        for count, length in zip([1, 2, 0, 0], lengths, strict=True)
    ]
    assert WordIndex.build(TEXTS).scores("Which river?") == pytest.approx(expected)


def test_a_word_in_every_passage_still_counts() -> None:
    assert (WordIndex.build(["river", "river bank"]).scores("river") > 0).all()


@pytest.mark.parametrize("question", ["", "the of", "zyzzyva", "\0\ud800"])
def test_a_question_without_known_words_finds_nothing(question: str) -> None:
    assert not WordIndex.build(TEXTS).scores(question).any()


def test_no_passages_are_an_index_too() -> None:
    assert WordIndex.build([]).scores("river").shape == (0,)
    assert WordIndex.restored(WordIndex.build([]).dump(), 0).scores("river").shape == (0,)


letters = st.text(alphabet="abcde ", max_size=30)


@given(st.lists(letters, max_size=8), letters)
def test_what_was_dumped_scores_the_same(texts: list[str], question: str) -> None:
    built = WordIndex.build(texts)
    scores = built.scores(question)
    assert np.array_equal(WordIndex.restored(built.dump(), len(texts)).scores(question), scores)
    assert scores.shape == (len(texts),)
    known = stems(words(question)).values()
    for score, text in zip(scores, texts, strict=True):
        assert (score > 0) == bool(set(known) & set(stems(words(text)).values()))
