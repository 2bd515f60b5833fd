"""An answer that is streamed reads as the same answer given whole."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoptrail.reply import FinalStream, read_final

WORDS = st.sampled_from(
    [
        "<think>",
        "[2]</",
        "think>",
        "</think>",
        "<TH",
        "ink>",
        "UN",
        "Prague",
        " [2]",
        "[1, 3]",
        " [9]",
        "\n\n",
        " ",
        "born",
        " in",
        "[",
        "]",
        " [1",
        "<",
        ".",
        "é",
    ]
)


def streamed(pieces: list[str], known: int) -> str:
    stream = FinalStream(known)
    return "".join([stream.feed(piece) for piece in pieces] + [stream.rest()])


@settings(max_examples=500)
@given(st.lists(WORDS, max_size=20), st.integers(0, 4), st.sampled_from(["Yes", ""]))
def test_any_stream_is_the_final_text(pieces: list[str], known: int, first: str) -> None:
    final = read_final("".join([first, *pieces]), known)
    if not final.abstained:
        assert streamed([first, *pieces], known) == final.text


def test_a_long_answer_is_read_in_the_time_of_its_length() -> None:
    pieces = ["So", *[" it is [1], as said,"] * 20_000]
    began = time.process_time()  # others may have the processor, too
    assert streamed(pieces, 1).count("[1]") == 20_000
    assert time.process_time() - began < 5


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_numbers_are_those_of_the_citations(size: int) -> None:
    text = "<think>It is [1].</think>\nPrague [3]\n\nKafka [1] was born there [3, 7].\n"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert streamed(pieces, 3) == "Prague [1]\n\nKafka [2] was born there [1]."


def test_an_abstention_is_no_answer_to_show() -> None:
    assert streamed(["UNANS", "WERABLE: ", "the city"], 3) == ""


def test_what_is_certain_is_shown_at_once() -> None:
    stream = FinalStream(2)
    assert stream.feed("Prague ") == "Prague"
    assert stream.feed("[2") == ""
    assert stream.feed("] it") == " [1] it"
