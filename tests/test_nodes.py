"""What all nodes have in common: they run in both worlds, and lose no time on the way."""

import threading
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langgraph.config import get_config
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from hoptrail.nodes import AnyNode, Route, Tell

pytestmark = pytest.mark.anyio


class Visited(TypedDict):
    visited: list[str]


class Walk:
    """A graph of two nodes and a choice; notes in which thread the choice was made."""

    def __init__(self) -> None:
        self.chosen_in: list[int] = []

    async def first(self, state: Visited, tell: Tell) -> dict[str, object]:
        return {"visited": [*state["visited"], "first"]}

    async def second(self, state: Visited, tell: Tell) -> dict[str, object]:
        return {"visited": [*state["visited"], "second"]}

    def whither(self, state: Visited) -> str:
        self.chosen_in.append(threading.get_ident())
        return str(get_config()["configurable"]["whither"])

    def compiled(self) -> Any:
        graph = StateGraph(Visited)
        graph.add_node("first", AnyNode(self.first))
        graph.add_node("second", AnyNode(self.second))
        graph.add_edge(START, "first")
        graph.add_conditional_edges("first", Route(self.whither), ["second", END])
        return graph.compile()


class Told(BaseCallbackHandler):
    def __init__(self) -> None:
        self.begun: list[str] = []

    def on_chain_start(self, *_: Any, name: str = "", **__: Any) -> None:
        self.begun.append(name)


def to(place: str, *callbacks: BaseCallbackHandler) -> Any:
    return {"configurable": {"whither": place}, "callbacks": list(callbacks)}


async def test_a_choice_is_made_on_the_spot_and_knows_the_configuration() -> None:
    walk = Walk()
    graph = walk.compiled()
    assert await graph.ainvoke({"visited": []}, to("second")) == {"visited": ["first", "second"]}
    assert await graph.ainvoke({"visited": []}, to(END)) == {"visited": ["first"]}
    assert walk.chosen_in == [threading.get_ident()] * 2


def test_the_same_graph_runs_without_an_event_loop() -> None:
    graph = Walk().compiled()
    assert graph.invoke({"visited": []}, to("second")) == {"visited": ["first", "second"]}


async def test_callbacks_hear_of_each_node_once() -> None:
    told = Told()
    await Walk().compiled().ainvoke({"visited": []}, to("second", told))
    assert told.begun.count("first") == told.begun.count("second") == 1
