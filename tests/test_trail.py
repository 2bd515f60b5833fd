"""`Hoptrail`, the Python door, over the built-in reader and over scripted models."""

import asyncio
import json
import stat
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import HumanMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph

from hoptrail import Answer, Budget, Hoptrail, HoptrailError, RetrievalError, load_settings
from hoptrail.checkpoints import sqlite_checkpointer
from hoptrail.events import PlanProposed, RunFinished
from hoptrail.journal import RunRow
from hoptrail.testing import Asked, ScriptedChatModel, script
from hoptrail.trace import Trace, trace_schema
from tests.moments import FOR_EVER, LONG, done_meanwhile

pytestmark = pytest.mark.anyio

NOTES = {
    "finlandia.md": "# Finlandia\n\nFinlandia is a tone poem by the composer Jean Sibelius.",
    "sibelius.md": "# Jean Sibelius\n\nJean Sibelius was born in Hämeenlinna in 1865.",
    "moon.md": "# Moon\n\nThe Moon goes round the Earth in about a month.",
}
QUESTION = "Where was the composer of Finlandia born?"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    for name, text in NOTES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def trail(docs: Path) -> Iterator[Hoptrail]:
    trail = Hoptrail(docs=docs, settings=offline())
    yield trail
    trail.close()


def offline() -> Any:
    return load_settings(backends="extractive", embedders="hash")


def test_without_any_model_the_documents_still_answer(trail: Hoptrail) -> None:
    answer = trail.ask(QUESTION)
    assert answer.short == "Hämeenlinna"
    assert answer.degraded
    assert answer.citations[0].title == "Jean Sibelius"
    assert [step.status for step in answer.trace.steps] == ["answered", "answered"]
    assert answer.trace.steps[0].retrieval_mode == "hybrid"


def test_the_json_of_an_answer_keeps_its_promise(trail: Hoptrail) -> None:
    told = json.loads(json.dumps(trail.ask(QUESTION).as_json()))
    assert set(told) >= {
        "run_id",
        "question",
        "answer",
        "abstained",
        "degraded",
        "stop_reason",
        "citations",
        "steps",
        "usage",
        "warnings",
    }
    assert set(told["citations"][0]) >= {"passage_id", "source", "quote", "step"}
    step = told["steps"][1]
    assert set(step) >= {
        "id",
        "question",
        "asked",
        "depends_on",
        "answer",
        "abstained",
        "backend",
        "model",
        "ms",
        "evidence",
        "context_steps",
        "attempts",
        "warnings",
    }
    assert set(step["evidence"][0]) >= {"passage_id", "source", "rank", "score", "cited"}
    assert step["context_steps"] == [{"id": 1, "similarity": None, "reason": "reference"}]
    assert set(step["attempts"][0]) >= {"backend", "outcome", "ms"}
    assert set(told["usage"]) == {"llm_calls", "input_tokens", "output_tokens", "wall_ms"}


async def test_the_async_and_the_sync_door_give_the_same(trail: Hoptrail) -> None:
    asynchronous = await trail.aask(QUESTION)
    synchronous = await asyncio.to_thread(trail.ask, QUESTION)
    assert asynchronous.text == synchronous.text
    assert asynchronous.citations == synchronous.citations


def test_the_stream_ends_with_the_whole_record(trail: Hoptrail) -> None:
    events = list(trail.stream(QUESTION))
    assert isinstance(events[-1], RunFinished)
    assert events[-1].trace.short_answer == "Hämeenlinna"


def test_the_trace_on_disk_follows_its_schema(trail: Hoptrail) -> None:
    answer = trail.ask(QUESTION)
    kept = trail.assembly.journal.trace(answer.run_id)
    assert kept == answer.trace
    schema = trace_schema()
    assert set(json.loads(kept.model_dump_json())) == set(schema["properties"])  # type: ignore[call-overload] # a JSON document


def test_an_empty_question_is_refused(trail: Hoptrail) -> None:
    with pytest.raises(HoptrailError, match="empty"):
        trail.ask("  ")


def test_a_graph_without_a_question_is_refused(trail: Hoptrail) -> None:
    given: list[dict[str, str]] = [{}, {"question": " "}]
    for graph in (trail.graph, trail.iterative_graph):
        for question in given:
            with pytest.raises(HoptrailError, match="the question is empty"):
                graph.invoke(question)


def test_a_graph_that_does_not_exist_is_refused(trail: Hoptrail) -> None:
    with pytest.raises(HoptrailError, match=r"no graph .chat. .* multi-hop or iterative"):
        trail.ask(QUESTION, graph="chat")  # type: ignore[arg-type] # that is the point


def test_a_degraded_answer_says_why(trail: Hoptrail) -> None:
    (told,) = trail.ask(QUESTION).warnings
    assert told == "no language model answered: the built-in is first in order"


def test_documents_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    trail = Hoptrail(docs=tmp_path / "nowhere", settings=offline())
    with pytest.raises(RetrievalError, match="nowhere"):
        trail.ask(QUESTION)
    trail.close()


def test_an_index_that_was_never_built_is_an_error(tmp_path: Path) -> None:
    trail = Hoptrail(index=tmp_path / "index", settings=offline())
    with pytest.raises(RetrievalError, match="hoptrail ingest"):
        trail.ask(QUESTION)
    trail.close()


async def test_an_index_serves_without_its_documents(docs: Path, tmp_path: Path) -> None:
    built = Hoptrail(docs=docs, index=tmp_path / "index", settings=offline())
    report = await built.prepare()
    assert report is not None
    assert report.added == len(NOTES)
    built.close()
    trail = Hoptrail(index=tmp_path / "index", settings=offline())
    assert (await trail.aask(QUESTION)).short == "Hämeenlinna"
    trail.close()


class Shelf(BaseRetriever):
    """Always the same documents."""

    def _get_relevant_documents(self, query: str, **_: object) -> list[Document]:
        return [Document(text, metadata={"source": name}) for name, text in NOTES.items()]


async def test_model_embeddings_and_retriever_can_be_the_callers(tmp_path: Path) -> None:
    model = ScriptedChatModel(respond=script(["a?", "b #1?"], {"a?": "1", "b 1?": "2"}, "2 [1]"))
    trail = Hoptrail(
        model=model,
        embeddings=DeterministicFakeEmbedding(size=8),
        retriever=Shelf(),
        budget=Budget(max_llm_calls=9),
        settings=offline(),
    )
    answer = await trail.aask("c?")
    assert answer.short == "2"
    assert answer.trace.steps[0].retrieval_mode == "external"
    assert answer.trace.model_policy == "scriptedchatmodel"
    assert answer.citations[0].source == "finlandia.md"
    assert not answer.degraded
    trail.close()


async def test_a_plan_can_be_looked_at_before_it_is_run(docs: Path) -> None:
    trail = Hoptrail(docs=docs, approve=True, settings=offline())
    events = [event async for event in trail.astream(QUESTION, run_id="r1")]
    proposed = events[-1]
    assert isinstance(proposed, PlanProposed)
    assert len(proposed.questions) == 2
    told = [event async for event in trail.decide("r1", True)]
    assert isinstance(told[-1], RunFinished)
    assert told[-1].trace.short_answer == "Hämeenlinna"
    with pytest.raises(HoptrailError, match="approve"):
        await trail.aask(QUESTION, run_id="r2")
    trail.close()


async def test_the_graph_is_a_node_of_another_graph(trail: Hoptrail) -> None:
    async def ask(state: MessagesState) -> dict[str, object]:
        found = await trail.graph.ainvoke({"question": state["messages"][-1].text})
        return {"messages": [("ai", found["answer"])]}

    outer = StateGraph(MessagesState)
    outer.add_node("ask", ask)
    outer.add_edge(START, "ask")
    told = await outer.compile().ainvoke({"messages": [HumanMessage(QUESTION)]})
    assert told["messages"][-1].content.startswith("Hämeenlinna [1]")


async def test_checkpoints_on_sqlite_hold_plain_json_and_belong_to_their_owner(
    docs: Path, tmp_path: Path
) -> None:
    saver = await sqlite_checkpointer(tmp_path / "checkpoints.db")
    trail = Hoptrail(docs=docs, checkpointer=saver, settings=offline())
    answer = await trail.aask(QUESTION)
    config: RunnableConfig = {"configurable": {"thread_id": answer.run_id}}
    state = await trail.graph.aget_state(config)
    assert state.values["short_answer"] == answer.short
    assert "live" not in state.values
    assert stat.S_IMODE((tmp_path / "checkpoints.db").stat().st_mode) == 0o600
    await saver.conn.close()
    trail.close()


@pytest.mark.filterwarnings("ignore:This API is in beta")  # LangGraph's as_tool is
def test_the_graph_is_a_tool(trail: Hoptrail) -> None:
    tool = trail.graph.as_tool(name="hoptrail", description="Answers questions.")
    assert tool.invoke({"question": QUESTION})["short_answer"] == "Hämeenlinna"


def test_the_graph_answers_without_an_event_loop(trail: Hoptrail) -> None:
    assert trail.graph.invoke({"question": QUESTION})["short_answer"] == "Hämeenlinna"


def test_two_event_loops_one_after_the_other(trail: Hoptrail) -> None:
    first = asyncio.run(trail.aask(QUESTION))
    second = asyncio.run(trail.aask(QUESTION))
    assert first.text == second.text


def test_a_trace_can_be_read_back_from_its_json(trail: Hoptrail) -> None:
    trace = trail.ask(QUESTION).trace
    assert Trace.model_validate_json(trace.model_dump_json()) == trace


DOORS: dict[str, Callable[[Hoptrail], Awaitable[Answer]]] = {
    "multi-hop": lambda trail: trail.aask("Which river?", run_id="r1"),
    "iterative": lambda trail: trail.aask("Which river?", run_id="r1", graph="iterative"),
    "chat": lambda trail: trail.achat("Which river?", run_id="r1", thread_id="t"),
}


async def ended(trail: Hoptrail) -> RunRow:
    """The run's row, once its node has heard that it was cancelled."""
    journal = trail.assembly.journal
    async with asyncio.timeout(LONG):
        while (row := await journal.off_loop(journal.run, "r1")).status == "running":  # noqa: ASYNC110 # another thread writes it
            await asyncio.sleep(0.02)
    return row


class TestWhoIsCancelledAtEveryAwait:
    """As whatever runs inside a cancel scope of anyio's is: a handler of Starlette's, for one."""

    @pytest.mark.parametrize("door", DOORS)
    async def test_frees_the_run_and_the_model(self, door: str) -> None:
        over = asyncio.Event()

        async def wait(_asked: Asked) -> None:
            scope.cancel()
            try:
                await asyncio.sleep(FOR_EVER)
            finally:
                over.set()

        model = ScriptedChatModel(respond=script(["Which river?"]), wait=wait)
        trail = Hoptrail(model=model, settings=offline())
        with anyio.CancelScope() as scope:
            await DOORS[door](trail)
        assert scope.cancelled_caught
        async with asyncio.timeout(LONG):
            await over.wait()
        assert (await ended(trail)).status == "interrupted"
        assert not trail.assembly.journal.alive("r1")
        trail.close()

    @pytest.mark.parametrize("door", DOORS)
    async def test_asks_nobody_when_the_run_is_admitted_too_late(
        self, door: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = ScriptedChatModel(respond=script(["Which river?"], {"Which river?": "Vltava"}))
        trail = Hoptrail(model=model, settings=offline())
        journal, loop = trail.assembly.journal, asyncio.get_running_loop()
        admit = journal.admit

        def admit_late(*given: Any) -> Any:
            done_meanwhile(loop, scope.cancel)
            return admit(*given)

        monkeypatch.setattr(journal, "admit", admit_late)
        with anyio.CancelScope() as scope:
            await DOORS[door](trail)
        assert (await ended(trail)).status == "interrupted"
        assert not trail.assembly.journal.alive("r1")
        await asyncio.sleep(0.3)
        assert model.calls == []
        trail.close()
