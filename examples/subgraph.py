"""The compiled graph as a node of your own LangGraph graph; its events come through yours."""

from pathlib import Path
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph

from hoptrail import Hoptrail, StepFinished


class Report(TypedDict, total=False):
    question: str  # goes into the node
    answer: str  # comes out of it


def write(state: Report) -> Report:
    return {"answer": f"# {state['question']}\n\n{state['answer']}"}


def main() -> None:
    trail = Hoptrail(docs=Path(__file__).parent / "corpus")
    outer = StateGraph(Report)
    outer.add_node("research", trail.graph)
    outer.add_node("write", write)
    outer.add_edge(START, "research")
    outer.add_edge("research", "write")
    given: Report = {"question": "Where was the composer of Finlandia born?"}
    told: Any = None
    streams = outer.compile().stream(given, stream_mode=["custom", "values"], subgraphs=True)
    for *_, told in streams:
        if isinstance(told, StepFinished):
            print("…", told.step.asked, told.step.answer)
    print(told["answer"])
    trail.close()


if __name__ == "__main__":
    main()
