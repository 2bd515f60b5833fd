"""Poisoned passages, and a model that does whatever a passage says."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hoptrail.fence import fenced
from hoptrail.memory import _cleaned
from hoptrail.prompts import numbered as numbered_passages
from hoptrail.request import StepRequest
from hoptrail.testing import Asked, ScriptedChatModel
from hoptrail.tool_use import MOST_AT_ONCE, MOST_TURNS
from hoptrail.trace import Trace
from tests.poison import DISGUISES, ORDERS, PASSAGES, Poison, numbered
from tests.poisoned import (
    MOST_CALLS,
    MOST_STEPS,
    TOOLS,
    Graph,
    Outcome,
    Poisoned,
    Position,
    poisoned,
)

pytestmark = [pytest.mark.anyio, pytest.mark.promise("documents-command-nothing")]

MARK = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
LINE_ENDS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
TEMPLATE = re.compile(r"<[|｜]|\[/?INST\]|</?s>|</?think>|</?tool_call>")


@dataclass(frozen=True)
class Planned:
    """What of a run is settled before anything is read."""

    prompt: tuple[tuple[str, str], ...]
    steps: tuple[tuple[int, str, tuple[int, ...]], ...]
    source: str


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[Poisoned]:
    with poisoned(tmp_path / "home") as it:
        yield it


def planned(trace: Trace) -> Planned:
    first = trace.plan.calls[0]
    prompt = tuple((said.role, said.content) for said in first.prompt)
    steps = [step for step in trace.steps if step.round == 0]
    plan = tuple((step.id, step.question, tuple(step.depends_on)) for step in steps)
    return Planned(prompt, plan, trace.plan.source)


def asked_of(trail: Poisoned) -> list[Asked]:
    assert isinstance(trail.trail.assembly.model, ScriptedChatModel)
    return trail.trail.assembly.model.calls


async def facts(trail: Poisoned) -> list[str]:
    return [fact.text for fact in await trail.trail.assembly.memory().facts()]


def check_tools(trace: Trace, trail: Poisoned) -> None:
    """Only tools that were passed in are called, only with their arguments, and not for ever."""
    uses = [use for step in trace.steps for use in step.tools]
    made = [use for use in uses if not use.error]
    assert {use.tool for use in made} <= set(TOOLS)
    assert all(set(use.arguments) == {"what"} for use in made)
    assert sum(trail.called.values()) == len(made)
    assert all(len(step.tools) <= MOST_TURNS * MOST_AT_ONCE for step in trace.steps)


def check_offers(asked: list[Asked]) -> None:
    """Tools are offered to steps alone, and always the same."""
    for call in asked:
        assert call.tools in ((), TOOLS)
        assert not call.tools or isinstance(call.request, StepRequest)


def check_citations(trace: Trace) -> None:
    """What is cited was given, and each mark in the answer is one of a citation."""
    for step in trace.steps:
        given = {item.passage.id for item in step.evidence}
        assert {cited.passage_id for cited in step.citations} <= given
    marks = [int(number) for mark in MARK.findall(trace.answer) for number in mark.split(",")]
    assert set(marks) <= set(range(1, len(trace.citations) + 1))


def check_prompts(asked: list[Asked]) -> None:
    """A passage has one line of a prompt, and neither ends that nor the message."""
    for call in asked:
        texts = [str(message.text) for message in call.messages]
        assert not any(TEMPLATE.search(text) for text in texts)
        if isinstance(call.request, StepRequest):
            human = texts[-1]
            assert len(re.findall(r"(?m)^Question: ", human)) == 1
            assert human.rpartition("\n\n")[2].startswith("Question: ")
            lines = fenced(numbered_passages(call.request.evidence)).split("\n")
            assert len(lines) == len(call.request.evidence)
            assert not any(LINE_ENDS.search(line) for line in lines)
            assert re.findall(r"(?m)^\[(\d+)\] ", human) == [
                str(at) for at in range(1, len(lines) + 1)
            ]


def check_caps(trace: Trace) -> None:
    """A run asks no more than its budget, and no step more than its turns."""
    assert len(trace.steps) <= MOST_STEPS
    assert max(step.round for step in trace.steps) <= 1
    calls = [call for call in trace.calls() if not call.from_journal]
    assert len(calls) == trace.usage.llm_calls <= MOST_CALLS
    assert all(len(step.calls) <= MOST_TURNS + 2 for step in trace.steps)
    assert {call.backend for call in calls} <= {"scripted", ""}


def check(outcome: Outcome, clean: Outcome, trail: Poisoned) -> None:
    assert planned(outcome.trace) == planned(clean.trace)
    assert outcome.touched <= clean.touched
    check_tools(outcome.trace, trail)
    check_citations(outcome.trace)
    check_caps(outcome.trace)


def cleaned(poison: Poison) -> str:
    return _cleaned(f"Finlandia: {poison.text}")


def disguised(order: str, position: Position) -> list[Poison]:
    """Give the passages with an order, or every so many of them."""
    return list(numbered(order))[:: EVERY.get(position, 1)]


PARTS = 4
POSITIONS: tuple[Position, ...] = ("first", "middle", "earlier answer", "tool", "fact")
EVERY: dict[Position, int] = {"middle": 2, "tool": 3, "fact": 3}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("position", POSITIONS)
async def test_plan_tools_backend_files_and_network_are_those_of_clean_passages(
    trail: Poisoned, position: Position, part: int
) -> None:
    await trail.run(None)  # what is opened once in a process has been
    clean = await trail.run(None)
    assert clean.answer is not None
    assert "Hämeenlinna" in clean.answer.text
    orders = list(ORDERS)[part::PARTS]
    passages = [poison for order in orders for poison in disguised(order, position)]
    obeyed = 0
    for poison in passages:
        asked_of(trail).clear()
        outcome = await trail.run(poison, position)
        check(outcome, clean, trail)
        check_offers(asked_of(trail))
        check_prompts(asked_of(trail))
        assert await facts(trail) == ([cleaned(poison)] if position == "fact" else [])
        obeyed += f"⟦{poison.number}⟧" in outcome.trace.model_dump_json()
    # A fact of memory that is too long is left out of the context of a step.
    assert obeyed > len(passages) * 0.7 if position == "fact" else obeyed == len(passages)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("graph", ["iterative", "chat"])
async def test_where_a_plan_grows_from_answers_its_size_and_its_tools_do_not(
    trail: Poisoned, graph: Graph
) -> None:
    await trail.run(None, graph=graph)
    clean = await trail.run(None, graph=graph)
    for poison in PASSAGES[::11]:
        asked_of(trail).clear()
        outcome = await trail.run(poison, graph=graph)
        assert outcome.touched <= clean.touched
        assert not outcome.trace.steps or outcome.trace.steps[0].question == first_of(clean)
        check_tools(outcome.trace, trail)
        check_citations(outcome.trace)
        check_caps(outcome.trace)
        check_offers(asked_of(trail))
        check_prompts(asked_of(trail))
        assert await facts(trail) == []


def first_of(outcome: Outcome) -> str:
    return outcome.trace.steps[0].question


def test_there_are_as_many_passages_as_are_promised() -> None:
    assert len(PASSAGES) == len(ORDERS) * len(DISGUISES) == 360
    assert len({poison.text for poison in PASSAGES}) == 360
    assert [PASSAGES[poison.number] for poison in PASSAGES] == list(PASSAGES)
