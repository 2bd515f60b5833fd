"""What the nodes of every graph have in common: how they are called, and what they are told."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TypeVar

from langchain_core.runnables import RunnableLambda
from langgraph.config import get_stream_writer

from hoptrail.background import background
from hoptrail.events import Event

RUN_ID = "hoptrail_run_id"
"""The key of ``config["configurable"]`` that names a run; one begun before is resumed."""
LEAVING = "__hoptrail_leaving"
"""The key of ``config["configurable"]`` for an `AsyncExitStack` of the caller's.

A node ends its run when it fails or is cancelled; a graph that is left between two nodes leaves
that to the stack.
"""

Tell = Callable[[Event], None]
S = TypeVar("S")
Node = Callable[[S, Tell], Coroutine[None, None, dict[str, object]]]


def sync_and_async(node: Node[S]) -> RunnableLambda[S, dict[str, object]]:
    """Make a node that ``invoke`` can run too: there it runs on the background loop."""

    def in_sync(state: S) -> dict[str, object]:
        return background().run(node(state, get_stream_writer()))

    async def in_async(state: S) -> dict[str, object]:
        return await node(state, get_stream_writer())

    return RunnableLambda(in_sync, in_async, name=node.__name__)
