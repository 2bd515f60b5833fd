"""What the nodes of every graph have in common: how they are called, what they take and give."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TypeVar

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config, set_config_context
from langgraph.config import get_config, get_stream_writer
from typing_extensions import TypedDict

from hoptrail.background import background
from hoptrail.events import Event
from hoptrail.run import RUN_ID, Run, new_run_id
from hoptrail.synthesis import final_answer

LEAVING = "__hoptrail_leaving"
"""The key of ``config["configurable"]`` for an `AsyncExitStack` of the caller's.

A node ends its run when it fails or is cancelled; a graph that is left between two nodes leaves
that to the stack.
"""

Tell = Callable[[Event], None]
S = TypeVar("S")
Node = Callable[[S, Tell], Coroutine[None, None, dict[str, object]]]


class Question(TypedDict):
    """What goes in."""

    question: str


class Answered(TypedDict):
    """What comes out; the whole record is the trace of ``run_id``."""

    run_id: str
    answer: str
    short_answer: str
    abstained: bool
    degraded: bool
    stop_reason: str
    citations: list[dict[str, object]]


class AnyNode(Runnable[S, dict[str, object]]):
    """A node that ``invoke`` can run too: there it runs on the background loop.

    LangGraph has told its callbacks of the node already. LangChain's own wrapper would tell them
    once more, and look at the signature of its function each time: half of what a node costs.
    """

    def __init__(self, node: Node[S]) -> None:
        self.name = node.__name__
        self._node = node

    def invoke(
        self, input: S, config: RunnableConfig | None = None, **kwargs: object
    ) -> dict[str, object]:
        """Run the node, and wait for it."""
        return background().run(self._node(input, get_stream_writer()))

    async def ainvoke(
        self, input: S, config: RunnableConfig | None = None, **kwargs: object
    ) -> dict[str, object]:
        """Run the node."""
        when_left(partial(_cancel, asyncio.current_task()))
        return await self._node(input, get_stream_writer())


class Route(Runnable[S, str]):
    """The choice of the next node. LangGraph would send a plain function to a thread for it."""

    def __init__(self, choose: Callable[[S], str]) -> None:
        self.name = choose.__name__
        self._choose = choose

    def invoke(self, input: S, config: RunnableConfig | None = None, **kwargs: object) -> str:
        """Choose."""
        with set_config_context(ensure_config(config)) as context:
            return context.run(self._choose, input)

    async def ainvoke(
        self, input: S, config: RunnableConfig | None = None, **kwargs: object
    ) -> str:
        """Choose, on the spot."""
        return self.invoke(input, config)


def named_run() -> str:
    """Give the run id that the configuration names, or a new one."""
    return str(get_config()["configurable"].get(RUN_ID) or new_run_id())


def when_left(leave: Callable[[], Awaitable[None]]) -> None:
    """Have ``leave`` awaited when the graph is left, if its caller gave a stack for that."""
    leaving = get_config()["configurable"].get(LEAVING)
    if leaving is not None:
        leaving.push_async_callback(leave)


async def _cancel(node: asyncio.Task[object] | None) -> None:
    """Cancel a node that goes on after its graph was left, as anyio's cancel scopes leave it.

    They cancel anew at every await, so that LangGraph cannot wait for its nodes to end.
    """
    if node is not None and node is not asyncio.current_task():
        node.cancel()


def steps_so_far(run: Run) -> list[dict[str, object]]:
    """Give the steps of a run as plain JSON, for a checkpoint and for who looks at the state."""
    return [
        {
            "id": step.id,
            "question": step.question,
            "depends_on": step.depends_on,
            "status": step.status,
            "answer": step.answer,
        }
        for step in run.trace.steps
    ]


async def answered(run: Run, *, complete: bool = True) -> Answered:
    """Write the answer of a run whose steps have ended, and end the run with it.

    ``complete`` is false when nobody said that the steps suffice.
    """
    final, stop_reason = await final_answer(run, complete=complete)
    trace = run.trace
    trace.answer, trace.short_answer = final.text, final.short
    trace.abstained, trace.citations = final.abstained, list(final.citations)
    await run.finish("abstained" if final.abstained else "answered", stop_reason)
    return output_of(run)


def output_of(run: Run) -> Answered:
    """Give what a graph gives for a run that has its answer."""
    trace = run.trace
    return {
        "run_id": trace.run_id,
        "answer": trace.answer,
        "short_answer": trace.short_answer,
        "abstained": trace.abstained,
        "degraded": trace.degraded,
        "stop_reason": trace.stop_reason,
        "citations": [citation.model_dump() for citation in trace.citations],
    }
