import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hoptrail.loose_json import read_json, without_thinking

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(min_size=1, max_size=5), values, min_size=1))
@example({"0": "<THINK>"})
@example({"0": "<think>x</think>y"})
@example({"a": 1, "b": "```"})
@example({"a": 1, "b": "} ] {"})
def test_json_in_a_fence_with_prose_is_read_as_it_was_written(value: dict[str, object]) -> None:
    text = f"Here you are:\n```json\n{json.dumps(value)}\n```"
    assert read_json(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"steps": ["Who', {"steps": []}),
        ('{"steps": ["Who?", "Wh', {"steps": ["Who?"]}),
        ("no json here", None),
        ("{}", None),
        ("[1, 2]", [1, 2]),
        ('{"steps": ["Who?", \n```\nSo much for {that}', {"steps": ["Who?"]}),
    ],
)
def test_what_was_cut_is_completed(text: str, value: object) -> None:
    assert read_json(text) == value


@given(st.text(max_size=500))
def test_any_text_gives_a_container_or_nothing(text: str) -> None:
    assert read_json(text) is None or isinstance(read_json(text), dict | list)


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a":' * 100_000, "{" * 900_000])
def test_deep_nesting_ends_and_does_not_crash(deep: str) -> None:
    assert isinstance(read_json(deep), dict | list | None)


@pytest.mark.parametrize(
    "text",
    [
        '<think>{"a": 0}</think>{"a": 1}',
        'So:<think>{</think> <think>[</think>{"a": 1}',
        '{"a": 1}<think>or {"a": 2}?</think>',
        '{"a": <think>2?</think> 1}',
        'As in [1]:\n```json\n{"a": 1}\n```\nas [2] says.',
    ],
)
def test_thinking_and_prose_are_no_part_of_it(text: str) -> None:
    assert read_json(text) == {"a": 1}


@pytest.mark.parametrize(
    "text", ['<think>{"a": 1}', "<think>" * 100_000, "<think>{</think>" * 60_000]
)
def test_what_is_only_thought_is_not_said(text: str) -> None:
    assert read_json(text) is None


def test_thinking_that_never_ends_is_all_thinking() -> None:
    assert without_thinking("a<think>b</think>c<THINK>d") == "ac"
