"""The graph, over a scripted model: what is asked, when, and what comes of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from hoptrail.admission import open_run
from hoptrail.budget import Budget
from hoptrail.checkpoints import strict_serializer
from hoptrail.errors import (
    BackendUnavailable,
    HoptrailError,
    RetrievalError,
    RunBusy,
)
from hoptrail.events import StepFinished, StepPlanned, StepStarted
from hoptrail.evidence import Evidence, Passage, Retrieval
from hoptrail.graph import build_graph
from hoptrail.journal import Journal
from hoptrail.nodes import Question
from hoptrail.parts import Parts
from hoptrail.request import PlanRequest, request_of
from hoptrail.run import RUN_ID
from hoptrail.testing import Asked, ScriptedChatModel, script
from hoptrail.trace import Trace
from tests.moments import FOR_EVER, LONG, passing_time, until_kept

pytestmark = pytest.mark.anyio

CHAIN = ["Who composed Finlandia?", "Where was #1 born?", "Which river runs through #2?"]
CHAIN_ANSWERS: dict[str, str | BaseException | None] = {
    "Who composed Finlandia?": "Sibelius",
    "Where was Sibelius born?": "Hämeenlinna",
    "Which river runs through Hämeenlinna?": "none that is big",
}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()


async def find(question: str, k: int) -> Retrieval:
    """One passage for every question, which is about just that question."""
    passage = Passage(id=f"about {question}", title="About", text=question, source="a.md")
    return Retrieval(evidence=(Evidence(passage=passage, rank=1, score=1.0),), mode="hybrid")


def named(run_id: str, **more: str) -> RunnableConfig:
    """A configuration that names the run."""
    return {"configurable": {RUN_ID: run_id, **more}}


async def run_graph(
    model: ScriptedChatModel, journal: Journal, run_id: str = "r1", **parts: Any
) -> tuple[dict[str, Any], Trace]:
    """Run a question through the graph; give its output and its trace."""
    parts = {"search": find} | parts
    graph = build_graph(Parts(model=model, journal=journal, policy="scripted", **parts)).compile()
    output = await graph.ainvoke({"question": "Which river?"}, named(run_id))
    return output, journal.trace(run_id)


def events_of(model: ScriptedChatModel, journal: Journal) -> AsyncIterator[object]:
    """Run a question through the graph; give what it tells."""
    parts = Parts(model=model, journal=journal, policy="scripted", search=find)
    given: Question = {"question": "Which river?"}
    return build_graph(parts).compile().astream(given, named("r1"), stream_mode="custom")


async def test_each_step_is_asked_once_with_the_answers_it_refers_to(journal: Journal) -> None:
    model = ScriptedChatModel(respond=script(CHAIN, CHAIN_ANSWERS, "The Vanaja [3]"))
    output, trace = await run_graph(model, journal)
    assert [asked.question for asked in model.asked("step")] == list(CHAIN_ANSWERS)
    assert len(model.calls) == len(CHAIN) + 2
    assert output["short_answer"] == "The Vanaja"
    assert [citation["passage_id"] for citation in output["citations"]] == [
        "about Which river runs through Hämeenlinna?"
    ]
    assert [step.depends_on for step in trace.steps] == [[], [1], [2]]
    assert trace.usage.llm_calls == 5
    assert trace.status == "answered"


async def test_one_look_up_costs_two_calls_and_no_synthesis(journal: Journal) -> None:
    model = ScriptedChatModel(respond=script(["Which river?"], {"Which river?": "The Vltava"}))
    output, _ = await run_graph(model, journal)
    assert [asked.request.kind for asked in model.calls if asked.request] == ["plan", "step"]
    assert (output["answer"], output["short_answer"]) == ("The Vltava [1]", "The Vltava")


async def test_a_gate_saves_the_plan_too(journal: Journal) -> None:
    model = ScriptedChatModel(respond=script(steps={"Which river?": "The Vltava"}))
    _, trace = await run_graph(model, journal, gate=lambda question: question == "Which river?")
    assert model.questions == ["Which river?"]
    assert trace.plan.source == "gate"


async def test_independent_branches_never_wait_for_each_other(journal: Journal) -> None:
    plan = ["slow?", "fast?", "after #2?", "after #3?"]
    answers = {"slow?": "s", "fast?": "f", "after f?": "g", "after g?": "h"}
    the_last_was_asked = asyncio.Event()

    async def wait(asked: Asked) -> None:
        if asked.question == "after g?":
            the_last_was_asked.set()
        if asked.question == "slow?":
            async with asyncio.timeout(LONG):
                await the_last_was_asked.wait()

    model = ScriptedChatModel(respond=script(plan, {**answers}), wait=wait)
    _, trace = await run_graph(model, journal)
    assert sorted(asked.question for asked in model.asked("step")) == sorted(answers)
    assert [step.status for step in trace.steps] == ["answered"] * 4


class Dictating(ScriptedChatModel):
    """Writes its plan on, after the first step, only when a step was asked."""

    step_asked: asyncio.Event

    async def _astream(
        self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        is_plan = isinstance(request_of(messages), PlanRequest)
        if not is_plan:
            self.step_asked.set()
        async for chunk in super()._astream(messages):
            if is_plan and "#1" in str(chunk.text):
                async with asyncio.timeout(LONG):
                    await self.step_asked.wait()
            yield chunk


async def test_the_first_step_starts_while_the_plan_is_still_written(journal: Journal) -> None:
    model = Dictating(respond=script(CHAIN, CHAIN_ANSWERS), step_asked=asyncio.Event())
    await run_graph(model, journal)
    plan_ended = model.asked("plan")[0].ended
    assert plan_ended is not None
    assert model.asked("step")[0].started < plan_ended


async def test_events_come_while_the_run_goes(journal: Journal) -> None:
    the_first_was_told = asyncio.Event()

    async def wait(asked: Asked) -> None:
        if asked.question == "b?":
            async with asyncio.timeout(LONG):
                await the_first_was_told.wait()

    model = ScriptedChatModel(respond=script(["a?", "b?"], {"a?": "1", "b?": "2"}), wait=wait)
    told = []
    async for event in events_of(model, journal):
        told.append(event)
        if isinstance(event, StepFinished) and event.step.id == 1:
            the_first_was_told.set()
    assert [e.step.answer for e in told if isinstance(e, StepFinished)] == ["1", "2"]
    kinds = [type(event).__name__ for event in told]
    assert kinds[0] == "RunStarted"
    assert kinds[-1] == "RunFinished"
    planned = [e.question for e in told if isinstance(e, StepPlanned)]
    started = [e.asked for e in told if isinstance(e, StepStarted)]
    assert planned == ["a?", "b?"] == sorted(started)


async def test_a_step_is_told_the_earlier_answer_nearest_to_it(journal: Journal) -> None:
    async def similarity(text: str, others: Sequence[str]) -> Sequence[float]:
        return [0.9 if "near?" in other else 0.1 for other in others]

    plan = ["near?", "far?", "again #1 or #2?", "after #3?"]
    answers = {"near?": "N", "far?": "F", "again N or F?": "A", "after A?": "L"}
    model = ScriptedChatModel(respond=script(plan, {**answers}))
    _, trace = await run_graph(model, journal, similarity=similarity, concurrency=1)
    referred = [(known.id, known.reason, known.similarity) for known in trace.step(3).earlier]
    assert referred == [(1, "reference", None), (2, "reference", None)]
    nearest = [(known.id, known.reason, known.similarity) for known in trace.step(4).earlier]
    assert nearest == [(3, "reference", None), (1, "similar", 0.9)]


async def test_a_step_whose_question_needs_an_answer_it_does_not_name_is_completed(
    journal: Journal,
) -> None:
    plan = json.dumps({"steps": [{"id": 1, "question": "Who wrote Faust?"}, "When was he born?"]})
    answers = {"Who wrote Faust?": "Goethe", "When was he born? (Goethe)": "1749"}
    model = ScriptedChatModel(respond=script(plan, {**answers}))
    _, trace = await run_graph(model, journal)
    assert trace.step(2).answer == "1749"
    assert "not self-contained: completed with 'Goethe'" in trace.step(2).warnings


async def test_an_abstention_travels_and_nobody_is_asked_about_a_blank(journal: Journal) -> None:
    answers = {**CHAIN_ANSWERS, "Where was Sibelius born?": None}
    model = ScriptedChatModel(respond=script(CHAIN, answers, "UNANSWERABLE: where he was born"))
    output, trace = await run_graph(model, journal, revisions=0)
    assert [step.status for step in trace.steps] == ["answered", "abstained", "abstained"]
    assert [asked.question for asked in model.asked("step")] == list(CHAIN_ANSWERS)[:2]
    assert output["abstained"]
    assert output["stop_reason"] == "no_evidence"
    assert output["citations"] == []


async def test_when_nothing_was_found_nobody_is_asked_to_make_something_up(
    journal: Journal,
) -> None:
    model = ScriptedChatModel(respond=script(["a?", "b?"], {"a?": None, "b?": None}))
    output, _ = await run_graph(model, journal)
    assert model.asked("synthesis") == []
    assert output["abstained"]
    assert "a? / b?" in output["answer"]


async def test_what_found_nothing_is_asked_differently_once(journal: Journal) -> None:
    answers = {"a?": None, "other words?": "yes"}
    model = ScriptedChatModel(
        respond=script(["a?"], {**answers}, "Yes [1]", revision=["other words?"])
    )
    output, trace = await run_graph(model, journal)
    assert [(step.id, step.round, step.status) for step in trace.steps] == [
        (1, 0, "abstained"),
        (2, 1, "answered"),
    ]
    assert len(model.asked("revision")) == 1
    assert output["short_answer"] == "Yes"


async def test_revisions_are_bounded(journal: Journal) -> None:
    model = ScriptedChatModel(
        respond=script(["a?"], {"a?": None, "b?": None}, revision=["b?"]),
    )
    await run_graph(model, journal, revisions=1)
    assert len(model.asked("revision")) == 1
    assert [asked.question for asked in model.asked("step")] == ["a?", "b?"]


async def test_a_failed_step_leaves_its_siblings_alone_and_is_told_to_the_synthesis(
    journal: Journal,
) -> None:
    down = BackendUnavailable("connection refused", backend="scripted")
    model = ScriptedChatModel(respond=script(["a?", "b?"], {"a?": down, "b?": "2"}, "2 [1]"))
    output, trace = await run_graph(model, journal)
    assert [step.status for step in trace.steps] == ["failed", "answered"]
    assert "connection refused" in trace.step(1).error
    told = str(model.asked("synthesis")[0].messages[-1].text)
    assert "Step 1: a? -> could not be asked" in told
    assert output["short_answer"] == "2"


async def test_any_error_of_a_callers_model_is_the_failure_of_its_step(journal: Journal) -> None:
    odd = ZeroDivisionError("odd")
    model = ScriptedChatModel(respond=script(["a?", "b?"], {"a?": odd, "b?": "2"}, "2"))
    _, trace = await run_graph(model, journal)
    assert "ZeroDivisionError: odd" in trace.step(1).error
    assert trace.step(2).answer == "2"


async def test_when_every_step_failed_the_error_rises_and_is_no_answer(journal: Journal) -> None:
    down = BackendUnavailable("connection refused", backend="scripted")
    model = ScriptedChatModel(respond=script(["a?", "b #1?"], {"a?": down}))
    with pytest.raises(BackendUnavailable, match="refused"):
        await run_graph(model, journal)
    trace = journal.trace("r1")
    assert (trace.status, trace.answer) == ("failed", "")
    assert "refused" in trace.error


@pytest.mark.parametrize("error", [RetrievalError("damaged"), ZeroDivisionError("odd")], ids=repr)
async def test_a_search_that_fails_fails_its_step(journal: Journal, error: Exception) -> None:
    async def search(question: str, k: int) -> Retrieval:
        if question == "a?":
            raise error
        return await find(question, k)

    model = ScriptedChatModel(respond=script(["a?", "b?"], {"b?": "2"}, "2"))
    _, trace = await run_graph(model, journal, search=search)
    assert f"{type(error).__name__}: {error}" in trace.step(1).error
    assert trace.step(2).status == "answered"


async def test_without_passages_nobody_is_asked(journal: Journal) -> None:
    async def nothing(question: str, k: int) -> Retrieval:
        return Retrieval(mode="hybrid")

    model = ScriptedChatModel(respond=script(["a?"], {}))
    output, trace = await run_graph(model, journal, search=nothing, revisions=0)
    assert model.asked("step") == []
    assert trace.step(1).warnings == ["not asked: no passage was found"]
    assert output["abstained"]


async def test_without_documents_the_model_is_asked_for_what_it_knows(journal: Journal) -> None:
    model = ScriptedChatModel(respond=script(["a?"], {"a?": "42"}))
    output, trace = await run_graph(model, journal, search=None)
    assert (output["answer"], output["citations"]) == ("42", [])
    assert trace.step(1).warnings == ["cited passages that it was not given: [1]"]


async def test_passages_that_do_not_fit_are_left_out_and_said_so(journal: Journal) -> None:
    async def long(question: str, k: int) -> Retrieval:
        items = [
            Evidence(passage=Passage(id=str(n), text="x" * 400), rank=n, score=1 / n)
            for n in range(1, k + 1)
        ]
        return Retrieval(evidence=tuple(items), mode="hybrid")

    model = ScriptedChatModel(respond=script(["a?"], {"a?": "1"}))
    _, trace = await run_graph(model, journal, search=long, context_tokens=250)
    assert len(trace.step(1).evidence) == 2
    assert any("limited to 250 tokens" in warning for warning in trace.step(1).warnings)


async def test_a_reply_that_cannot_be_read_is_asked_for_once_more(journal: Journal) -> None:
    replies = iter(["{", "{"])

    def respond(asked: Asked) -> str | BaseException:
        if asked.request and asked.request.kind == "step" and asked.question == "a?":
            return next(replies)
        return script(["a?", "b?"], {"b?": "2"}, "2")(asked)

    model = ScriptedChatModel(respond=respond)
    _, trace = await run_graph(model, journal)
    assert (trace.step(1).status, len(trace.step(1).calls)) == ("failed", 2)


async def test_a_call_budget_is_never_exceeded_and_still_leaves_an_answer(
    journal: Journal,
) -> None:
    plan = [f"q{n}?" for n in range(6)]
    answers = dict.fromkeys(plan, "x")
    model = ScriptedChatModel(respond=script(plan, {**answers}, "x [1]"))
    output, trace = await run_graph(model, journal, budget=Budget(max_llm_calls=4))
    assert len(model.calls) == 4
    assert len(model.asked("synthesis")) == 1
    assert output["stop_reason"] == "budget:llm_calls"
    assert [step.status for step in trace.steps].count("failed") == 4


@pytest.mark.promise("deadlines-hold")
async def test_a_deadline_ends_the_run_with_what_is_known(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_pass = passing_time(monkeypatch)

    async def wait(asked: Asked) -> None:
        if asked.question == "b?":
            await until_kept(journal, "r1", "plan", "step")
            let_pass(275)
            await asyncio.sleep(FOR_EVER)

    answers: dict[str, Any] = {"a?": "1", "b?": "2"}
    model = ScriptedChatModel(respond=script(["a?", "b?"], answers, "1 [1]"), wait=wait)
    time = asyncio.get_running_loop().time
    began = time()
    output, trace = await run_graph(model, journal, budget=Budget(deadline=300))
    assert time() - began < 300
    assert output["stop_reason"] == "budget:deadline"
    assert trace.step(1).answer == "1"
    assert "deadline" in trace.step(2).error


async def test_a_resumed_run_asks_no_finished_question_again(journal: Journal) -> None:
    down = BackendUnavailable("gone", backend="scripted")
    first = ScriptedChatModel(
        respond=script(CHAIN, CHAIN_ANSWERS, synthesis=down),
    )
    with pytest.raises(HoptrailError, match="gone"):
        await run_graph(first, journal)
    second = ScriptedChatModel(respond=script(synthesis="Vanaja [1]"))
    output, trace = await run_graph(second, journal)
    assert [asked.request.kind for asked in second.calls if asked.request] == ["synthesis"]
    assert output["short_answer"] == "Vanaja"
    assert trace.plan.source == "journal"
    assert [step.question for step in trace.steps] == CHAIN
    assert all(call.from_journal for step in trace.steps for call in step.calls)
    assert trace.usage.llm_calls == 5


async def test_a_finished_run_is_given_again_without_asking_anybody(journal: Journal) -> None:
    model = ScriptedChatModel(respond=script(CHAIN, CHAIN_ANSWERS, "Vanaja [2]"))
    first, _ = await run_graph(model, journal)
    again, _ = await run_graph(ScriptedChatModel(respond=script()), journal)
    assert again == first


async def test_a_cancelled_run_is_marked_interrupted_and_can_be_resumed(journal: Journal) -> None:
    under_way = asyncio.Event()

    async def wait(asked: Asked) -> None:
        if "born" in asked.question:
            await until_kept(journal, "r1", "plan", "step")
            under_way.set()
            await asyncio.sleep(FOR_EVER)

    slow = ScriptedChatModel(respond=script(CHAIN, CHAIN_ANSWERS), wait=wait)
    async with asyncio.timeout(LONG), asyncio.TaskGroup() as group:
        running = group.create_task(run_graph(slow, journal))
        await under_way.wait()
        running.cancel()
    assert journal.run("r1").status == "interrupted"
    model = ScriptedChatModel(respond=script("never", CHAIN_ANSWERS, "Vanaja"))
    await run_graph(model, journal)
    assert model.questions[:2] == ["Where was Sibelius born?", list(CHAIN_ANSWERS)[2]]


async def test_one_run_id_is_run_by_one_at_a_time(journal: Journal) -> None:
    parts = Parts(model=ScriptedChatModel(respond=script()), journal=journal, policy="scripted")
    run = await open_run(parts, "r1", "q", lambda _event: None)
    with pytest.raises(RunBusy):
        await open_run(parts, "r1", "q", lambda _event: None)
    await run.pause()


async def test_another_model_answers_anew(journal: Journal) -> None:
    model = ScriptedChatModel(respond=script(["a?"], {"a?": "1"}))
    await run_graph(model, journal)
    other = ScriptedChatModel(respond=script(["a?"], {"a?": "2"}))
    parts = Parts(model=other, journal=journal, policy="another", search=find)
    given: Question = {"question": "Which river?"}
    output = await build_graph(parts).compile().ainvoke(given, named("r1"))
    assert output["answer"] == "2 [1]"


async def test_a_plan_that_is_no_plan_becomes_the_question_itself(journal: Journal) -> None:
    model = ScriptedChatModel(respond=script("I cannot do that.", {"Which river?": "Vltava"}))
    output, trace = await run_graph(model, journal)
    assert output["short_answer"] == "Vltava"
    assert trace.plan.source == "fallback"
    assert trace.plan.repairs


async def test_repairs_of_the_plan_are_in_the_trace(journal: Journal) -> None:
    model = ScriptedChatModel(respond=script(["a?", "a?", "b #9?"], {"a?": "1"}, "1"))
    model.respond = _tolerant(model.respond)
    _, trace = await run_graph(model, journal)
    assert len(trace.plan.repairs) >= 2


def _tolerant(respond: Callable[[Asked], Any]) -> Callable[[Asked], Any]:
    def tolerant(asked: Asked) -> Any:
        try:
            return respond(asked)
        except KeyError:
            return '{"found": true, "answer": "x", "passages": []}'

    return tolerant


@st.composite
def dags(draw: st.DrawFn) -> list[tuple[int, ...]]:
    size = draw(st.integers(1, 7))
    needs = [
        draw(st.sets(st.integers(1, position), max_size=3)) if position else set()
        for position in range(size)
    ]
    return [tuple(sorted(some)) for some in needs]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(needs=dags(), data=st.data())
def test_any_plan_is_asked_once_a_step_and_never_before_its_needs(
    tmp_path_factory: pytest.TempPathFactory, needs: list[tuple[int, ...]], data: st.DataObject
) -> None:
    plan = [
        f"step {position} after {' '.join(f'#{need}' for need in some)}?"
        for position, some in enumerate(needs, start=1)
    ]
    delays = data.draw(st.lists(st.sampled_from([0.0, 0.003, 0.01]), min_size=7, max_size=7))

    def respond(asked: Asked) -> str:
        if asked.request and asked.request.kind == "step":
            return json.dumps({"found": True, "answer": f"A{asked.question.split()[1]}"})
        return json.dumps({"steps": plan}) if asked.request.kind == "plan" else "done"  # type: ignore[union-attr] # every call here carries a request

    model = ScriptedChatModel(
        respond=respond, delay=lambda asked: delays[len(asked.question) % len(delays)]
    )
    journal = Journal(tmp_path_factory.mktemp("journal"))
    asyncio.run(run_graph(model, journal))
    journal.close()
    calls = {int(asked.question.split()[1]): asked for asked in model.asked("step")}
    assert len(model.asked("step")) == len(plan) == len(calls)
    for position, some in enumerate(needs, start=1):
        for need in some:
            ended = calls[need].ended
            assert ended is not None
            assert ended <= calls[position].started
            assert f"A{need}" in calls[position].question


async def test_the_output_keys_are_in_the_schema_and_the_live_object_is_not(
    journal: Journal,
) -> None:
    model = ScriptedChatModel(respond=script(["a?"], {"a?": "1"}))
    output, _ = await run_graph(model, journal)
    assert set(output) == {
        "run_id",
        "answer",
        "short_answer",
        "abstained",
        "degraded",
        "stop_reason",
        "citations",
    }
    json.dumps(output)


async def test_a_plan_waits_for_approval_and_may_be_replaced(journal: Journal) -> None:
    model = ScriptedChatModel(respond=script(CHAIN, {"other?": "42"}))
    parts = Parts(model=model, journal=journal, policy="scripted", search=find, approve=True)
    saver = InMemorySaver(serde=strict_serializer())
    graph = build_graph(parts).compile(checkpointer=saver)
    config: RunnableConfig = named("r1", thread_id="t")
    await graph.ainvoke({"question": "Which river?"}, config)
    state = await graph.aget_state(config)
    proposed = state.interrupts[0].value
    assert [step["question"] for step in proposed["plan"]] == CHAIN
    assert model.asked("step") == []
    assert journal.trace("r1").status == "interrupted"
    output = await graph.ainvoke(Command(resume=["other?"]), config)
    assert (output["short_answer"], len(model.asked("plan"))) == ("42", 1)
    assert journal.trace("r1").plan.source == "given"


async def test_an_approved_plan_is_not_asked_for_again(journal: Journal) -> None:
    model = ScriptedChatModel(respond=script(CHAIN, CHAIN_ANSWERS, "Vanaja"))
    parts = Parts(model=model, journal=journal, policy="scripted", search=find, approve=True)
    graph = build_graph(parts).compile(checkpointer=InMemorySaver())
    config: RunnableConfig = named("r1", thread_id="t")
    await graph.ainvoke({"question": "Which river?"}, config)
    output = await graph.ainvoke(Command(resume=True), config)
    assert output["short_answer"] == "Vanaja"
    assert len(model.asked("plan")) == 1
