"""A trail as a tool: in the loop of a LangGraph agent whose model is scripted, and alone."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import ToolException
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import Field

from hoptrail import Hoptrail, HoptrailError, load_settings
from hoptrail.errors import BackendUnavailable
from hoptrail.events import RunFinished, RunStarted, StepFinished
from hoptrail.testing import ScriptedChatModel, script, step_reply
from tests import two_hops

pytestmark = pytest.mark.anyio


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[Hoptrail]:
    yield from a_trail(tmp_path)


def a_trail(tmp_path: Path, model: ScriptedChatModel | None = None) -> Iterator[Hoptrail]:
    docs = two_hops.write_documents(tmp_path / "docs")
    trail = Hoptrail(docs, model=model or two_hops.model(), settings=offline())
    yield trail
    trail.close()


def offline() -> Any:
    return load_settings(backends="extractive", embedders="hash")


class AgentModel(FakeMessagesListChatModel):
    """Calls tools as scripted, and keeps what it was shown."""

    seen: list[list[BaseMessage]] = Field(default_factory=list)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        self.seen.append(messages)
        return super()._generate(messages, *args, **kwargs)


def calling(*questions: str, name: str = "hoptrail") -> AgentModel:
    calls = [
        {"name": name, "args": {"question": question}, "id": f"call-{number}"}
        for number, question in enumerate(questions)
    ]
    return AgentModel(responses=[AIMessage("", tool_calls=calls), AIMessage("So it is Prague.")])


def agent_of(model: AgentModel, trail: Hoptrail, **compiled: Any) -> Any:
    def call(state: MessagesState) -> dict[str, object]:
        return {"messages": [model.invoke(state["messages"])]}

    async def acall(state: MessagesState) -> dict[str, object]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", RunnableLambda(call, acall))
    graph.add_node("tools", ToolNode([trail.as_tool()]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile(**compiled)


def check_told(model: AgentModel, messages: list[BaseMessage]) -> None:
    told = messages[2]
    assert isinstance(told, ToolMessage)
    assert told.status == "success"
    assert "Prague" in told.text
    assert "[1] Franz Kafka (docs/people.md): “Franz Kafka was born in Prague.”" in told.text
    assert told.artifact["short_answer"] == "Prague"
    assert [step["answer"] for step in told.artifact["steps"]] == ["Franz Kafka", "Prague"]
    assert json.dumps(told.artifact)
    assert model.seen[-1][-1].text == told.text
    assert messages[-1].text == "So it is Prague."


ASKED = {"messages": [HumanMessage(two_hops.QUESTION)]}


async def test_an_agent_reads_the_answer_with_its_sources(trail: Hoptrail) -> None:
    model = calling(two_hops.QUESTION)
    told = await agent_of(model, trail).ainvoke(ASKED)
    check_told(model, told["messages"])


def test_a_synchronous_agent_does_too(trail: Hoptrail) -> None:
    model = calling(two_hops.QUESTION)
    check_told(model, agent_of(model, trail).invoke(ASKED)["messages"])


async def test_the_events_of_the_run_are_in_the_agents_custom_stream(trail: Hoptrail) -> None:
    agent = agent_of(calling(two_hops.QUESTION), trail)
    events = [event async for event in agent.astream(ASKED, stream_mode="custom")]
    check_events(events)


def test_they_are_in_the_synchronous_stream_too(trail: Hoptrail) -> None:
    agent = agent_of(calling(two_hops.QUESTION), trail)
    check_events(list(agent.stream(ASKED, stream_mode="custom")))


def check_events(events: list[object]) -> None:
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert sum(isinstance(event, StepFinished) for event in events) == 2


async def test_the_agents_messages_and_checkpoints_hold_nothing_of_the_run(
    trail: Hoptrail,
) -> None:
    saver = InMemorySaver()
    config: RunnableConfig = {"configurable": {"thread_id": "t"}}
    agent = agent_of(calling(two_hops.QUESTION), trail, checkpointer=saver)
    shown = [chunk async for chunk, _ in agent.astream(ASKED, config, stream_mode="messages")]
    assert [type(chunk).__name__ for chunk in shown] == ["AIMessage", "ToolMessage", "AIMessage"]
    kept = [tuple_.config["configurable"] async for tuple_ in saver.alist(None)]
    assert {(each["thread_id"], each["checkpoint_ns"]) for each in kept} == {("t", "")}


async def test_two_calls_at_once_are_two_runs(trail: Hoptrail) -> None:
    told = await agent_of(calling(two_hops.QUESTION, two_hops.QUESTION), trail).ainvoke(ASKED)
    first, second = told["messages"][2:4]
    assert first.artifact["run_id"] != second.artifact["run_id"]
    assert first.text == second.text


def failing() -> ScriptedChatModel:
    return ScriptedChatModel(respond=lambda _asked: BackendUnavailable("it is down", backend="x"))


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
async def test_an_error_is_a_message_of_that_status(tmp_path: Path, sync: bool) -> None:
    for trail in a_trail(tmp_path, failing()):
        call: Any = {
            "name": "hoptrail",
            "args": {"question": two_hops.QUESTION},
            "id": "1",
            "type": "tool_call",
        }
        if sync:
            told = await asyncio.to_thread(trail.as_tool().invoke, call)
        else:
            told = await trail.as_tool().ainvoke(call)
        assert told.status == "error"
        assert "it is down" in told.text
        assert "hoptrail doctor" in told.text
        assert told.artifact is None


async def test_to_a_caller_who_gets_no_message_it_is_raised(tmp_path: Path) -> None:
    for trail in a_trail(tmp_path, failing()):
        with pytest.raises(ToolException, match="it is down") as raised:
            await trail.as_tool().ainvoke({"question": two_hops.QUESTION})
        assert isinstance(raised.value.__cause__, HoptrailError)


def test_a_plain_call_gives_the_content(trail: Hoptrail) -> None:
    assert "Prague" in trail.as_tool().invoke({"question": two_hops.QUESTION})


def test_an_abstention_is_said_before_anything_else(tmp_path: Path) -> None:
    model = ScriptedChatModel(respond=script(["Who?"], {"Who?": step_reply(None)}))
    for trail in a_trail(tmp_path, model):
        told = trail.as_tool().invoke({"question": "Who?"})
        assert told.startswith("No answer: the documents do not say.")


def test_an_answer_of_no_language_model_says_so(tmp_path: Path) -> None:
    docs = two_hops.write_documents(tmp_path / "docs")
    trail = Hoptrail(docs, settings=offline())
    told = trail.as_tool().invoke({"question": "Who wrote The Trial?"})
    assert "Franz Kafka" in told
    assert "no language model" in told
    trail.close()


def test_a_paused_run_is_an_error_that_says_why(tmp_path: Path) -> None:
    docs = two_hops.write_documents(tmp_path / "docs")
    trail = Hoptrail(docs, approve=True, settings=offline())
    with pytest.raises(ToolException, match="approve"):
        trail.as_tool().invoke({"question": two_hops.QUESTION})
    trail.close()


def test_a_model_is_told_what_to_ask(trail: Hoptrail) -> None:
    function = convert_to_openai_tool(trail.as_tool())["function"]
    assert function["name"] == "hoptrail"
    assert "several look-ups" in function["description"]
    assert list(function["parameters"]["properties"]) == ["question"]
    assert function["parameters"]["properties"]["question"]["description"]
    assert function["parameters"]["required"] == ["question"]


async def test_name_description_and_graph_can_be_chosen(trail: Hoptrail) -> None:
    tool = trail.as_tool("look_up", "Looks up.", graph="iterative")
    assert (tool.name, tool.description) == ("look_up", "Looks up.")
    assert tool.ask.keywords == {"graph": "iterative"}  # type: ignore[attr-defined] # a partial


def test_without_documents_none_are_blamed(tmp_path: Path) -> None:
    trail = Hoptrail(settings=offline())
    told = trail.as_tool().invoke({"question": "Who wrote The Trial?"})
    trail.close()
    assert told.startswith("No answer: there are no documents to look in.")
    assert told.endswith("no language model looked; one may find it.")
