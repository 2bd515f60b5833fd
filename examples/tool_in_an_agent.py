"""Hoptrail as a tool inside another LangGraph agent.

The agent's own model is scripted here, so that the example runs anywhere; put any model that
calls tools in its place.
"""

from pathlib import Path

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from hoptrail import Hoptrail

CORPUS = Path(__file__).parent / "corpus"
QUESTION = "Where was the composer of Finlandia born?"
CALL = {"name": "look_up", "args": {"question": QUESTION}, "id": "1"}


def main() -> None:
    trail = Hoptrail(docs=CORPUS)

    @tool
    def look_up(question: str) -> str:
        """Answer a question that takes several look-ups in the documents."""
        return trail.ask(question).text

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
