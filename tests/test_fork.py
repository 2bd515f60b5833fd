"""Forks: what a change leads to is asked anew, and nothing else is."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hoptrail import (
    Change,
    ChangeImpossible,
    Hoptrail,
    HoptrailError,
    PlanProposed,
    RunBusy,
    RunFinished,
    RunNotFound,
    RunStarted,
    StepFinished,
    build_graph,
    load_settings,
)
from hoptrail.background import background
from hoptrail.errors import RunOfAnother
from hoptrail.evidence import Retrieval
from hoptrail.request import StepRequest
from hoptrail.run import RUN_ID
from hoptrail.testing import Asked, ScriptedChatModel, script
from hoptrail.testing import step_reply as found
from hoptrail.trace import StepTrace, Trace
from tests import four_hops, two_hops
from tests.four_hops import CHAIN, DIAMOND, QUESTION, asked
from tests.moments import done_meanwhile, until_kept
from tests.providers import ChatRequest, Fault, LoopbackProvider, Reply
from tests.two_hops import kind_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def trail(provider: LoopbackProvider, tmp_path: Path) -> Iterator[Hoptrail]:
    trail = four_hops.trail(provider, four_hops.write_documents(tmp_path / "docs"))
    yield trail
    trail.close()


def answered(
    trail: Hoptrail, provider: LoopbackProvider, steps: tuple[str, ...], **facts: str
) -> Trace:
    """Ask the question, and give the record; what was asked for it is forgotten."""
    four_hops.serve(provider, steps, **facts)
    trace = trail.ask(QUESTION).trace
    assert [step.status for step in trace.steps] == ["answered"] * len(steps)
    asked(provider)
    return trace


def answers(trace: Trace) -> list[str]:
    return [step.answer for step in trace.steps]


def kept_of(trail: Hoptrail, trace: Trace) -> tuple[bytes, dict[str, str], object]:
    """Give all that is kept of a run."""
    journal = trail.assembly.journal
    path = journal.trace_path(trace.run_id)
    return path.read_bytes(), journal.entries(trace.run_id), journal.run(trace.run_id)


def test_another_last_answer_costs_the_synthesis_alone(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    parent = answered(trail, provider, CHAIN)
    before = kept_of(trail, parent)
    child = trail.rerun(parent.run_id, Change(step=4, answer="1 mile")).trace
    assert asked(provider) == ["synthesis"]
    assert answers(child) == ["Franz Kafka", "Prague", "Vltava", "1 mile"]
    assert "1 mile" in child.answer
    assert child.usage.llm_calls == 1
    assert parent.usage.llm_calls == 6
    assert [call.from_run for call in child.calls()] == [parent.run_id] * 4 + [""]
    assert [step.from_run for step in child.steps] == [parent.run_id] * 3 + [""]
    assert [step.given for step in child.steps] == [False, False, False, True]
    assert (child.parent_run_id, child.change) == (
        parent.run_id,
        Change(step=4, answer="1 mile"),
    )
    # It rests on nobody's passage.
    assert not child.steps[3].evidence
    assert not child.steps[3].citations
    assert {citation.step for citation in child.citations} <= {1, 2, 3}
    assert kept_of(trail, parent) == before


def test_parent_and_child_are_linked_in_the_journal_and_the_json(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    parent = answered(trail, provider, CHAIN)
    answer = trail.rerun(parent.run_id, Change(step=1, answer="Max Brod"), new_run_id="child")
    row = trail.assembly.journal.run("child")
    assert (row.parent_run_id, row.graph, row.question) == (parent.run_id, "multi-hop", QUESTION)
    told = json.loads(json.dumps(answer.as_json()))
    assert told["parent_run_id"] == parent.run_id
    assert told["change"]["step"] == 1
    assert told["change"]["answer"] == "Max Brod"
    assert [step["given"] for step in told["steps"]][:2] == [True, False]
    assert trail.assembly.journal.trace("child") == answer.trace
    parents = trail.assembly.journal.trace(parent.run_id)
    assert parents.parent_run_id is None
    assert parents.change is None


def test_a_branch_that_does_not_depend_on_the_change_is_kept(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    parent = answered(trail, provider, DIAMOND, **{"Is German spoken in Vienna?": "yes"})
    child = trail.rerun(parent.run_id, Change(step=2, answer="Vienna")).trace
    assert asked(provider) == ["Is German spoken in Vienna?", "synthesis"]
    assert answers(child) == ["Franz Kafka", "Vienna", "German", "yes"]
    assert child.usage.llm_calls == 2


def test_what_rests_on_an_answer_that_stays_the_same_is_kept(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    again = "Which town was #1 born in?"
    facts = {"Which town was Franz Kafka born in?": "Prague"}
    parent = answered(trail, provider, CHAIN, **facts)
    child = trail.rerun(parent.run_id, Change(step=2, question=again)).trace
    # The same answer, cited alike; but the synthesis is told the questions, too.
    assert asked(provider) == ["Which town was Franz Kafka born in?", "synthesis"]
    assert answers(child) == answers(parent)
    assert child.plan.source == "given"
    assert [step.question for step in child.steps] == [CHAIN[0], again, *CHAIN[2:]]
    assert [bool(step.from_run) for step in child.steps] == [True, False, True, True]


def test_when_all_ends_as_it_did_the_answer_is_kept_too(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    parent = answered(trail, provider, CHAIN)
    change = Change(step=2, model="ollama:llama3.2:3b")
    child = trail.rerun(parent.run_id, change).trace
    (chat,) = provider.ollama.chats
    assert chat.model == "llama3.2:3b"
    assert asked(provider) == ["Where was Franz Kafka born?"]
    assert child.steps[1].calls[0].backend == "ollama"
    assert child.answer == parent.answer
    assert child.synthesis[0].from_run == parent.run_id
    assert child.usage.llm_calls == 1


def test_another_question_may_refer_to_other_steps(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    facts = {"Is Vltava near Prague?": "within"}
    parent = answered(trail, provider, CHAIN, **facts)
    child = trail.rerun(parent.run_id, Change(step=4, question="Is #3 near #2?")).trace
    assert asked(provider) == ["Is Vltava near Prague?", "synthesis"]
    assert child.steps[3].depends_on == [2, 3]
    assert child.steps[3].answer == "within"
    alone = trail.rerun(parent.run_id, Change(step=4, question="Who wrote The Trial?")).trace
    assert alone.steps[3].depends_on == []
    pronoun = trail.rerun(parent.run_id, Change(step=4, question="Is it long?")).trace
    assert pronoun.steps[3].depends_on == [3]
    assert pronoun.steps[3].asked == "Is it long? (Vltava)"


def test_another_question_of_the_run_keeps_nothing_but_the_link(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    parent = answered(trail, provider, CHAIN)
    child = trail.rerun(parent.run_id, Change(question="Who was Kafka?")).trace
    assert child.question == "Who was Kafka?"
    assert child.parent_run_id == parent.run_id
    assert Counter(asked(provider)) == Counter(
        ["plan", *(step.asked for step in parent.steps), "synthesis"]
    )
    assert not any(call.from_run for call in child.calls())


def passages_in(prompt: str) -> list[str]:
    """Give the titles of the passages in a prompt, in order."""
    lines = [line for line in prompt.splitlines() if line.startswith("[")]
    return [line.partition("] ")[2].partition(": ")[0] for line in lines]


def test_banned_passages_are_not_in_the_prompt_and_others_take_their_place(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    docs = four_hops.write_documents(tmp_path / "docs")
    trail = four_hops.trail(provider, docs, top_k=2)
    parent = answered(trail, provider, CHAIN)
    banned = parent.steps[1].evidence[0].passage
    child = trail.rerun(parent.run_id, Change(step=2, banned=(banned.id,))).trace
    (chat, *_) = provider.huggingface.chats
    assert kind_of(chat) == "Where was Franz Kafka born?"
    assert len(passages_in(chat.question)) == 2
    assert banned.title not in passages_in(chat.question)
    assert banned.text not in chat.prompt
    assert [item.rank for item in child.steps[1].evidence] == [1, 2]
    assert {step.id for step in child.steps if not step.from_run} == {2}
    trail.close()


def test_pinned_passages_come_first_even_when_nobody_found_them(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    docs = four_hops.write_documents(tmp_path / "docs")
    trail = four_hops.trail(provider, docs, top_k=2)
    parent = answered(trail, provider, CHAIN)
    by_title = {item.passage.title: item.passage for step in parent.steps for item in step.evidence}
    pinned = by_title["Vltava"]
    assert "Vltava" not in [item.passage.title for item in parent.steps[0].evidence]
    child = trail.rerun(parent.run_id, Change(step=1, pinned=(pinned.id,))).trace
    (chat, *_) = provider.huggingface.chats
    assert passages_in(chat.question)[0] == "Vltava"
    assert len(passages_in(chat.question)) == 2
    first = child.steps[0].evidence[0]
    assert (first.passage, first.rank, first.scores["pinned"]) == (pinned, 1, 1.0)
    trail.close()


def test_a_ban_for_the_whole_run_reaches_the_steps_that_were_given_the_passage(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    trail = four_hops.trail(provider, four_hops.write_documents(tmp_path / "docs"), top_k=1)
    parent = answered(trail, provider, CHAIN)
    banned = parent.steps[3].evidence[0].passage.id
    holding = [
        step.asked for step in parent.steps if banned in [item.passage.id for item in step.evidence]
    ]
    assert 0 < len(holding) < 4
    child = trail.rerun(parent.run_id, Change(banned=(banned,))).trace
    again = asked(provider)
    assert [kind for kind in again if kind != "synthesis"] == holding
    assert all(banned != item.passage.id for step in child.steps for item in step.evidence)
    trail.close()


def test_a_passage_pinned_for_the_whole_run_is_given_to_every_step(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    parent = answered(trail, provider, CHAIN)
    pinned = parent.steps[3].evidence[0].passage.id
    child = trail.rerun(parent.run_id, Change(pinned=(pinned,))).trace
    assert [step.evidence[0].passage.id for step in child.steps] == [pinned] * 4
    assert Counter(asked(provider)) == Counter(
        [*(step.asked for step in parent.steps), "synthesis"]
    )


def test_one_step_is_asked_of_another_backend(trail: Hoptrail, provider: LoopbackProvider) -> None:
    parent = answered(trail, provider, DIAMOND)
    assert {call.backend for call in parent.calls()} == {"huggingface"}
    provider.ollama.respond = four_hops.Knowing(
        DIAMOND,
        {
            "Which language did Franz Kafka write in?": "Czech",
            "Is Czech spoken in Prague?": "by most",
        },
    )
    child = trail.rerun(parent.run_id, Change(step=3, model="ollama:qwen3:8b")).trace
    assert not provider.huggingface.chats
    assert asked(provider) == [
        "Which language did Franz Kafka write in?",
        "Is Czech spoken in Prague?",
        "synthesis",
    ]
    backends = {step.id: step.calls[-1].backend for step in child.steps}
    assert backends == {1: "huggingface", 2: "huggingface", 3: "ollama", 4: "ollama"}
    assert child.model_policy == "ollama:qwen3:8b"


def test_all_steps_are_asked_of_another_model_on_the_same_plan(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    parent = answered(trail, provider, CHAIN)
    child = trail.rerun(parent.run_id, Change(model="ollama:qwen3:8b")).trace
    assert not provider.huggingface.chats
    assert asked(provider) == [*(step.asked for step in parent.steps), "synthesis"]
    assert child.plan.calls[0].from_run == parent.run_id
    assert child.usage.llm_calls == 5


def test_a_fork_of_a_fork_names_the_run_that_paid(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    facts = {"Which river flows through Vienna?": "Danube", "How long is the Danube?": "2850 km"}
    parent = answered(trail, provider, CHAIN, **facts)
    child = trail.rerun(parent.run_id, Change(step=2, answer="Vienna")).trace
    assert asked(provider)[:-1] == list(facts)
    grandchild = trail.rerun(child.run_id, Change(step=4, answer="short")).trace
    assert asked(provider) == ["synthesis"]
    assert answers(grandchild) == ["Franz Kafka", "Vienna", "Danube", "short"]
    assert [step.from_run for step in grandchild.steps] == [
        parent.run_id,
        child.run_id,
        child.run_id,
        "",
    ]
    assert [step.given for step in grandchild.steps] == [False, True, False, True]
    assert grandchild.parent_run_id == child.run_id
    assert grandchild.change == Change(step=4, answer="short")


def test_what_was_changed_before_stays_changed(provider: LoopbackProvider, tmp_path: Path) -> None:
    trail = four_hops.trail(provider, four_hops.write_documents(tmp_path / "docs"), top_k=2)
    facts = {"Where is Max Brod from?": "Prague", "Where is Franz Kafka from?": "Prague"}
    parent = answered(trail, provider, CHAIN, **facts)
    banned = parent.steps[1].evidence[0].passage.id
    first = trail.rerun(parent.run_id, Change(step=2, banned=(banned,), model="ollama:qwen3:8b"))
    second = trail.rerun(first.run_id, Change(step=2, question="Where is #1 from?"))
    third = trail.rerun(second.run_id, Change(step=1, answer="Max Brod"))
    assert provider.ollama.chats
    assert not provider.huggingface.chats
    for fork in (first, second, third):
        assert banned not in [item.passage.id for item in fork.trace.steps[1].evidence]
    assert third.trace.steps[1].asked == "Where is Max Brod from?"
    undone = trail.rerun(third.run_id, Change(step=2, pinned=(banned,)))
    assert undone.trace.steps[1].evidence[0].passage.id == banned
    assert undone.trace.steps[0].given
    trail.close()


def test_a_given_step_can_be_asked_again(trail: Hoptrail, provider: LoopbackProvider) -> None:
    parent = answered(trail, provider, CHAIN)
    child = trail.rerun(parent.run_id, Change(step=2, answer="Vienna")).trace
    asked(provider)
    back = trail.rerun(child.run_id, Change(step=2, model="ollama:qwen3:8b")).trace
    assert answers(back) == answers(parent)
    assert not back.steps[1].given
    assert asked(provider)[:1] == ["Where was Franz Kafka born?"]


def test_steps_that_failed_are_asked_again(trail: Hoptrail, provider: LoopbackProvider) -> None:
    facts = {"How long is the Danube?": "2850 km"}
    four_hops.serve(provider, CHAIN)
    del provider.huggingface.respond.facts["Which river flows through Prague?"]  # type: ignore[attr-defined] # a model that knows facts
    parent = trail.ask(QUESTION).trace
    assert [step.status for step in parent.steps][:4] == ["answered"] * 2 + ["abstained"] * 2
    asked(provider)
    four_hops.serve(provider, CHAIN, **facts)
    child = trail.rerun(parent.run_id, Change(step=3, answer="Danube")).trace
    assert asked(provider) == ["How long is the Danube?", "synthesis"]
    assert answers(child) == ["Franz Kafka", "Prague", "Danube", "2850 km"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (Change(step=9, answer="x"), "has no step 9: its steps are 1, 2, 3, 4"),
        (Change(step=2, question="Where is #3?"), "refers to #3, which is no step before it"),
        (Change(step=2, question="Where is #2?"), "refers to #2"),
        (Change(step=2, question="Where is #9?"), "refers to #9"),
        (Change(pinned=("nothing.md#1",)), "no passage 'nothing.md#1'"),
        (Change(step=1, banned=("nothing.md#1",)), "no passage 'nothing.md#1'|nothing would"),
        (Change(model="local:x"), "not a model that may be asked"),
        (Change(model="nobody:x"), "with a backend of the settings .huggingface, ollama."),
        (Change(model="extractive:x"), "not a model that may be asked"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_before_anything_is_asked(
    trail: Hoptrail, provider: LoopbackProvider, change: Change, why: str
) -> None:
    parent = answered(trail, provider, CHAIN)
    with pytest.raises(ChangeImpossible, match=why):
        trail.rerun(parent.run_id, change)
    assert asked(provider) == []
    assert len(trail.assembly.journal.runs()) == 1


def test_a_ban_without_effect_is_refused(provider: LoopbackProvider, tmp_path: Path) -> None:
    trail = four_hops.trail(provider, four_hops.write_documents(tmp_path / "docs"), top_k=1)
    parent = answered(trail, provider, CHAIN)
    held = {item.passage.id for item in parent.steps[0].evidence}
    others = {item.passage.id for item in parent.steps[3].evidence} - held
    assert others
    with pytest.raises(ChangeImpossible, match="step 1 was given none of these"):
        trail.rerun(parent.run_id, Change(step=1, banned=tuple(others)))
    trail.close()


def test_only_a_run_that_was_and_has_ended_is_forked(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    parent = answered(trail, provider, CHAIN)
    change = Change(step=1, answer="x")
    with pytest.raises(RunNotFound):
        trail.rerun("nobody", change)
    journal = trail.assembly.journal
    lock = journal.admit(parent.run_id, QUESTION, {"graph": "multi-hop"})
    with lock, pytest.raises(RunBusy, match="under way"):
        trail.rerun(parent.run_id, change)


def test_a_turn_of_a_conversation_has_no_fork(trail: Hoptrail, provider: LoopbackProvider) -> None:
    four_hops.serve(provider, CHAIN)
    turn = trail.chat("Who wrote The Trial?")
    with pytest.raises(ChangeImpossible, match="conversation"):
        trail.rerun(turn.run_id, Change(step=1, answer="x"))


def test_an_id_is_that_of_one_fork(trail: Hoptrail, provider: LoopbackProvider) -> None:
    parent = answered(trail, provider, CHAIN)
    change = Change(step=4, answer="x")
    first = trail.rerun(parent.run_id, change, new_run_id="fork")
    asked(provider)
    assert trail.rerun(parent.run_id, change, new_run_id="fork").text == first.text
    assert asked(provider) == []
    with pytest.raises(RunOfAnother):
        trail.rerun(parent.run_id, Change(step=4, answer="y"), new_run_id="fork")
    with pytest.raises(RunOfAnother):
        trail.rerun(parent.run_id, change, new_run_id=parent.run_id)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"step": 2},
        {"answer": "x"},
        {"step": 1, "answer": " "},
        {"step": 0, "answer": "x"},
        {"step": 1, "answer": "x", "question": "y?"},
        {"step": 1, "answer": "x", "banned": ["p"]},
        {"pinned": ["p"], "banned": ["p"]},
        {"pinned": [""]},
        {"model": "qwen3"},
        {"model": "ollama:"},
        {"step": 1, "answer": "x", "reason": "y"},
    ],
)
def test_a_change_changes_something_and_does_not_contradict_itself(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Change.model_validate(fields)


def test_nobody_has_a_model_loaded_that_the_settings_do_not_name(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    flags = {"backends": "huggingface,local", "local_model": "tiny"}
    trail = four_hops.trail(provider, four_hops.write_documents(tmp_path / "docs"), **flags)
    parent = answered(trail, provider, CHAIN)
    with pytest.raises(ChangeImpossible, match="not the local model"):
        trail.rerun(parent.run_id, Change(model="local:/etc"))
    trail.assembly.check_model("local:tiny")
    model, _ = trail.assembly.named_model("local:tiny")
    assert model.backends == (trail.assembly.backends[1],)
    trail.close()


# What a killed fork has done, it does not do again


async def test_a_fork_that_broke_off_goes_on_with_its_change_and_asks_nothing_twice(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    facts = {"Which river flows through Vienna?": "Danube", "How long is the Danube?": "2850 km"}
    parent = answered(trail, provider, CHAIN, **facts)
    change = Change(step=2, answer="Vienna", model="ollama:llama3.2:3b")
    async with aclosing(trail.astream_rerun(parent.run_id, change, new_run_id="fork")) as events:
        async for event in events:
            if isinstance(event, RunStarted):
                assert not event.resumed
            if isinstance(event, StepFinished) and event.step.id == 3:
                break
    assert trail.assembly.journal.run("fork").status == "interrupted"
    assert provider.ollama.chats[0].model == "llama3.2:3b"
    assert set(asked(provider)) <= set(facts)
    # By whichever door it is resumed: the change is the run's own.
    resumed = (await trail.aask(QUESTION, run_id="fork")).trace
    assert "Which river flows through Vienna?" not in asked(provider)
    assert answers(resumed) == ["Franz Kafka", "Vienna", "Danube", "2850 km"]
    assert resumed.parent_run_id == parent.run_id
    assert resumed.change == change
    assert {call.backend for call in resumed.calls() if not call.from_run} == {"ollama"}
    assert resumed.usage.llm_calls == 3
    assert [bool(step.from_run) for step in resumed.steps] == [True, False, False, False]


async def test_a_fork_whose_first_call_fails_is_there_to_be_resumed(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    parent = answered(trail, provider, CHAIN)
    provider.huggingface.fault = provider.ollama.fault = Fault("status", status=500)
    with pytest.raises(HoptrailError):
        await trail.arerun(parent.run_id, Change(question="Who was Kafka?"), new_run_id="fork")
    row = trail.assembly.journal.run("fork")
    assert (row.status, row.parent_run_id) == ("failed", parent.run_id)
    provider.huggingface.fault = provider.ollama.fault = None
    trail.close()
    assert provider.huggingface.chats


async def test_a_fork_that_is_left_while_it_is_admitted_stays_what_it_was(
    trail: Hoptrail, provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = answered(trail, provider, CHAIN)
    change = Change(step=4, answer="x")
    first = (await trail.arerun(parent.run_id, change, new_run_id="fork")).trace
    journal, loop = trail.assembly.journal, asyncio.get_running_loop()
    admit = journal.admit

    def admit_late(*given: Any) -> Any:
        done_meanwhile(loop, again.cancel)
        return admit(*given)

    monkeypatch.setattr(journal, "admit", admit_late)
    async with asyncio.TaskGroup() as group:
        again = group.create_task(trail.aask(QUESTION, run_id="fork"))
    assert again.cancelled()
    row = await journal.off_loop(journal.run, "fork")
    assert (row.status, row.parent_run_id) == ("interrupted", parent.run_id)
    assert answers(journal.trace("fork")) == answers(first)


# Answers that were shown for being similar


def alike(trail: Hoptrail) -> None:
    """Make all questions and answers alike."""

    async def similarity(_text: str, others: Sequence[str]) -> list[float]:
        return [1.0 for _ in others]

    trail.assembly.parts = replace(trail.assembly.parts, similarity=similarity)


def shown_to(step: StepTrace) -> list[int]:
    return [known.id for known in step.earlier]


def test_a_fork_shows_a_step_no_answers_that_came_too_late_before(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    alike(trail)
    parent = answered(trail, provider, DIAMOND)
    assert shown_to(parent.steps[2]) == [1]
    child = trail.rerun(parent.run_id, Change(step=3, model="ollama:qwen3:8b")).trace
    # Step 2 is kept, and there from the start.
    assert shown_to(child.steps[2]) == [1]
    assert child.steps[2].calls[0].prompt == parent.steps[2].calls[0].prompt


def test_a_given_step_that_is_asked_again_is_shown_what_is_alike(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    alike(trail)
    parent = answered(trail, provider, CHAIN)
    child = trail.rerun(parent.run_id, Change(step=3, answer="Vltava"))
    back = trail.rerun(child.run_id, Change(step=3, model="ollama:qwen3:8b")).trace
    assert shown_to(back.steps[2]) == shown_to(parent.steps[2]) == [2, 1]


def test_what_was_shown_a_changed_answer_is_asked_anew_though_it_does_not_refer_to_it(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    alike(trail)
    parent = answered(trail, provider, CHAIN)
    assert shown_to(parent.steps[3]) == [3, 1, 2]
    trail.rerun(parent.run_id, Change(step=2, answer="Prague"))
    assert asked(provider) == ["synthesis"]
    child = trail.rerun(parent.run_id, Change(step=2, answer="Praha")).trace
    assert asked(provider)[0] == "Which river flows through Praha?"
    assert not child.steps[3].from_run


def test_a_step_that_now_waits_for_one_it_was_shown_to_does_not_wait_forever(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    alike(trail)
    steps = ("Who wrote The Trial?", "Where was #1 born?", "How high is K2?")
    knowing = four_hops.Knowing(steps, {steps[2]: "8611 m", "Is Prague high?": "no"})

    search = trail.assembly.parts.search
    assert search is not None

    async def last_first(question: str, k: int) -> Retrieval:
        if question == steps[0]:
            await until_kept(trail.assembly.journal, "parent", "step")
        return await search(question, k)

    provider.huggingface.respond = knowing
    trail.assembly.parts = replace(trail.assembly.parts, search=last_first)
    parent = trail.ask(QUESTION, run_id="parent").trace
    assert shown_to(parent.steps[1]) == [1, 3]
    asked(provider)
    child = trail.rerun(parent.run_id, Change(step=3, question="Is #2 high?")).trace
    assert asked(provider) == ["Where was Franz Kafka born?", "Is Prague high?", "synthesis"]
    assert shown_to(child.steps[1]) == [1]


# Other graphs, other rounds


def of_revisions(request: ChatRequest) -> Reply:
    """Find no birthplace, until it is asked for in other words."""
    kind = kind_of(request)
    if kind == "plan" and "found nothing" in request.prompt:
        return Reply(json.dumps({"steps": ["Which town did #1 come from?", "Where is #3?"]}))
    facts = {
        "Which town did Franz Kafka come from?": "Prague",
        "Where is Prague?": "in Bohemia",
        "Where is Vienna?": "in Austria",
        "Where lies Prague?": "in Czechia",
    }
    knowing = four_hops.Knowing(CHAIN[:2], facts)
    del knowing.facts["Where was Franz Kafka born?"]
    return knowing(request)


def test_a_revision_is_kept_with_what_it_was_made_from(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    provider.huggingface.respond = of_revisions
    parent = trail.ask(QUESTION).trace
    assert [(step.round, step.status) for step in parent.steps] == [
        (0, "answered"),
        (0, "abstained"),
        (1, "answered"),
        (1, "answered"),
    ]
    asked(provider)
    child = trail.rerun(parent.run_id, Change(step=3, answer="Vienna")).trace
    assert asked(provider) == ["Where is Vienna?", "synthesis"]
    assert [call.from_run for call in child.plan.calls] == [parent.run_id] * 2
    other = trail.rerun(parent.run_id, Change(step=4, question="Where lies #3?")).trace
    assert asked(provider) == ["Where lies Prague?", "synthesis"]
    # The question stays that of the fork in forks of it.
    again = trail.rerun(other.run_id, Change(step=3, answer="Prague")).trace
    assert again.steps[3].question == "Where lies #3?"
    assert asked(provider) == ["synthesis"]
    unneeded = trail.rerun(parent.run_id, Change(step=2, answer="Prague")).trace
    assert asked(provider) == ["synthesis"]
    assert len(unneeded.steps) == 2


def test_what_was_chosen_after_a_changed_answer_is_chosen_anew(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    two_hops.serve(provider)
    provider.huggingface.respond = two_hops.respond
    parent = trail.ask(two_hops.QUESTION, graph="iterative").trace
    assert asked(provider)[::2] == ["next 1", "next 2", "next 3"]
    child = trail.rerun(parent.run_id, Change(step=2, answer="Vienna")).trace
    assert asked(provider) == ["next 3", "synthesis"]
    assert child.graph == "iterative"
    assert [call.from_run for call in child.plan.calls] == [parent.run_id] * 2 + [""]
    # The question names the author who is not the author any more.
    first = trail.rerun(parent.run_id, Change(step=1, answer="Max Brod")).trace
    assert asked(provider) == ["next 2", "Where was Franz Kafka born?", "next 3", "synthesis"]
    assert first.steps[1].depends_on == []


def test_a_step_that_is_chosen_again_is_kept_where_it_was_not_told_of_the_change(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    choices = ["Who wrote The Trial?", "In which year did he die?", "Does Prague have hills?"]
    knowing = four_hops.Knowing((), {choices[1] + " (Franz Kafka)": "1924", choices[2]: "nine"})

    def respond(request: ChatRequest) -> Reply:
        name, _, number = kind_of(request).partition(" ")
        chosen = choices[int(number) - 1 :][:1] if name == "next" else []
        return Reply(json.dumps({"steps": chosen})) if name == "next" else knowing(request)

    provider.huggingface.respond = respond
    parent = trail.ask(QUESTION, graph="iterative").trace
    assert answers(parent) == ["Franz Kafka", "1924", "nine"]
    assert 2 not in {known.id for known in parent.steps[2].earlier}
    asked(provider)
    child = trail.rerun(parent.run_id, Change(step=2, answer="1883")).trace
    assert asked(provider) == ["next 3", "next 4", "synthesis"]
    assert child.steps[2].from_run == parent.run_id


def test_a_chosen_step_can_be_asked_otherwise(trail: Hoptrail, provider: LoopbackProvider) -> None:
    two_hops.serve(provider)
    provider.huggingface.respond = two_hops.respond
    parent = trail.ask(two_hops.QUESTION, graph="iterative").trace
    asked(provider)
    change = Change(step=2, question="Where was Franz Kafka at home?")
    child = trail.rerun(parent.run_id, change).trace
    assert asked(provider)[0] == "Where was Franz Kafka at home?"
    assert child.steps[1].depends_on == [1]
    assert child.plan.source == "given"
    again = trail.rerun(child.run_id, Change(step=1, answer="Franz Kafka")).trace
    assert again.steps[1].question == "Where was Franz Kafka at home?"


def test_a_plan_that_was_passed_in_is_kept(provider: LoopbackProvider, tmp_path: Path) -> None:
    docs = four_hops.write_documents(tmp_path / "docs")
    settings = four_hops.trail(provider, docs).assembly.settings
    trail = Hoptrail(docs=docs, approve=True, settings=settings)
    four_hops.serve(provider, CHAIN)
    *_, proposed = trail.stream(QUESTION, run_id="r")
    assert isinstance(proposed, PlanProposed)
    *_, last = background().iterate(trail.decide("r", list(CHAIN[:2])))
    assert isinstance(last, RunFinished)
    asked(provider)
    child = trail.rerun("r", Change(step=2, answer="Vienna")).trace
    assert asked(provider) == ["synthesis"]
    assert answers(child) == ["Franz Kafka", "Vienna"]
    trail.close()


def test_the_graph_that_a_fork_goes_through_cannot_ask_what_it_does_not_have(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    parent = answered(trail, provider, CHAIN)
    trail.rerun(parent.run_id, Change(step=1, model="ollama:qwen3:8b"), new_run_id="fork")
    parts = replace(trail.assembly.parts, named_model=None)
    graph = build_graph(parts).compile()
    config: Any = {"configurable": {RUN_ID: "fork"}}
    with pytest.raises(ChangeImpossible, match=r"cannot ask ollama:qwen3:8b"):
        graph.invoke({"question": QUESTION}, config)
    # It let go of the run.
    assert trail.ask(QUESTION, run_id="fork").trace.parent_run_id == parent.run_id


def test_other_documents_than_the_parents_are_told(
    trail: Hoptrail, provider: LoopbackProvider, tmp_path: Path
) -> None:
    parent = answered(trail, provider, CHAIN)
    other = four_hops.trail(provider, four_hops.write_documents(tmp_path / "elsewhere"))
    child = other.rerun(parent.run_id, Change(step=4, answer="long"))
    assert any("elsewhere" in warning for warning in child.warnings)
    other.close()


# Any plan


def reply_to(request: StepRequest) -> str:
    """Give one of two answers, by everything that a step is told."""
    told = (request.question, sorted((known.id, known.answer) for known in request.earlier))
    return "red" if sha256(repr(told).encode()).digest()[0] % 2 else "blue"


def at_of(text: str) -> int:
    """Give where a step stands in its plan: ``q3 of #1?`` is the third."""
    return int(text.split()[0].removeprefix("q")) - 1


@dataclass
class World:
    """A plan, how near its questions are to each other, and how long each takes, twice."""

    needs: list[list[int]]
    kinds: list[int]
    delays: list[list[int]]
    changed: int
    asks: bool

    @property
    def plan(self) -> list[str]:
        marks = [" ".join(f"#{need}" for need in needs) for needs in self.needs]
        return [f"q{at} of {mark}?" for at, mark in enumerate(marks, 1)]

    @property
    def change(self) -> Change:
        again = f"{self.plan[self.changed - 1]} Again?"
        asks = Change(step=self.changed, question=again)
        return asks if self.asks else Change(step=self.changed, answer="green")

    async def similarity(self, text: str, others: Sequence[str]) -> list[float]:
        """Find alike what is of a kind."""
        kinds = [self.kinds[at_of(each)] for each in (text, *others)]
        return [float(kind == kinds[0]) for kind in kinds[1:]]

    def pace(self, delays: Sequence[int]) -> Callable[[Asked], float]:
        """Give how long the model takes for what, in seconds."""

        def delay(asked: Asked) -> float:
            is_step = isinstance(asked.request, StepRequest)
            return delays[at_of(asked.question)] / 250 if is_step else 0.0

        return delay

    def model(self) -> ScriptedChatModel:
        told = script(self.plan)

        def respond(asked: Asked) -> Any:
            request = asked.request
            return found(reply_to(request)) if isinstance(request, StepRequest) else told(asked)

        return ScriptedChatModel(respond=respond)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(3, 7))
    needs = [draw(st.sets(st.integers(1, at), max_size=2)) if at else set() for at in range(count)]
    # Branches of different paces: a step is shown what has ended when it begins.
    delays = st.permutations(range(count))
    return World(
        needs=[sorted(each) for each in needs],
        kinds=draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)),
        delays=[draw(delays), draw(delays)],
        changed=draw(st.integers(1, count)),
        asks=draw(st.booleans()),
    )


def led_to(parent: Trace, child: Trace, changed: int) -> set[int]:
    """Give the steps that a change leads to: those that were told an answer that is no more."""
    led: set[int] = set()
    ahead = {step.id: {known.id for known in step.earlier} for step in parent.steps}
    del ahead[changed]
    ended = {changed}
    while ahead:
        step_id = next(each for each, told in ahead.items() if told <= ended)
        told = ahead.pop(step_id)
        if any(parent.step(each).answer != child.step(each).answer for each in told):
            led.add(step_id)
        ended.add(step_id)
    return led


@pytest.mark.timeout(300)
@given(worlds())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_exactly_what_was_told_an_answer_that_is_no_more_is_asked_anew(world: World) -> None:
    asyncio.run(fork_of(world))


async def fork_of(world: World) -> None:
    model = world.model()
    with TemporaryDirectory() as home:
        trail = Hoptrail(model=model, settings=load_settings(home=home))
        trail.assembly.parts = replace(trail.assembly.parts, similarity=world.similarity)
        model.delay = world.pace(world.delays[0])
        parent = (await trail.aask("Which colour?")).trace
        path = trail.assembly.journal.trace_path(parent.run_id)
        before = path.read_bytes()
        model.calls.clear()
        model.delay = world.pace(world.delays[1])
        child = (await trail.arerun(parent.run_id, world.change)).trace
        assert not model.asked("plan")
        assert child.usage.llm_calls == len(model.calls)
        check_fork(world, parent, child, Counter(each.question for each in model.asked("step")))
        assert path.read_bytes() == before
        # What has ended once is not asked again, whoever is told what by whom.
        model.calls.clear()
        again = (await trail.aask("Which colour?", run_id=child.run_id)).trace
        assert not model.calls
        assert answers(again) == answers(child)
        trail.close()


def check_fork(world: World, parent: Trace, child: Trace, questions: Counter[str]) -> None:
    """Check that what a change leads to was asked anew, told by the same steps, and no more."""
    led = led_to(parent, child, world.changed)
    anew = led | ({world.changed} if world.asks else set())
    assert questions == Counter(child.step(each).asked for each in anew)
    for step in child.steps:
        before = parent.step(step.id)
        assert bool(step.from_run) == (step.id not in led | {world.changed})
        if step.from_run:
            assert step.answer == before.answer
        if step.id in led:
            assert set(shown_to(step)) == set(shown_to(before))
