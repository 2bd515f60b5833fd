"""The other story: one step at a time, each chosen from what the ones before it found.

    START -> open -> choose -> solve
                      |  ^       |
                      |  +-------+
                      +-> synthesize -> END

For questions whose plan cannot be known ahead. Each step costs two calls, and none runs beside
another; the steps, their context, their citations and the answer are made as in
`hoptrail.graph`. The books of the run travel in an untracked channel, which no checkpoint ever
sees; what a resume needs is in the journal.
"""

from __future__ import annotations

from typing import Annotated

from langgraph.channels.untracked_value import UntrackedValue
from langgraph.graph import END, START, StateGraph

from hoptrail.admission import open_run
from hoptrail.errors import HoptrailError
from hoptrail.next_step import Choice, choose_step, chosen_steps
from hoptrail.nodes import (
    Answered,
    AnyNode,
    Question,
    Route,
    Tell,
    answered,
    named_run,
    steps_so_far,
    when_left,
)
from hoptrail.parts import Parts
from hoptrail.run import Run
from hoptrail.solve import solve_steps


class State(Answered):
    """Plain JSON, and one live object that is never checkpointed."""

    question: str
    plan: list[dict[str, object]]
    choice: Choice
    live: Annotated[Run | None, UntrackedValue]


def build_iterative(parts: Parts) -> StateGraph[State, None, Question, Answered]:
    """Give the iterative graph, not yet compiled: whoever runs it chooses the checkpointer.

    Raises:
        HoptrailError: plans are to be approved, and this graph never has a whole one.
    """
    if parts.approve:
        raise HoptrailError(
            "approve=True shows a whole plan, and the iterative graph chooses one step at a time: "
            "leave it out, or ask the multi-hop graph"
        )
    hops = Iterative(parts)
    graph = StateGraph(State, input_schema=Question, output_schema=Answered)
    for node in (hops.open, hops.choose, hops.solve, hops.synthesize):
        graph.add_node(node.__name__, AnyNode(node))
    graph.add_edge(START, "open")
    graph.add_edge("open", "choose")
    graph.add_conditional_edges("choose", Route(hops.after_choosing), ["solve", "synthesize"])
    graph.add_edge("solve", "choose")
    graph.add_edge("synthesize", END)
    return graph


class Iterative:
    """The nodes of the graph, over the parts it is made of."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def open(self, state: State, tell: Tell) -> dict[str, object]:
        """Open the run: a node of its own, for a thread's next question begins here anew."""
        run = await self._open(named_run(), state.get("question", ""), tell)
        return {"run_id": run.trace.run_id, "plan": [], "choice": "step", "live": run}

    async def choose(self, state: State, tell: Tell) -> dict[str, object]:
        """Choose the step that comes next, if there is one."""
        run = await self._live(state, tell)
        async with run.guarded():
            choice = await choose_step(run)
        return {"plan": steps_so_far(run), "choice": choice, "live": run}

    def after_choosing(self, state: State) -> str:
        """Go on until there is enough, or no way to go on."""
        return "solve" if state["choice"] == "step" else "synthesize"

    async def solve(self, state: State, tell: Tell) -> dict[str, object]:
        """Answer the chosen step."""
        run = await self._live(state, tell)
        async with run.guarded():
            await solve_steps(run, chosen_steps(run))
        return {"plan": steps_so_far(run), "live": run}

    async def synthesize(self, state: State, tell: Tell) -> dict[str, object]:
        """Write the answer from the steps' answers, or say what is missing."""
        run = await self._live(state, tell)
        async with run.guarded():
            return {**await answered(run, complete=state["choice"] == "enough"), "live": None}

    async def _open(self, run_id: str, question: str, tell: Tell) -> Run:
        run = await open_run(self.parts, run_id, question, tell, graph="iterative")
        when_left(run.leave)
        return run

    async def _live(self, state: State, tell: Tell) -> Run:
        """Give the open run; after a restart from a checkpoint, take it up from the journal."""
        live = state.get("live")
        if live is not None:
            live.tell = tell
            return live
        run = await self._open(state["run_id"], state["question"], tell)
        async with run.guarded():
            for _ in state["plan"]:
                await choose_step(run)
                await solve_steps(run, chosen_steps(run))
            if state["choice"] != "step":
                await choose_step(run)
        return run
