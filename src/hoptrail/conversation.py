"""Conversation: a message is answered from what was said, what is remembered, what is documented.

    START -> recall -> reply -> remember -> END
      |                                      ^
      +---> fulfil --------------------------+   "remember that …", "forget …"

One turn is one run: it has an id, a budget, a journal and a trace of one step. ``recall`` gathers
facts and passages, ``reply`` has the answer written, ``remember`` keeps what the message said of
who wrote it: never what the model said. What a message asks of memory itself is done by
``fulfil``, and told exactly: a model would claim to have forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from langchain_core.messages import AnyMessage, BaseMessage, HumanMessage
from langgraph.channels.untracked_value import UntrackedValue
from langgraph.config import get_config, get_store
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.store.base import BaseStore
from typing_extensions import TypedDict

from hoptrail.admission import open_run
from hoptrail.characters import whole
from hoptrail.errors import HoptrailError
from hoptrail.events import StepStarted
from hoptrail.intent import intent_of
from hoptrail.memory import Memory
from hoptrail.nodes import Answered, AnyNode, Route, Tell, named_run, output_of, when_left
from hoptrail.parts import Parts
from hoptrail.run import Run
from hoptrail.trace import StepTrace
from hoptrail.turn import Turn

USER_ID = "user_id"
"""The key of ``config["configurable"]`` that says whose memory it is; None is nobody's."""
_AUTHENTICATED = "langgraph_auth_user_id"
"""Where LangGraph's server puts who signed in; a client cannot claim to be somebody else."""

MemoryOf = Callable[[str, BaseStore | None], Memory]
"""Gives what is remembered of a user, in the store of the graph's runtime where it has one."""


class Messages(TypedDict):
    """What goes in: the conversation so far is kept by a checkpointer, or sent along."""

    messages: Annotated[list[AnyMessage], add_messages]


class Spoken(Answered, Messages):
    """What comes out; the answer is the last message, too."""


class State(Spoken):
    """Messages, plain JSON, and one live object that is never checkpointed."""

    live: Annotated[Turn | None, UntrackedValue]


def build_conversation(
    parts: Parts, memory_of: MemoryOf
) -> StateGraph[State, None, Messages, Spoken]:
    """Give the conversation graph, not yet compiled: whoever runs it chooses the checkpointer."""
    talk = Conversation(parts, memory_of)
    graph = StateGraph(State, input_schema=Messages, output_schema=Spoken)
    for node in (talk.recall, talk.reply, talk.remember, talk.fulfil):
        graph.add_node(node.__name__, AnyNode(node))
    graph.add_conditional_edges(START, Route(talk.who_is_asked), ["recall", "fulfil"])
    graph.add_edge("recall", "reply")
    graph.add_edge("reply", "remember")
    graph.add_edge("remember", END)
    graph.add_edge("fulfil", END)
    return graph


class Conversation:
    """The nodes of the graph, over the parts it is made of."""

    def __init__(self, parts: Parts, memory_of: MemoryOf) -> None:
        self._parts = parts
        self._memory_of = memory_of

    def who_is_asked(self, state: State) -> str:
        """Let memory itself do what a message asks of it; anything else is answered."""
        asked = intent_of(_question(state["messages"]))
        return "fulfil" if asked is not None and _user() else "recall"

    async def recall(self, state: State, tell: Tell) -> dict[str, object]:
        """Open the turn; gather the facts and passages that its message needs."""
        turn = await self._open(named_run(), state, tell)
        async with turn.run.guarded():
            await turn.gather()
        return {"run_id": turn.run.trace.run_id, "live": turn}

    async def reply(self, state: State, tell: Tell) -> dict[str, object]:
        """Have the answer written."""
        turn = await self._live(state, tell)
        async with turn.run.guarded():
            await turn.answer()
        return {"messages": [turn.message()], "live": turn}

    async def remember(self, state: State, tell: Tell) -> dict[str, object]:
        """Keep what the message said of who wrote it, and end the turn."""
        turn = await self._live(state, tell)
        async with turn.run.guarded():
            if turn.record.status == "running":
                await turn.answer()
            await turn.keep_what_was_said()
            await turn.finish()
        return {**output_of(turn.run), "live": None}

    async def fulfil(self, state: State, tell: Tell) -> dict[str, object]:
        """Do what the message asks of memory, and say what was done."""
        turn = await self._open(named_run(), state, tell)
        async with turn.run.guarded():
            await turn.fulfil()
            await turn.finish()
        return {"messages": [turn.message()], **output_of(turn.run), "live": None}

    async def _open(self, run_id: str, state: State, tell: Tell) -> Turn:
        messages = state["messages"]
        question, thread = _question(messages), get_config()["configurable"].get("thread_id")
        run = await open_run(
            self._parts, run_id, question, tell, graph="chat", thread_id=str(thread or "")
        )
        when_left(run.leave)
        user = _user()
        memory = self._memory_of(user, get_store()) if user else None
        return Turn(run, memory, _before(messages), _begun(run))

    async def _live(self, state: State, tell: Tell) -> Turn:
        """Give the open turn; after a restart from a checkpoint, take it up from the journal."""
        turn = state.get("live")
        if turn is None:
            turn = await self._open(state["run_id"], state, tell)
            async with turn.run.guarded():
                await turn.gather()
        turn.run.tell = tell
        return turn


def _begun(run: Run) -> StepTrace:
    """Enter the turn's one step into the trace; nothing is planned."""
    question = run.trace.question
    record = StepTrace(id=1, question=question, asked=question, status="running")
    record.ready_ms = record.started_ms = run.now()
    run.trace.plan.source = "gate"
    run.trace.steps.append(record)
    run.tell(StepStarted(record.id, question))
    return record


def _user() -> str:
    """Give whose memory it is; an empty name is nobody's."""
    given = get_config()["configurable"]
    return str(given.get(_AUTHENTICATED) or given.get(USER_ID, "default") or "")


def _place(messages: Sequence[BaseMessage]) -> int:
    for at in range(len(messages) - 1, -1, -1):
        if isinstance(messages[at], HumanMessage) and str(messages[at].text).strip():
            return at
    raise HoptrailError("there is no message of the user's to answer")


def _question(messages: Sequence[BaseMessage]) -> str:
    return whole(str(messages[_place(messages)].text))


def _before(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    return list(messages[: _place(messages)])
