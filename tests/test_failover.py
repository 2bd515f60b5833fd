"""A backend dies in the middle of a run: the other takes over, and the trace shows it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hoptrail import Hoptrail, load_settings
from hoptrail.errors import RequestRefused
from hoptrail.events import AnswerRestarted, AnswerText, RunFinished
from hoptrail.testing import step_reply
from hoptrail.trace import Trace
from tests.providers import ChatRequest, Fault, LoopbackProvider
from tests.providers.side import Side

pytestmark = pytest.mark.anyio

PLAN = json.dumps({"steps": ["Who composed Finlandia?", "Where was #1 born?"]})
DEATHS = {
    "refused": None,
    "503": Fault("status", status=503),
    "429": Fault("status", status=429, headers={"Retry-After": "30"}),
    "cut after 5 tokens": Fault("stream_reset", after=5),
    "ended early after 5 tokens": Fault("stream_end", after=5),
    "200 with an error": Fault("error_body"),
}


def answers(name: str) -> Any:
    """Give a script whose texts say which backend wrote them."""

    def respond(request: ChatRequest) -> str:
        if "steps" in (request.schema or {}).get("properties", ()):
            return PLAN
        if "Findings:" in request.question:
            return f"Answer by {name}\n\nIt follows, says {name}, from what {name} was told before."
        person = "Who composed" in request.question.rpartition("Question:")[2]
        return step_reply(f"{'Sibelius' if person else 'Hämeenlinna'} by {name}", ())

    return respond


@pytest.fixture
def trail(provider: LoopbackProvider, tmp_path: Path) -> Iterator[Hoptrail]:
    provider.huggingface.answer(answers("huggingface"))
    provider.ollama.answer(answers("ollama"))
    provider.ollama.models = ["qwen3:8b"]
    yield from a_trail(provider, ("huggingface", "ollama"))


@pytest.fixture
def reversed_trail(trail: Hoptrail, provider: LoopbackProvider) -> Iterator[Hoptrail]:
    yield from a_trail(provider, ("ollama", "huggingface"))


def a_trail(provider: LoopbackProvider, order: tuple[str, str]) -> Iterator[Hoptrail]:
    settings = load_settings(
        backends=order,
        embedders=("hash",),
        token="hf_loopback",
        huggingface_base_url=provider.huggingface_url,
        ollama_host=provider.ollama_url,
    )
    trail = Hoptrail(settings=settings)
    yield trail
    trail.close()


async def dies_after_the_plan(
    trail: Hoptrail, first: Side, second: Side, death: Fault | None
) -> tuple[Trace, str]:
    """Run a question whose first backend dies after the plan; give the trace, and the answer
    text as a reader who obeys the restarts has it."""
    first.faults.append(None)
    first.fault = death
    text = ""
    async for event in trail.astream("Where was the composer of Finlandia born?"):
        if type(event).__name__ == "PlanFinished" and death is None:
            first.stop()
        if isinstance(event, AnswerText):
            text += event.delta
        if isinstance(event, AnswerRestarted):
            text = ""
        if isinstance(event, RunFinished):
            return event.trace, text
    raise AssertionError("the run did not finish")


def check_takeover(trace: Trace, text: str, first: str, second: str) -> None:
    assert trace.status == "answered"
    assert trace.plan.calls[0].backend == first
    last = trace.synthesis[-1]
    assert last.backend == second
    assert last.output == text
    assert f"by {second}" in text
    assert first not in text
    attempts = [
        (attempt.backend, attempt.outcome)
        for call in [*(call for step in trace.steps for call in step.calls), last]
        for attempt in call.attempts
    ]
    assert any(backend == first and outcome != "ok" for backend, outcome in attempts)
    assert attempts[-1] == (second, "ok")
    for step in trace.steps:
        assert step.answer.endswith(("by huggingface", "by ollama"))
        assert step.status == "answered"


@pytest.mark.parametrize("death", DEATHS, ids=str)
async def test_huggingface_dies_and_ollama_takes_over(
    trail: Hoptrail, provider: LoopbackProvider, death: str
) -> None:
    trace, text = await dies_after_the_plan(
        trail, provider.huggingface, provider.ollama, DEATHS[death]
    )
    check_takeover(trace, text, "huggingface", "ollama")
    if death == "refused":
        provider.huggingface.start()


@pytest.mark.parametrize("death", DEATHS, ids=str)
async def test_ollama_dies_and_huggingface_takes_over(
    reversed_trail: Hoptrail, provider: LoopbackProvider, death: str
) -> None:
    trace, text = await dies_after_the_plan(
        reversed_trail, provider.ollama, provider.huggingface, DEATHS[death]
    )
    check_takeover(trace, text, "ollama", "huggingface")
    if death == "refused":
        provider.ollama.start()


async def test_a_backend_that_has_to_be_seen_to_is_told_once(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    """Another one answers, so that the answer alone would hide it."""
    provider.huggingface.fault = Fault("out_of_credit")
    answer = await trail.aask("Where was the composer of Finlandia born?")
    assert not answer.degraded
    (told,) = answer.warnings
    assert told.startswith("huggingface: HTTP 402")
    assert "https://huggingface.co/settings/billing" in told


@pytest.mark.parametrize("first", ["huggingface", "ollama"])
async def test_half_a_character_is_refused_and_is_nobodys_failure(
    provider: LoopbackProvider, trail: Hoptrail, reversed_trail: Hoptrail, first: str
) -> None:
    router = (trail if first == "huggingface" else reversed_trail).assembly.router
    for _ in range(3):
        with pytest.raises(RequestRefused, match="surrogate"):
            await router.ainvoke("half \ud800 a character")
    answer = await router.ainvoke("Who composed Finlandia? Question: Who composed")
    assert answer.response_metadata["hoptrail"]["backend"] == first
    assert [attempt["outcome"] for attempt in answer.response_metadata["hoptrail"]["attempts"]] == [
        "ok"
    ]
