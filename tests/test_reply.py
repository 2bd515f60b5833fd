import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.errors import InvalidResponse
from hoptrail.reply import cited_numbers, read_final, read_step_reply, says_nothing, without_marks

GOOD = '{"reasoning": "r", "found": true, "answer": "Prague", "passages": [2, 1]}'


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Sure! Here is the answer:\n{GOOD}\nHope this helps.",
        f'<think>maybe {{"answer": "Brno"}}</think>{GOOD}',
        f"[{GOOD}]",
        '{"reasoning": "r", "found": "true", "answer": "Prague", "passages": ["2", "[1]"]}',
        '{"reasoning": "r", "answer": "Prague [2]", "passages": [2, 1, 2]',
    ],
)
def test_one_answer_in_many_spellings(text: str) -> None:
    reply = read_step_reply(text)
    assert (reply.found, reply.answer, reply.passages) == (True, "Prague", (2, 1))


@pytest.mark.parametrize(
    "text",
    [
        '{"reasoning": "", "found": false, "answer": "Prague", "passages": [1]}',
        '{"reasoning": "", "found": true, "answer": "", "passages": []}',
        '{"reasoning": "", "found": true, "answer": "Not mentioned.", "passages": [1]}',
        '{"reasoning": "", "found": true, "answer": null, "passages": []}',
        "The passages do not mention where he was born.",
        "I don't know.",
    ],
)
def test_an_abstention_is_never_an_answer(text: str) -> None:
    reply = read_step_reply(text)
    assert (reply.found, reply.answer, reply.passages) == (False, "", ())


@pytest.mark.parametrize(
    "answer", ["None of the Above", "Unknown Pleasures", "Nowhere", "N", "Null Island", "No Exit"]
)
def test_names_that_only_begin_like_an_abstention_are_answers(answer: str) -> None:
    assert not says_nothing(answer)


def test_booleans_and_lists_are_answers_in_words() -> None:
    assert read_step_reply('{"found": true, "answer": true}').answer == "yes"
    assert read_step_reply('{"found": true, "answer": ["a", "b"]}').answer == "a, b"
    assert read_step_reply('{"found": true, "answer": 1903}').answer == "1903"


def test_a_short_plain_answer_is_read_with_its_marks() -> None:
    reply = read_step_reply("Answer: the Vltava [3].")
    assert (reply.answer, reply.passages) == ("the Vltava", (3,))


@pytest.mark.parametrize("text", ["", "{", '{"steps": ["a"]}', "x" * 400])
def test_what_is_no_answer_is_refused(text: str) -> None:
    with pytest.raises(InvalidResponse):
        read_step_reply(text)


def test_a_synthesis_cites_by_its_own_numbers() -> None:
    final = read_final("The Vltava [3]\n\nIt runs through Prague [3], where he was born [1, 9].", 3)
    assert final.short == "The Vltava"
    assert final.text == "The Vltava [1]\n\nIt runs through Prague [1], where he was born [2]."
    assert final.passages == (3, 1)


def test_marks_of_passages_nobody_was_given_are_taken_out() -> None:
    final = read_final("Yes [7]", 2)
    assert (final.text, final.passages) == ("Yes", ())


def test_unanswerable_is_an_abstention_that_says_what_is_missing() -> None:
    final = read_final("UNANSWERABLE: the year of the bridge [1]", 1)
    assert final.abstained
    assert final.text == "the year of the bridge"


@given(st.text(max_size=300))
def test_any_text_is_a_reply_or_a_refusal(text: str) -> None:
    try:
        reply = read_step_reply(text)
    except InvalidResponse:
        return
    assert reply.found == bool(reply.answer)


@given(st.text(max_size=300), st.integers(min_value=0, max_value=5))
def test_a_final_text_cites_only_what_it_was_given(text: str, known: int) -> None:
    final = read_final(text, known)
    assert all(1 <= number <= known for number in final.passages)
    assert set(cited_numbers(final.text)) <= set(range(1, len(final.passages) + 1))
    assert final.abstained == (final.short == "")


@given(st.text(max_size=100))
def test_marks_are_gone_after_taking_them_out(text: str) -> None:
    assert cited_numbers(without_marks(f"{text} [1][2, 3]")) == cited_numbers(without_marks(text))
