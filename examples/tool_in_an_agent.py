"""Hoptrail as a tool inside another LangGraph agent; the agent's own model is scripted here."""

from pathlib import Path

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from hoptrail import Hoptrail

QUESTION = "Where was the composer of Finlandia born?"
CALL = {"name": "look_up", "args": {"question": QUESTION}, "id": "1"}
trail = Hoptrail(docs=Path(__file__).parent / "corpus")


@tool
def look_up(question: str) -> str:
    """Answer a question that takes several look-ups in the documents."""
    return trail.ask(question).text


def main() -> None:
    replies = [AIMessage("", tool_calls=[CALL]), AIMessage("I looked it up: see above.")]
    model = GenericFakeChatModel(messages=iter(replies))
    agent = StateGraph(MessagesState)
    agent.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    agent.add_node("tools", ToolNode([look_up]))
    agent.add_edge(START, "model")
    agent.add_conditional_edges("model", tools_condition)
    agent.add_edge("tools", "model")
    for message in agent.compile().invoke({"messages": [HumanMessage(QUESTION)]})["messages"]:
        message.pretty_print()
    trail.close()


if __name__ == "__main__":
    main()
