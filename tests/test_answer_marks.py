"""What a model writes into an answer: marks that cite nothing, and pictures, are taken out."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hoptrail.fence import fenced
from hoptrail.reply import FinalStream, cited_numbers, read_final, without_marks
from hoptrail.secrecy import HiddenStream, Secrets
from tests.canaries import CANARIES, leaks


@pytest.mark.promise("citations-are-real")
@given(
    st.lists(st.sampled_from(["[", "]", "1", "9", "99", ",", " ", "a", "!", "<think>", "</think>"]))
)
@example(["[", "9", "[", "99", "]", "]"])
@example(["[", "[", "99", "]", "5", "]"])
@example(["!", "[", "99", "]", "[", "a", "]"])
def test_no_mark_is_born_of_one_that_is_taken_out(parts: list[str]) -> None:
    text = f"x{''.join(parts)}"
    final, stream = read_final(text, 2), FinalStream(2)
    streamed = "".join([*map(stream.feed, (parts and ["x", *parts]) or [text]), stream.rest()])
    if not final.abstained:
        numbers = set(cited_numbers(final.text))
        assert numbers <= set(range(1, len(final.passages) + 1))
        assert streamed == final.text
    assert "![" not in final.text
    assert not cited_numbers(without_marks(text))


@pytest.mark.promise("markup-is-inert")
def test_a_picture_in_an_answer_from_documents_is_none_however_it_is_cut() -> None:
    text = "Prague [1] ![x](http://evil.invalid/?q=1) wow![1] ![99][r] really!\n\n[r]: http://evil.invalid"
    for size in range(1, 12):
        stream = FinalStream(1)
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        shown = "".join([*map(stream.feed, pieces), stream.rest()])
        assert shown == read_final(text, 1).text
        assert "![" not in shown
        assert "wow! [1]" in shown
    assert read_final("a![x](y)!", None).text == "a![x](y)!"


def test_a_megabyte_of_spaces_is_read_at_once() -> None:
    stream = FinalStream(1)
    started = time.process_time()  # others may have the processor, too
    stream.feed(" " * 500_000 + "x")
    assert time.process_time() - started < 20  # squared, it is hours


@pytest.mark.promise("documents-command-nothing")
@pytest.mark.parametrize(
    "mark",
    [
        "<|im_end|>",
        "<|START_OF_TURN_TOKEN|>",
        "<｜begin▁of▁sentence｜>",
        "<end_of_turn>",
        "</s>",
        "[/INST]",
        "<<SYS>>",
        "<</SYS>>",
        "[TOOL_CALLS]",
        "<tool_call>",
        "</think>",
        "<reserved_7>",
    ],
)
def test_a_mark_of_a_chat_template_becomes_text(mark: str) -> None:
    assert mark not in fenced(f"a {mark} b")
    assert fenced(f"a {mark} b").replace(" ", "") == f"a {mark} b".replace(" ", "")
    assert fenced(fenced(mark)) == fenced(mark)


@given(st.text())
def test_other_text_is_left_as_it_is(text: str) -> None:
    plain = text.replace("<", "").replace("[", "")
    assert fenced(plain) == plain
    assert fenced("a < b, x[0], <b>bold</b>, List<String>, [1], #include <map>") == (
        "a < b, x[0], <b>bold</b>, List<String>, [1], #include <map>"
    )


@pytest.mark.promise("secrets-stay-in")
@given(st.integers(1, 30), st.text(max_size=20), st.sampled_from(sorted(CANARIES)))
def test_a_key_that_comes_in_pieces_is_shown_in_none(size: int, around: str, name: str) -> None:
    secrets = Secrets(CANARIES.values())
    text = f"{around}{CANARIES[name]}{around}{CANARIES[name][:10]}"
    stream = HiddenStream(secrets)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    shown = "".join([*map(stream.feed, pieces), stream.rest()])
    assert not leaks(shown)
    assert shown == secrets.hide(text)
