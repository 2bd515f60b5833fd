import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.evidence import Evidence, Passage
from hoptrail.prompts import numbered, render
from hoptrail.request import (
    EarlierAnswer,
    PlanRequest,
    Request,
    RevisionRequest,
    StepOutcome,
    StepRequest,
    SynthesisRequest,
    request_of,
    schema_of,
)

PASSAGE = Evidence(passage=Passage(id="a", title="Prague", text="On the Vltava."), rank=1, score=1)
STEPS = (
    StepOutcome(id=1, question="Where?", status="answered", answer="Prague", passages=(1,)),
    StepOutcome(id=2, question="When?", status="abstained"),
    StepOutcome(id=3, question="Who?", status="failed"),
)
REQUESTS: list[Request] = [
    PlanRequest(question="Which river?"),
    RevisionRequest(question="Which river?", steps=STEPS, first_id=4),
    StepRequest(question="Which river?", main_question="Which river?", evidence=(PASSAGE,)),
    SynthesisRequest(question="Which river?", steps=STEPS, evidence=(PASSAGE,)),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.kind)
def test_the_request_travels_with_its_messages(request_: Request) -> None:
    messages = render(request_)
    assert request_of(messages) == request_
    assert "Which river?" in str(messages[-1].text)


def test_a_plain_conversation_carries_no_request() -> None:
    assert request_of([]) is None
    assert request_of(render(REQUESTS[0])[:1]) is None


def test_the_synthesis_is_told_how_each_step_ended() -> None:
    text = str(render(REQUESTS[3])[-1].text)
    assert "Step 1: Where? -> Prague [1]" in text
    assert "Step 2: When? -> found nothing" in text
    assert "Step 3: Who? -> could not be asked" in text


def test_a_revision_is_told_its_first_number() -> None:
    assert "from #4" in str(render(REQUESTS[1])[0].text)


def test_a_step_without_documents_is_not_asked_for_passages() -> None:
    known = EarlierAnswer(id=1, question="Where?", answer="Prague")
    request = StepRequest(
        question="Which river?", main_question="?", earlier=(known,), from_documents=False
    )
    text = str(render(request)[-1].text)
    assert "Passages" not in text
    assert "- Where? Prague" in text


def test_demonstrations_follow_the_schema_they_ask_for() -> None:
    for request in REQUESTS:
        schema = schema_of(request)
        lines = str(render(request)[0].text).splitlines()
        shown = [json.loads(line) for line in lines if line.startswith('{"')]
        keys = set(schema["properties"]) if schema else set()  # type: ignore[call-overload] # a JSON schema
        assert all(set(value) == keys for value in shown)
        assert shown or schema is None


@given(st.text(max_size=200), st.text(max_size=50))
def test_a_passage_cannot_open_a_line_of_the_prompt(text: str, title: str) -> None:
    item = Evidence(passage=Passage(id="a", title=title, text=text), rank=1, score=1)
    assert len(numbered([item, item]).split("\n")) == 2
