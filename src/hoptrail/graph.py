"""The story: a question becomes steps, the steps become answers, the answers become one.

    START -> decompose -> solve -> synthesize -> END
                            ^  |
                            +--+  revise, when something found nothing

``decompose`` returns as soon as the first step of the plan is certain; ``solve`` reads the rest of
the plan while it already answers. What lives only as long as the process (the open plan, the
books of the run) travels in an untracked channel, which no checkpoint ever sees; what a resume
needs is in the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from langgraph.channels.untracked_value import UntrackedValue
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from hoptrail.admission import open_run
from hoptrail.errors import HoptrailError
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
from hoptrail.planning import Planning
from hoptrail.revision import revise_plan, steps_of_round
from hoptrail.solve import solve_steps


class State(Answered):
    """Plain JSON, and one live object that is never checkpointed."""

    question: str
    plan: list[dict[str, object]]
    round: int
    live: Annotated[Planning | None, UntrackedValue]


def build_graph(parts: Parts) -> StateGraph[State, None, Question, Answered]:
    """Give the multi-hop graph, not yet compiled: whoever runs it chooses the checkpointer."""
    hops = MultiHop(parts)
    graph = StateGraph(State, input_schema=Question, output_schema=Answered)
    for node in (hops.decompose, hops.solve, hops.revise, hops.synthesize):
        graph.add_node(node.__name__, AnyNode(node))
    graph.add_edge(START, "decompose")
    if parts.approve:
        graph.add_node("approve", AnyNode(hops.approve))
        graph.add_edge("decompose", "approve")
        graph.add_edge("approve", "solve")
    else:
        graph.add_edge("decompose", "solve")
    graph.add_conditional_edges("solve", Route(hops.after_solving), ["revise", "synthesize"])
    graph.add_edge("revise", "solve")
    graph.add_edge("synthesize", END)
    return graph


class MultiHop:
    """The nodes of the graph, over the parts it is made of."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def decompose(self, state: State, tell: Tell) -> dict[str, object]:
        """Open the run and its plan; return when the first step is known."""
        run_id = named_run()
        planning = await self._open(run_id, state.get("question", ""), tell)
        async with planning.run.guarded():
            steps = await planning.open(whole=self.parts.approve)
        return {
            "run_id": run_id,
            "round": 0,
            "plan": [step.model_dump(mode="json") for step in steps],
            "live": planning,
        }

    async def approve(self, state: State, tell: Tell) -> dict[str, object]:
        """Pause until somebody has looked at the plan; the answer may be another plan.

        Resume with ``Command(resume=True)``, or with a list of questions in place of the plan.
        """
        if (live := state.get("live")) is not None:
            await live.run.pause()
        decision = interrupt({"plan": state["plan"], "run_id": state["run_id"]})
        given = _given_plan(decision, state)
        planning = await self._open(state["run_id"], state["question"], tell, given)
        async with planning.run.guarded():
            steps = await planning.open(whole=True)
        return {"plan": [step.model_dump(mode="json") for step in steps], "live": planning}

    async def solve(self, state: State, tell: Tell) -> dict[str, object]:
        """Answer the steps, each the moment the answers it refers to exist."""
        planning = await self._live(state, tell, solved=state["round"])
        async with planning.run.guarded():
            await _solve_round(planning, state["round"])
        return {"plan": steps_so_far(planning.run), "live": planning}

    def after_solving(self, state: State) -> str:
        """Ask differently for what found nothing, as often as the settings allow."""
        live = state["live"]
        assert live is not None  # solve has just put it there
        run = live.run
        asked = [step for step in run.trace.steps if step.round == state["round"]]
        lacking = any(step.status == "abstained" for step in asked)
        may = state["round"] < self.parts.revisions and self.parts.search is not None
        room = len(run.trace.steps) < self.parts.budget.max_steps
        spent = run.ledger.stopped_by is not None
        return "revise" if lacking and may and room and not spent else "synthesize"

    async def revise(self, state: State, tell: Tell) -> dict[str, object]:
        """Plan what is left of the question anew, from what was found and what was not."""
        round_ = state["round"] + 1
        planning = await self._live(state, tell, solved=round_)
        async with planning.run.guarded():
            await revise_plan(planning.run, round_)
        return {"round": round_, "live": planning}

    async def synthesize(self, state: State, tell: Tell) -> dict[str, object]:
        """Write the answer from the steps' answers, or say what is missing."""
        run = (await self._live(state, tell, solved=state["round"] + 1)).run
        async with run.guarded():
            return {**await answered(run), "live": None}

    async def _open(
        self, run_id: str, question: str, tell: Tell, given: Sequence[str] = ()
    ) -> Planning:
        planning = Planning(await open_run(self.parts, run_id, question, tell), given)
        when_left(planning.leave)
        return planning

    async def _live(self, state: State, tell: Tell, *, solved: int) -> Planning:
        """Give the open run; after a restart from a checkpoint, take it up from the journal.

        ``solved`` is how many rounds of steps had ended where the checkpoint was made.
        """
        live = state.get("live")
        if live is not None:
            live.run.tell = tell
            return live
        planning = await self._open(state["run_id"], state["question"], tell)
        async with planning.run.guarded():
            for round_ in range(state["round"] + 1):
                if round_ > 0:
                    await revise_plan(planning.run, round_)
                if round_ < solved:
                    await _solve_round(planning, round_)
        return planning


async def _solve_round(planning: Planning, round_: int) -> None:
    run = planning.run
    await solve_steps(run, steps_of_round(run, round_) if round_ else planning.steps())


def _given_plan(decision: object, state: State) -> list[str]:
    if decision is True:
        return []
    if isinstance(decision, list) and decision and all(isinstance(text, str) for text in decision):
        return decision
    raise HoptrailError(
        "a plan is approved with True, or replaced by a list of questions; "
        f"run {state['run_id']} got {decision!r}"
    )
