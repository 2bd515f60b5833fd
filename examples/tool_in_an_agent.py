"""Hoptrail as a tool of a LangGraph agent, its steps in the agent's stream; the agent's own model
is scripted here, any chat model with `bind_tools([tool])` takes its place."""

from pathlib import Path

from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from hoptrail import Hoptrail, StepFinished

QUESTION = "Where was the composer of Finlandia born?"
CALL = {"name": "look_up", "args": {"question": QUESTION}, "id": "1"}


def main() -> None:
    trail = Hoptrail(docs=Path(__file__).parent / "corpus")
    tool = trail.as_tool(name="look_up")
    replies = [AIMessage("", tool_calls=[CALL]), AIMessage("I looked it up: see above.")]
    model = FakeMessagesListChatModel(responses=[*replies])

    agent = StateGraph(MessagesState)
    agent.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    agent.add_node("tools", ToolNode([tool]))
    agent.add_edge(START, "model")
    agent.add_conditional_edges("model", tools_condition)
    agent.add_edge("tools", "model")
    asked: MessagesState = {"messages": [HumanMessage(QUESTION)]}
    for part in agent.compile().stream(asked, stream_mode=["custom", "values"], version="v2"):
        if part["type"] == "values":
            part["data"]["messages"][-1].pretty_print()
        elif isinstance(step := part["data"], StepFinished):
            print(f"-- step {step.step.id}: {step.step.asked} {step.step.answer}")
    trail.close()


if __name__ == "__main__":
    main()
