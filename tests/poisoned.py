"""A trail whose passages, tools and memory say what a test wants, and what one run of it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import StructuredTool
from langgraph.store.memory import InMemoryStore

from hoptrail import Answer, Budget, Hoptrail, load_settings
from hoptrail.errors import HoptrailError
from hoptrail.request import StepRequest
from hoptrail.testing import Asked, ScriptedChatModel, tool_call
from hoptrail.trace import Trace
from tests.poison import PLAN, QUESTION, Poison, obedient
from tests.watched import Touched, named_alike, watched

Position = Literal["first", "middle", "earlier answer", "tool", "fact"]
Graph = Literal["multi-hop", "iterative", "chat"]
MOST_STEPS = 4
MOST_CALLS = 24
TOOLS = ("count", "weigh")
_CLEAN = [f"Finlandia is a tone poem by Jean Sibelius, says page {at}." for at in range(5)]


class Pages(BaseRetriever):
    """Finds the same five passages for any question; one of them may be poisoned."""

    poison: Poison | None = None
    position: Position = "first"

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        texts = list(_CLEAN)
        only_once = self.position == "earlier answer" and query != PLAN[0]
        if self.poison is not None and self.position not in ("tool", "fact") and not only_once:
            texts[2 if self.position == "middle" else 0] = self.poison.text
        return [
            Document(text, metadata={"source": f"page-{at}", "title": f"Page {at}"}, id=str(at))
            for at, text in enumerate(texts)
        ]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its record, its answer unless it failed, and what was touched meanwhile."""

    trace: Trace
    answer: Answer | None
    touched: Touched


@dataclass
class Poisoned:
    """A trail, and what its tools were called with."""

    trail: Hoptrail
    pages: Pages
    called: Counter[str] = field(default_factory=Counter)
    runs: int = 0

    async def run(
        self, poison: Poison | None, position: Position = "first", graph: Graph = "multi-hop"
    ) -> Outcome:
        """Answer the question."""
        self.pages.poison, self.pages.position = poison, position
        self.called.clear()
        self.runs += 1
        run_id = f"run-{self.runs:05}"
        memory = self.trail.assembly.memory()
        await memory.forget_all()
        if poison is not None and position == "fact":
            await memory.remember(f"Finlandia: {poison.text}")
        answer = None
        with watched() as touched, suppress(HoptrailError):
            if graph == "chat":
                answer = await self.trail.achat(QUESTION, run_id=run_id)
            else:
                answer = await self.trail.aask(QUESTION, run_id=run_id, graph=graph)
        trace = answer.trace if answer else self.trail.assembly.journal.trace(run_id)
        return Outcome(trace, answer, named_alike(touched, run_id))


@contextmanager
def poisoned(home: Path, **flags: object) -> Iterator[Poisoned]:
    """Give a trail with two tools, a memory, and an obedient model, or those of some settings."""
    pages, called = Pages(), Counter[str]()

    def count(what: str) -> str:
        """Count something."""
        called["count"] += 1
        told = pages.poison if pages.position == "tool" else None
        return told.text if told else f"{len(what)} letters"

    def weigh(what: str) -> str:
        """Weigh something."""
        called["weigh"] += 1
        return f"{what} weighs nothing"

    def respond(asked: Asked) -> str | AIMessage:
        """Obey; where a tool is to give the order, call it first."""
        request = asked.request
        if (
            pages.position == "tool"
            and isinstance(request, StepRequest)
            and request.tools
            and all(item.passage.source != "tool:count" for item in request.evidence)
        ):
            return tool_call("count", what="Finlandia")
        return obedient(asked)

    trail = Hoptrail(
        retriever=pages,
        model=None if flags else ScriptedChatModel(respond=respond),
        tools=[StructuredTool.from_function(each) for each in (count, weigh)],
        store=InMemoryStore(),
        budget=Budget(max_steps=MOST_STEPS, max_llm_calls=MOST_CALLS, deadline=60),
        settings=load_settings(**{"embedders": "hash", "home": home, **flags}),
    )
    with watched():  # the hook is in place before anything is compared
        yield Poisoned(trail, pages, called)
    trail.close()
