"""The iterative graph, over scripted models: which step comes next, and when it ends."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from hoptrail import Budget, Hoptrail, HoptrailError, load_settings
from hoptrail.backend import Backend
from hoptrail.checkpoints import strict_serializer
from hoptrail.errors import BackendUnavailable
from hoptrail.evaluation import exact_match, load_dataset
from hoptrail.events import (
    AnswerText,
    PlanFinished,
    RunFinished,
    RunStarted,
    StepFinished,
    StepPlanned,
    StepStarted,
)
from hoptrail.iterative import build_iterative
from hoptrail.journal import Journal
from hoptrail.nodes import Question
from hoptrail.parts import Parts
from hoptrail.request import NextStepRequest, StepRequest
from hoptrail.router import RoutedChatModel
from hoptrail.testing import Asked, FakeClock, Reply, ScriptedBackend, ScriptedChatModel, script
from hoptrail.testing import step_reply as found
from hoptrail.trace import Trace, trace_schema
from tests.moments import FOR_EVER, LONG, passing_time
from tests.providers import ChatRequest, Fault, LoopbackProvider
from tests.test_graph import CHAIN, CHAIN_ANSWERS, find, named

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parent.parent / "examples"
GIVEN: Question = {"question": "Which river?"}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()


def chooser(
    *choices: str | Sequence[str],
    answers: dict[str, Any] | None = None,
    synthesis: Any = "done",
) -> ScriptedChatModel:
    """A model that makes these choices one after the other, each a raw text or a list of steps;
    what comes after them is that there is enough."""
    tables = script(steps=answers, synthesis=synthesis)

    def respond(asked: Asked) -> str | BaseException:
        if not isinstance(asked.request, NextStepRequest):
            return tables(asked)
        at = len(asked.request.steps)
        choice = choices[at] if at < len(choices) else ()
        return choice if isinstance(choice, str) else json.dumps({"steps": list(choice)})

    return ScriptedChatModel(respond=respond)


def graph_of(model: Any, journal: Journal, **more: Any) -> Any:
    parts: dict[str, Any] = {"search": find, "policy": "scripted"} | more
    return build_iterative(Parts(model=model, journal=journal, **parts))


async def run_graph(
    model: Any, journal: Journal, run_id: str = "r1", **parts: Any
) -> tuple[dict[str, Any], Trace]:
    """Run the question through the graph; give its output and its trace."""
    graph = graph_of(model, journal, **parts).compile()
    output = await graph.ainvoke(GIVEN, named(run_id))
    return output, journal.trace(run_id)


def kinds(model: ScriptedChatModel) -> list[str]:
    return [asked.request.kind for asked in model.calls if asked.request]


async def test_each_step_is_chosen_from_what_the_ones_before_it_found(journal: Journal) -> None:
    model = ScriptedChatModel(respond=script(CHAIN, CHAIN_ANSWERS, "The Vanaja [3]"))
    output, trace = await run_graph(model, journal)
    assert kinds(model) == ["next", "step"] * 3 + ["next", "synthesis"]
    assert [asked.question for asked in model.asked("step")] == list(CHAIN_ANSWERS)
    shown = str(model.asked("next")[1].messages[-1].text)
    assert shown.endswith("Step 1: Who composed Finlandia? -> Sibelius")
    assert output["short_answer"] == "The Vanaja"
    assert [step.depends_on for step in trace.steps] == [[], [1], [2]]
    assert (trace.graph, trace.status, trace.stop_reason) == ("iterative", "answered", "answered")
    assert [call.purpose for call in trace.plan.calls] == ["next"] * 4
    assert trace.usage.llm_calls == 8
    assert all(not step.warnings for step in trace.steps)


async def test_the_trace_follows_the_published_schema(journal: Journal) -> None:
    model = ScriptedChatModel(respond=script(CHAIN, CHAIN_ANSWERS))
    _, trace = await run_graph(model, journal)
    jsonschema_rs.validator_for(trace_schema()).validate(json.loads(trace.model_dump_json()))


async def test_the_events_tell_each_step_before_the_next_is_chosen(journal: Journal) -> None:
    model = ScriptedChatModel(respond=script(["a?", "b?"], {"a?": "1", "b?": "2"}))
    graph = graph_of(model, journal).compile()
    told = [event async for event in graph.astream(GIVEN, named("r1"), stream_mode="custom")]
    step = [StepPlanned, StepStarted, StepFinished]
    assert [type(event) for event in told] == [
        RunStarted,
        *step,
        *step,
        PlanFinished,
        AnswerText,
        RunFinished,
    ]
    assert [event.id for event in told if isinstance(event, StepPlanned)] == [1, 2]


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(length=st.integers(1, 4), most=st.integers(1, 5))
def test_a_chain_is_chosen_with_one_call_a_step_and_one_to_end(
    tmp_path_factory: pytest.TempPathFactory, length: int, most: int
) -> None:
    plan = ["s1?", *(f"after #{number}, s{number + 1}?" for number in range(1, length))]

    def respond(asked: Asked) -> Any:
        if isinstance(asked.request, StepRequest):
            return found(f"answer {asked.question.rpartition('s')[2][:-1]}")
        return script(plan)(asked)

    model = ScriptedChatModel(respond=respond)
    journal = Journal(tmp_path_factory.mktemp("journal"))
    budget = Budget(max_steps=most, max_llm_calls=None)
    _, trace = asyncio.run(run_graph(model, journal, budget=budget))
    journal.close()
    assert len(model.asked("next")) == min(length + 1, most)
    assert len(model.asked("step")) == len(trace.steps) == min(length, most)
    assert [step.depends_on for step in trace.steps] == [
        [],
        *([n] for n in range(1, len(trace.steps))),
    ]
    assert trace.stop_reason == ("budget:steps" if most <= length else "answered")


async def test_one_look_up_needs_no_synthesis(journal: Journal) -> None:
    model = chooser(["Which river?"], answers={"Which river?": "Vltava"})
    output, _ = await run_graph(model, journal)
    assert (kinds(model), output["answer"]) == (["next", "step", "next"], "Vltava [1]")


async def test_a_gate_saves_every_choice(journal: Journal) -> None:
    model = chooser(answers={"Which river?": "Vltava"})
    output, trace = await run_graph(model, journal, gate=lambda question: True)
    assert (kinds(model), output["short_answer"]) == (["step"], "Vltava")
    assert trace.plan.source == "gate"


@pytest.mark.parametrize("again", ["a?", "A ?", ' "a"?'])
async def test_the_same_words_are_never_asked_twice(journal: Journal, again: str) -> None:
    model = chooser(["a?"], [again], answers={"a?": "1"}, synthesis="1 [1]")
    output, trace = await run_graph(model, journal)
    # One step that nobody said suffices is no answer by itself.
    assert kinds(model) == ["next", "step", "next", "synthesis"]
    assert output["stop_reason"] == "answered"
    assert trace.plan.repairs[-1].startswith("Nothing new was to be asked after step 1")


async def test_a_reference_that_comes_to_the_same_words_is_the_same(journal: Journal) -> None:
    answers = {"a?": "x", "b x?": "y"}
    model = chooser(["a?"], ["b #1?"], ["b x?"], answers=answers)
    await run_graph(model, journal)
    assert [asked.question for asked in model.asked("step")] == ["a?", "b x?"]


async def test_who_writes_the_whole_plan_each_time_is_understood(journal: Journal) -> None:
    model = chooser(CHAIN, CHAIN, CHAIN, CHAIN, answers=CHAIN_ANSWERS)
    _, trace = await run_graph(model, journal)
    assert [asked.question for asked in model.asked("step")] == list(CHAIN_ANSWERS)
    assert [step.question for step in trace.steps] == CHAIN
    assert trace.stop_reason == "answered"


async def test_a_first_choice_that_cannot_be_read_is_the_question_itself(journal: Journal) -> None:
    talk = "Let me think about that."
    model = chooser(talk, talk, answers={"Which river?": "Vltava"})
    output, trace = await run_graph(model, journal)
    assert kinds(model) == ["next", "step", "next"]
    assert output["answer"] == "Vltava [1]"
    assert trace.plan.source == "fallback"
    assert len(trace.plan.repairs) == 2


@pytest.mark.parametrize("nothing", ['{"steps": []}', '{"steps": ["none"]}', "{}"])
async def test_a_question_is_looked_up_at_least_once(journal: Journal, nothing: str) -> None:
    model = chooser(nothing, nothing, answers={"Which river?": "Vltava"})
    output, trace = await run_graph(model, journal)
    assert [asked.question for asked in model.asked("step")] == ["Which river?"]
    assert (output["short_answer"], trace.plan.source) == ("Vltava", "fallback")


async def test_a_later_choice_that_cannot_be_read_ends_the_steps(journal: Journal) -> None:
    model = chooser(["a?"], ["b?"], "Hm.", answers={"a?": "1", "b?": "2"})
    output, trace = await run_graph(model, journal)
    assert kinds(model)[-2:] == ["next", "synthesis"]
    assert output["answer"] == "done"
    assert "step 2 cannot be read" in trace.plan.repairs[-1]


async def test_what_found_nothing_may_be_gone_round(journal: Journal) -> None:
    answers = {"a?": None, "other words?": "yes"}
    model = chooser(["a?"], ["other words?"], answers=answers, synthesis="Yes [1]")
    output, trace = await run_graph(model, journal)
    assert "Step 1: a? -> found nothing" in str(model.asked("next")[1].messages[-1].text)
    assert [step.status for step in trace.steps] == ["abstained", "answered"]
    assert output["short_answer"] == "Yes"


async def test_an_answer_that_is_not_there_cannot_be_referred_to(journal: Journal) -> None:
    model = chooser(["a?"], ["b #1?", "c #7?", "d?"], answers={"a?": None, "d?": "1"})
    _, trace = await run_graph(model, journal)
    assert [asked.question for asked in model.asked("step")] == ["a?", "d?"]
    assert [step.id for step in trace.steps] == [1, 2]


@pytest.mark.parametrize(
    ("choice", "asked", "depends_on"),
    [
        ("When was #1 born?", "When was Goethe born?", [1]),
        ("When was Goethe born?", "When was Goethe born?", [1]),
        ("When was goethe's mother born?", "When was goethe's mother born?", [1]),
        ("When was he born?", "When was he born? (Goethe)", [1]),
        ("When was Goethels born?", "When was Goethels born?", []),
    ],
)
async def test_a_step_depends_on_the_answers_that_it_names(
    journal: Journal, choice: str, asked: str, depends_on: list[int]
) -> None:
    answers = {"Who wrote Faust?": "Goethe", asked: "1749"}
    model = chooser(["Who wrote Faust?"], [choice], answers=answers)
    _, trace = await run_graph(model, journal)
    assert (trace.step(2).asked, trace.step(2).depends_on) == (asked, depends_on)
    assert bool(trace.step(2).warnings) == ("(" in asked)
    assert [known.reason for known in trace.step(2).earlier] == ["reference"] * len(depends_on)


async def test_what_is_left_of_the_budget_is_kept_for_the_answer(journal: Journal) -> None:
    answers = {f"q{number}?": "x" for number in range(9)}
    model = chooser(*([question] for question in answers), answers=answers)
    output, trace = await run_graph(model, journal, budget=Budget(max_llm_calls=6))
    assert kinds(model) == ["next", "step", "next", "step", "next", "synthesis"]
    assert output["stop_reason"] == "budget:llm_calls"
    assert [step.status for step in trace.steps] == ["answered", "answered", "failed"]


@pytest.mark.parametrize("slow", ["next", "step"])
async def test_a_deadline_ends_the_run_with_what_is_known(
    journal: Journal, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_pass = passing_time(monkeypatch)
    model = chooser(["a?"], ["b?"], answers={"a?": "1", "b?": "2"}, synthesis="1 [1]")

    async def wait(asked: Asked) -> None:
        if len(model.asked(slow)) == 2 and asked.request and asked.request.kind == slow:
            let_pass(275)
            await asyncio.sleep(FOR_EVER)

    model.wait = wait
    time = asyncio.get_running_loop().time
    began = time()
    output, _ = await run_graph(model, journal, budget=Budget(deadline=300))
    assert time() - began < 300
    assert output["stop_reason"] == "budget:deadline"
    assert output["short_answer"] == "1"


async def test_a_budget_that_allows_no_choice_is_an_error(journal: Journal) -> None:
    with pytest.raises(HoptrailError, match="tokens"):
        await run_graph(chooser(["a?"]), journal, budget=Budget(max_tokens=1))
    assert journal.run("r1").status == "failed"


async def test_when_nothing_was_found_nobody_is_asked_to_make_something_up(
    journal: Journal,
) -> None:
    model = chooser(["a?"], ["b?"], answers={"a?": None, "b?": None})
    output, trace = await run_graph(model, journal)
    assert kinds(model) == ["next", "step"] * 2 + ["next"]
    assert output["abstained"]
    assert output["stop_reason"] == "no_evidence"
    assert "a? / b?" in output["answer"]
    assert trace.status == "abstained"


async def test_when_every_step_failed_the_error_rises_and_is_no_answer(journal: Journal) -> None:
    down = BackendUnavailable("connection refused", backend="scripted")
    with pytest.raises(BackendUnavailable, match="refused"):
        await run_graph(chooser(["a?"], answers={"a?": down}), journal)
    trace = journal.trace("r1")
    assert (trace.status, trace.answer) == ("failed", "")


CALLS = ["next", "step"] * 3 + ["next", "synthesis"]
"""Every call of the chain, in the order they are made."""


async def interrupted(graph_over: Callable[[Any], Any], config: Any, call: int) -> None:
    """Run a graph, and cancel it while its model's ``call``-th call is under way."""
    under_way = asyncio.Event()

    async def wait(_asked: Asked) -> None:
        if len(model.calls) == call + 1:
            under_way.set()
            await asyncio.sleep(FOR_EVER)

    model = ScriptedChatModel(respond=script(CHAIN, CHAIN_ANSWERS, "Vanaja [3]"), wait=wait)
    async with asyncio.timeout(LONG), asyncio.TaskGroup() as group:
        running = group.create_task(graph_over(model).ainvoke(GIVEN, config))
        await under_way.wait()
        running.cancel()


@pytest.mark.parametrize("call", range(len(CALLS)), ids=lambda call: f"{call} {CALLS[call]}")
async def test_a_run_interrupted_anywhere_goes_on_with_the_same_steps(
    journal: Journal, call: int
) -> None:
    await interrupted(lambda model: graph_of(model, journal).compile(), named("r1"), call)
    assert journal.run("r1").status == "interrupted"
    assert not journal.alive("r1")
    second = ScriptedChatModel(respond=script(CHAIN, CHAIN_ANSWERS, "Vanaja [3]"))
    output, trace = await run_graph(second, journal)
    assert kinds(second) == CALLS[call:]
    assert output["short_answer"] == "Vanaja"
    assert [step.question for step in trace.steps] == list(CHAIN_ANSWERS)
    assert len(list(trace.calls())) == trace.usage.llm_calls == len(CALLS)
    assert trace.plan.source == ("journal" if call > 6 else "model")


@pytest.mark.parametrize("call", range(len(CALLS)), ids=lambda call: f"{call} {CALLS[call]}")
async def test_a_checkpoint_is_gone_on_from_in_another_process(journal: Journal, call: int) -> None:
    saver = InMemorySaver(serde=strict_serializer())
    config = named("r1", thread_id="t")

    def over(model: Any) -> Any:
        return graph_of(model, journal).compile(checkpointer=saver)

    await interrupted(over, config, call)
    second = ScriptedChatModel(respond=script(CHAIN, CHAIN_ANSWERS, "Vanaja [3]"))
    graph = over(second)
    output = await graph.ainvoke(None, config)
    assert kinds(second) == CALLS[call:]
    assert (output["run_id"], output["short_answer"]) == ("r1", "Vanaja")
    trace = journal.trace("r1")
    assert [step.question for step in trace.steps] == list(CHAIN_ANSWERS)
    assert len(list(trace.calls())) == len(CALLS)
    assert "live" not in (await graph.aget_state(config)).values


async def test_a_finished_run_is_given_again_without_asking_anybody(journal: Journal) -> None:
    model = ScriptedChatModel(respond=script(CHAIN, CHAIN_ANSWERS, "Vanaja [2]"))
    first, _ = await run_graph(model, journal)
    again, _ = await run_graph(chooser(), journal)
    assert again == first


async def test_more_steps_are_taken_when_the_budget_is_raised(journal: Journal) -> None:
    respond = script(CHAIN, CHAIN_ANSWERS, "Vanaja")
    _, trace = await run_graph(
        ScriptedChatModel(respond=respond), journal, budget=Budget(max_steps=2)
    )
    assert trace.stop_reason == "budget:steps"
    second = ScriptedChatModel(respond=respond)
    _, trace = await run_graph(second, journal)
    assert kinds(second) == ["next", "step", "next", "synthesis"]
    assert trace.stop_reason == "answered"


async def test_a_threads_next_question_is_a_run_of_its_own(journal: Journal) -> None:
    model = chooser(["Which river?"], answers={"Which river?": "Vltava", "Other?": "yes"})
    graph = graph_of(model, journal).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    first = await graph.ainvoke(GIVEN, config)
    model.respond = chooser(["Other?"], answers={"Other?": "yes"}).respond
    second = await graph.ainvoke({"question": "Other?"}, config)
    assert (first["short_answer"], second["short_answer"]) == ("Vltava", "yes")
    assert first["run_id"] != second["run_id"]


@pytest.mark.parametrize("after", range(11))
async def test_a_stream_left_early_ends_its_run(tmp_path: Path, after: int) -> None:
    model = ScriptedChatModel(respond=script(CHAIN, CHAIN_ANSWERS, "Vanaja"))
    trail = Hoptrail(model=model, settings=load_settings(embedders="hash"))
    async with aclosing(trail.astream("Which river?", run_id="r1", graph="iterative")) as events:
        for _ in range(after + 1):
            await anext(events)
    journal = trail.assembly.journal
    assert not journal.alive("r1")
    assert journal.run("r1").status == "interrupted"
    answer = await trail.aask("Which river?", run_id="r1", graph="iterative")
    assert answer.short == "Vanaja"
    assert [step.question for step in answer.trace.steps] == list(CHAIN_ANSWERS)
    trail.close()


def test_without_an_event_loop_it_answers_the_same(tmp_path: Path) -> None:
    model = ScriptedChatModel(respond=script(CHAIN, CHAIN_ANSWERS, "Vanaja"))
    trail = Hoptrail(model=model, settings=load_settings(embedders="hash"))
    output = trail.iterative_graph.invoke(GIVEN)
    answer = trail.ask("Which river?", graph="iterative")
    assert (output["short_answer"], kinds(model)) == ("Vanaja", CALLS * 2)
    assert (answer.text, answer.trace.graph) == (output["answer"], "iterative")
    assert isinstance(list(trail.stream("Which river?", graph="iterative"))[-1], RunFinished)
    trail.close()


def test_there_is_no_plan_to_approve(tmp_path: Path) -> None:
    trail = Hoptrail(approve=True, settings=load_settings(embedders="hash"))
    with pytest.raises(HoptrailError, match="one step at a time"):
        trail.ask("Which river?", graph="iterative")
    trail.close()


def routed(*sides: Backend) -> RoutedChatModel:
    clock = FakeClock()
    return RoutedChatModel(sides, clock=clock, sleep=clock.sleep)


async def test_a_backend_that_dies_between_two_steps_is_taken_over_from(journal: Journal) -> None:
    down = BackendUnavailable("gone", backend="one")
    one = ScriptedBackend("one", ['{"steps": ["a?"]}', found("1"), down])
    rest = ['{"steps": ["b #1?"]}', found("2"), '{"steps": []}', "Two [1]"]
    cut = Reply("Two and", error=BackendUnavailable("cut", backend="two"), error_after=2)
    two = ScriptedBackend("two", [*rest[:3], cut, rest[3]])
    model = routed(one, two)
    output, trace = await run_graph(model, journal, routed=True)
    assert output["short_answer"] == "Two"
    assert [step.asked for step in trace.steps] == ["a?", "b 1?"]
    assert [call.backend for call in trace.calls() if call.purpose == "next"] == [
        "one",
        "two",
        "two",
    ]
    outcomes = [attempt.outcome for attempt in trace.plan.calls[1].attempts]
    assert outcomes[0] == "BackendUnavailable"
    assert outcomes[-1] == "ok"


def hops(name: str) -> Callable[[ChatRequest], str]:
    """Answer as one of the loopback sides; each says who it is."""

    def respond(request: ChatRequest) -> str:
        if "steps" in (request.schema or {}).get("properties", ()):
            known = request.question.count("\nStep ")
            look_ups = ["Who composed Finlandia?", "Where was #1 born?"]
            return json.dumps({"steps": look_ups[known:][:1]})
        if "Findings:" in request.question:
            return f"Hämeenlinna by {name}"
        return found(f"answer by {name}", ())

    return respond


@pytest.mark.parametrize("first", ["huggingface", "ollama"])
@pytest.mark.parametrize("dies_at", [1, 2, 3])
async def test_either_backend_takes_over_in_mid_run(
    provider: LoopbackProvider, first: str, dies_at: int
) -> None:
    sides = {"huggingface": provider.huggingface, "ollama": provider.ollama}
    provider.ollama.models = ["qwen3:8b"]
    for name, side in sides.items():
        side.answer(hops(name))
    second = next(name for name in sides if name != first)
    sides[first].faults.extend([None] * dies_at)
    sides[first].fault = Fault("status", status=503)
    settings = load_settings(
        backends=(first, second),
        embedders=("hash",),
        token="hf_loopback",
        huggingface_base_url=provider.huggingface_url,
        ollama_host=provider.ollama_url,
    )
    trail = Hoptrail(settings=settings)
    answer = await trail.aask("Where was the composer of Finlandia born?", graph="iterative")
    trail.close()
    who = [call.backend for call in answer.trace.calls()]
    assert {first, second} == set(who)
    assert answer.trace.synthesis[-1].backend == second
    assert answer.text == f"Hämeenlinna by {second}"
    assert [step.status for step in answer.trace.steps] == ["answered", "answered"]
    assert answer.trace.steps[1].asked.startswith("Where was answer by")


def test_the_built_in_reader_answers_the_examples_step_by_step(tmp_path: Path) -> None:
    offline = load_settings(backends="extractive", embedders="hash", home=tmp_path)
    trail = Hoptrail(docs=EXAMPLES / "corpus", settings=offline)
    wrong = []
    for question in load_dataset(EXAMPLES / "questions.jsonl").questions:
        answer = trail.ask(question.question, graph="iterative")
        right = exact_match(answer.short, question.answers) if question.answers else 0
        if not (right or (answer.abstained and not question.answers)):
            wrong.append((question.id, answer.short))
        words = [step.asked.casefold() for step in answer.trace.steps]
        assert len(set(words)) == len(words)
    trail.close()
    assert wrong == []
