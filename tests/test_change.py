"""Change: what it refuses, in words that say what to write instead."""

import pytest
from pydantic import ValidationError

from hoptrail.change import Change


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "passages to pin or ban"),
        ({"step": 2}, "nothing is changed"),
        ({"answer": "Prague"}, "say which with `step`"),
        ({"step": 2, "answer": "Prague", "question": "Where?"}, "leave out question and passages"),
        ({"step": 2, "answer": "  "}, "the answer that is given is empty"),
        ({"question": "\n"}, "the question that is given is empty"),
        ({"pinned": ["a#1"], "banned": ["b#1", "a#1"]}, "pinned and banned at once: a#1"),
        ({"model": "qwen3"}, "write it as BACKEND:MODEL"),
        ({"model": "ollama:"}, "write it as BACKEND:MODEL"),
        ({"model": "ollama:qwen 3"}, "write it as BACKEND:MODEL"),
    ],
)
def test_what_is_no_change_says_what_would_be_one(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Change.model_validate(given)
    (told,) = caught.value.errors()
    assert said in told["msg"]


def test_the_schema_tells_how_a_model_is_written() -> None:
    model = Change.model_json_schema()["properties"]["model"]
    assert model["anyOf"][0]["pattern"] == r"^[a-z]+:\S+$"
