"""No prompt outgrows what a model can read, whatever documents, models and callers write."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.retrievers import BaseRetriever

from hoptrail import Hoptrail, load_settings
from hoptrail.evidence import Evidence, Passage
from hoptrail.prompts import passage_line
from hoptrail.request import (
    NextStepRequest,
    PlanRequest,
    RevisionRequest,
    StepOutcome,
    StepRequest,
)
from hoptrail.room import best_within, newest_within, steps_within, weight_of_steps
from hoptrail.testing import Asked, ScriptedChatModel, step_reply
from hoptrail.tokens import beginning, cut, estimated_tokens, most_tokens, weight
from hoptrail.trace import Trace

pytestmark = [pytest.mark.anyio, pytest.mark.promise("prompts-are-bounded")]

NUM_CTX = 8192
WINDOW = 4 * NUM_CTX * 3 // 4
"""The weight of the longest prompt: three quarters of the window, the rest is the answer's."""

LONG = {
    "letters": ("word" * 25 + " ") * 1_000,
    "Chinese": "東京は日本の首都である。" * 8_000,
    "emoji": "🏯🗾" * 40_000,
    "no spaces": "x" * 200_000,
}


class Verbose(BaseRetriever):
    """A retriever whose documents have long titles and longer texts."""

    text: str

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [
            Document(self.text, id=f"{query[:40]}{at}", metadata={"title": self.text})
            for at in range(9)
        ]


def verbose(text: str) -> ScriptedChatModel:
    """A model that answers everything at length, and finds nothing in every third step."""
    words = text[:700]

    def respond(asked: Asked) -> str:
        match asked.request:
            case PlanRequest() | RevisionRequest():
                steps = [f"{at}: {words}?" for at in range(6)]
                return json.dumps({"steps": [*steps, f"{words} {'#1 #2 #3 ' * 20}?"]})
            case NextStepRequest(next_id=number) if number < 7:
                return json.dumps({"steps": [f"{number}: {words}?"]})
            case NextStepRequest():
                return json.dumps({"steps": []})
            case StepRequest(question=question):
                return step_reply(None if question.startswith("3") else text, (1, 2, 3))
            case _:
                return text

    return ScriptedChatModel(respond=respond)


def prompts(model: ScriptedChatModel) -> dict[str, int]:
    """Give the weight of the heaviest prompt of each kind."""
    heaviest: dict[str, int] = {}
    for asked in model.calls:
        kind = asked.request.kind if asked.request else ""
        heavy = sum(weight(str(message.text)) for message in asked.messages)
        heaviest[kind] = max(heavy, heaviest.get(kind, 0))
    return heaviest


async def ask(text: str, graph: str) -> tuple[Trace, dict[str, int]]:
    model = verbose(text)
    settings = load_settings(num_ctx=NUM_CTX, embedders="hash", max_steps=12, max_llm_calls=60)
    trail = Hoptrail(model=model, retriever=Verbose(text=text), settings=settings)
    try:
        if graph == "chat":
            history: Sequence[BaseMessage] = [
                SystemMessage(text),
                *[HumanMessage(text[:3_000]), AIMessage(text[:3_000])] * 40,
            ]
            answer = await trail.achat("Who?", history=history, user=None)
        elif graph == "iterative":
            answer = await trail.aask("Who?", graph="iterative")
        else:
            answer = await trail.aask("Who?")
    finally:
        trail.close()
    return answer.trace, prompts(model)


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
@pytest.mark.parametrize(
    ("graph", "kinds"),
    [
        ("multi-hop", {"plan", "step", "revision", "synthesis"}),
        ("iterative", {"next", "step", "synthesis"}),
        ("chat", {"chat"}),
    ],
)
async def test_no_prompt_is_longer_than_the_window(text: str, graph: str, kinds: set[str]) -> None:
    trace, heaviest = await ask(text, graph)
    assert set(heaviest) == kinds
    assert max(heaviest.values()) <= WINDOW, heaviest
    warnings = [*trace.warnings, *(each for step in trace.steps for each in step.warnings)]
    assert any("left out" in each or "cut" in each for each in warnings)


async def test_what_was_left_out_of_the_synthesis_is_said() -> None:
    trace, _ = await ask(LONG["letters"], "multi-hop")
    said = " ".join(trace.warnings)
    assert "cited passages left out of the synthesis: a prompt is limited to 6144 tokens" in said
    assert "answers of steps were cut for the synthesis" in said


async def test_what_fits_is_told_whole() -> None:
    model = ScriptedChatModel(respond=verbose("Kafka").respond)
    settings = load_settings(embedders="hash", max_llm_calls=60)
    trail = Hoptrail(model=model, retriever=Verbose(text="By Kafka."), settings=settings)
    try:
        trace = (await trail.aask("Who?")).trace
    finally:
        trail.close()
    assert trace.warnings == []


# The measures


TEXTS = st.text(max_size=200)


@given(TEXTS, st.integers(0, 300))
def test_a_text_is_cut_to_its_weight(text: str, heaviest: int) -> None:
    assert text.startswith(beginning(text, heaviest))
    assert weight(beginning(text, heaviest)) <= heaviest
    assert weight(cut(text, heaviest)) <= max(heaviest, weight("…"))
    assert (cut(text, heaviest) == text) == (weight(text) <= heaviest or text.endswith("…"))


@given(TEXTS, TEXTS)
def test_weights_add_up_and_bytes_bound_them(one: str, other: str) -> None:
    assert weight(one + other) == weight(one) + weight(other)
    assert estimated_tokens(one, other) <= most_tokens(one + other)


def found(at: int, text: str, title: str = "") -> Evidence:
    return Evidence(passage=Passage(id=str(at), text=text, title=title), rank=1, score=1.0)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=12), st.integers(0, 2_000))
def test_passages_are_kept_in_their_order_as_far_as_there_is_room(
    texts: list[tuple[str, str]], room: int
) -> None:
    evidence = [found(at, text, title) for at, (text, title) in enumerate(texts)]
    newest = newest_within(evidence, room)
    assert list(newest) == evidence[len(evidence) - len(newest) :]
    assert sum(weight(passage_line(item)) for item in newest) <= room
    best = best_within(evidence, room, 100)
    assert len(best) >= min(1, len(evidence))
    assert sum(weight(passage_line(item)) for item in best) <= max(room, 100) * 5 // 4 + 2


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=60), st.integers(200, 4_000))
def test_of_steps_the_newest_are_told(texts: list[tuple[str, str]], room: int) -> None:
    steps = [
        StepOutcome(id=at, question=question, answer=answer, status="answered")
        for at, (question, answer) in enumerate(texts, start=1)
    ]
    told = steps_within(steps, room)
    assert weight_of_steps(told) <= room
    assert [step.id for step in told] == [step.id for step in steps][len(steps) - len(told) :]
    assert (told == tuple(steps)) == (weight_of_steps(steps) <= room)
