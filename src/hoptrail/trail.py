"""`Hoptrail`: ask a question, get an answer and the trail that led to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from hoptrail.answer import Answer, answer_of
from hoptrail.answer_tool import AnswerTool
from hoptrail.assembly import Assembly
from hoptrail.background import background
from hoptrail.budget import Budget
from hoptrail.change import Change
from hoptrail.characters import whole
from hoptrail.checkpoints import alone_on, kept_thread, strict_serializer
from hoptrail.conversation import USER_ID, Messages, build_conversation
from hoptrail.errors import HoptrailError
from hoptrail.events import Event, PlanProposed, RunFinished
from hoptrail.evidence import Passage
from hoptrail.evidence_retriever import EvidenceRetriever, asking, needs_documents, searching
from hoptrail.fork import fork_run
from hoptrail.graph import build_graph
from hoptrail.iterative import build_iterative
from hoptrail.nodes import LEAVING, Question
from hoptrail.run import RUN_ID
from hoptrail.run import new_run_id as make_run_id
from hoptrail.settings import Settings

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AnyMessage, BaseMessage
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import RunnableConfig
    from langchain_core.tools import BaseTool
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.store.base import BaseStore

    from hoptrail.retrieval.ingest import IngestReport

Progress = Callable[[int, int, str], None]
QuestionGraph = Literal["multi-hop", "iterative"]


class Hoptrail:
    """Answers multi-hop questions over your documents, with whichever backend is up.

    Everything comes from the settings (the environment, ``.env``, ``hoptrail.toml``) unless it
    is passed in. Nothing is read, opened or asked before the first question.

    Args:
        docs: A file or folder of documents, or several; without any, and without ``index`` and
            ``retriever``, the model answers from its own knowledge.
        index: The folder the index of ``docs`` is kept in, or one built before.
        model: Any LangChain chat model in place of Hoptrail's router.
        embeddings: Any LangChain embeddings in place of Hoptrail's.
        retriever: Any LangChain retriever in place of Hoptrail's index.
        tools: LangChain tools that steps may call; what they return is evidence.
        checkpointer: A LangGraph checkpointer; runs can be resumed without one, and threads of
            conversation are kept in a file under the home folder.
        store: A LangGraph store for memory. With one, what is remembered enters the context of
            steps; conversations remember in a file under the home folder without one.
        budget: What one run may spend.
        approve: Pause each run after its plan: `astream` ends with `PlanProposed`, and `decide`
            goes on.
        settings: Settings loaded by hand.
    """

    def __init__(  # noqa: PLR0913 # every part can be passed in, all but the first by name
        self,
        docs: str | Path | Sequence[str | Path] | None = None,
        *,
        index: str | Path | None = None,
        model: BaseChatModel | None = None,
        embeddings: Embeddings | None = None,
        retriever: BaseRetriever | None = None,
        tools: Sequence[BaseTool] | None = None,
        checkpointer: BaseCheckpointSaver[str] | None = None,
        store: BaseStore | None = None,
        budget: Budget | None = None,
        approve: bool = False,
        settings: Settings | None = None,
    ) -> None:
        self.assembly = Assembly(
            docs=docs,
            index=index,
            model=model,
            embeddings=embeddings,
            retriever=retriever,
            budget=budget,
            tools=tools,
            store=store,
            approve=approve,
            given_settings=settings,
        )
        self._approve = approve
        self._checkpointer = checkpointer

    @cached_property
    def graph(self) -> CompiledStateGraph[Any, None, Any, Any]:
        """The multi-hop graph, compiled: a Runnable, a subgraph."""
        saver = self._checkpointer
        if saver is None and self._approve:
            # Only the pause needs one; the plan itself is in the journal, for any process.
            saver = InMemorySaver(serde=strict_serializer())
        return build_graph(self.assembly.parts).compile(checkpointer=saver, name="hoptrail")

    @cached_property
    def iterative_graph(self) -> CompiledStateGraph[Any, None, Any, Any]:
        """The graph that chooses one step at a time, compiled."""
        graph = build_iterative(self.assembly.parts)
        return graph.compile(checkpointer=self._checkpointer, name="hoptrail-iterative")

    def ask(
        self, question: str, *, run_id: str | None = None, graph: QuestionGraph = "multi-hop"
    ) -> Answer:
        """Answer a question; see `aask`."""
        return background().run(self.aask(question, run_id=run_id, graph=graph))

    async def aask(
        self, question: str, *, run_id: str | None = None, graph: QuestionGraph = "multi-hop"
    ) -> Answer:
        """Answer a question. With the ``run_id`` of an earlier run, finish that one.

        ``graph`` is ``multi-hop``, which plans all steps first, or ``iterative``, which chooses
        each step from what the ones before found.

        Raises:
            AllBackendsFailed: no backend answered; the run can be resumed by its id.
            RunBusy: another process is working on the run.
        """
        last: Event | None = None
        async with aclosing(self.astream(question, run_id=run_id, graph=graph)) as events:
            async for event in events:
                last = event
        if isinstance(last, RunFinished):
            return answer_of(last.trace)
        raise HoptrailError(
            "the run waits for its plan to be approved: go on with astream() and decide()"
        )

    async def astream(
        self, question: str, *, run_id: str | None = None, graph: QuestionGraph = "multi-hop"
    ) -> AsyncGenerator[Event, None]:
        """Answer a question, telling what happens while it happens; raises as `aask`."""
        if not question.strip():
            raise HoptrailError("the question is empty")
        if graph not in get_args(QuestionGraph):
            known = " or ".join(get_args(QuestionGraph))
            raise HoptrailError(f"no graph {graph!r} answers questions: choose {known}")
        run_id = run_id or make_run_id()
        compiled = self.iterative_graph if graph == "iterative" else self.graph
        async with aclosing(self._go({"question": question}, run_id, compiled)) as events:
            async for event in events:
                yield event

    async def decide(
        self, run_id: str, decision: bool | Sequence[str]
    ) -> AsyncGenerator[Event, None]:
        """Go on with a run that waits for approval: ``True``, or questions in place of its plan."""
        resume = decision if isinstance(decision, bool) else list(decision)
        async with aclosing(self._go(Command(resume=resume), run_id, self.graph)) as events:
            async for event in events:
                yield event

    def stream(
        self, question: str, *, run_id: str | None = None, graph: QuestionGraph = "multi-hop"
    ) -> Generator[Event, None, None]:
        """Answer a question, telling what happens; see `astream`."""
        return background().iterate(self.astream(question, run_id=run_id, graph=graph))

    def rerun(self, run_id: str, change: Change, *, new_run_id: str | None = None) -> Answer:
        """Answer a run's question with something changed; see `arerun`."""
        return background().run(self.arerun(run_id, change, new_run_id=new_run_id))

    async def arerun(self, run_id: str, change: Change, *, new_run_id: str | None = None) -> Answer:
        """Answer a run's question with something changed, in a run of its own.

        What does not depend on the change is kept, and costs nothing. ``new_run_id`` names the
        new run; it can be resumed like any other.

        Raises:
            RunNotFound: there is no such run.
            RunBusy: it is still under way.
            ChangeImpossible: the change makes no sense for it.
        """
        last: Event | None = None
        told = self.astream_rerun(run_id, change, new_run_id=new_run_id)
        async with aclosing(told) as events:
            async for event in events:
                last = event
        assert isinstance(last, RunFinished)  # a fork that ends otherwise raises
        return answer_of(last.trace)

    async def astream_rerun(
        self, run_id: str, change: Change, *, new_run_id: str | None = None
    ) -> AsyncGenerator[Event, None]:
        """Answer a run's question with something changed, telling what happens; as `arerun`."""
        if change.model is not None:
            self.assembly.check_model(change.model)
        named = new_run_id or make_run_id()
        forked = await fork_run(self.assembly.parts, run_id, change, named, self._look_up)
        compiled = self.iterative_graph if forked.graph == "iterative" else self._forks_graph
        async with aclosing(self._go({"question": forked.question}, named, compiled)) as events:
            async for event in events:
                yield event

    @cached_property
    def _forks_graph(self) -> CompiledStateGraph[Any, None, Any, Any]:
        """The multi-hop graph as forks go through it: nobody has to approve a plan again."""
        graph = build_graph(replace(self.assembly.parts, approve=False))
        return graph.compile(checkpointer=self._checkpointer, name="hoptrail")

    async def _look_up(self, ids: Sequence[str]) -> dict[str, Passage]:
        corpus = self.assembly.corpus
        return {} if corpus is None else await corpus.passages(ids)

    @cached_property
    def chat_graph(self) -> CompiledStateGraph[Any, None, Any, Any]:
        """The conversation graph, compiled; ``user_id`` in its configuration is whose memory."""
        graph = build_conversation(self.assembly.parts, self.assembly.memory)
        return graph.compile(
            checkpointer=self._checkpointer, store=self.assembly.store, name="hoptrail-chat"
        )

    def chat(
        self,
        message: str,
        *,
        thread_id: str | None = None,
        history: Sequence[BaseMessage] = (),
        user: str | None = "default",
        run_id: str | None = None,
    ) -> Answer:
        """Say something, and get an answer; see `achat`."""
        return background().run(
            self.achat(message, thread_id=thread_id, history=history, user=user, run_id=run_id)
        )

    async def achat(
        self,
        message: str,
        *,
        thread_id: str | None = None,
        history: Sequence[BaseMessage] = (),
        user: str | None = "default",
        run_id: str | None = None,
    ) -> Answer:
        """Say something, and get an answer from what was said, remembered and documented.

        With a ``thread_id`` the conversation is kept, and gone on with; without one, ``history``
        is what was said so far. ``user`` is whose memory it is, in all threads; with None nothing
        is remembered or recalled.

        Raises:
            AllBackendsFailed: no backend answered.
            RunBusy: the thread is being answered, here or in another process.
        """
        told = self.astream_chat(
            message, thread_id=thread_id, history=history, user=user, run_id=run_id
        )
        last: Event | None = None
        async with aclosing(told) as events:
            async for event in events:
                last = event
        assert isinstance(last, RunFinished)  # a turn that ends otherwise raises
        return answer_of(last.trace)

    async def astream_chat(
        self,
        message: str,
        *,
        thread_id: str | None = None,
        history: Sequence[BaseMessage] = (),
        user: str | None = "default",
        run_id: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Say something, and be told what happens while it happens; as `achat`."""
        if not message.strip():
            raise HoptrailError("the message is empty")
        if thread_id is not None and history:
            raise HoptrailError("a thread keeps its own history: pass one of them")
        run_id = run_id or make_run_id()
        # An id of its own, so that a message which is said again by a resumed run stays one.
        said = HumanMessage(whole(message), id=f"{run_id}-question")
        given: Messages = {"messages": cast("list[AnyMessage]", [*history, said])}
        async with self._talk(thread_id) as graph:
            thread = {} if thread_id is None else {"thread_id": whole(thread_id)}
            events = self._go(given, run_id, graph, **thread, **{USER_ID: user})
            async with aclosing(events):
                async for event in events:
                    yield event

    @asynccontextmanager
    async def _talk(
        self, thread_id: str | None
    ) -> AsyncGenerator[CompiledStateGraph[Any, None, Any, Any], None]:
        """Give the conversation graph with what keeps its thread, to oneself meanwhile."""
        if thread_id is None:
            yield self.chat_graph.copy({"checkpointer": None})
            return
        thread_id, home = whole(thread_id), self.assembly.settings.home
        async with AsyncExitStack() as held:
            await held.enter_async_context(alone_on(thread_id, home))
            saver = self._checkpointer or await held.enter_async_context(
                kept_thread(thread_id, home / "threads.db")
            )
            yield self.chat_graph.copy({"checkpointer": saver})

    def as_tool(
        self,
        name: str = "hoptrail",
        description: str | None = None,
        graph: QuestionGraph = "multi-hop",
    ) -> AnswerTool:
        """Give a tool for agents: it answers questions through ``graph``, with sources."""
        about = f" over {docs}" if (docs := self.assembly.documents) else ""
        return AnswerTool(
            name=name,
            description=description
            or f"Answer a question{about}, also one that takes several look-ups, each resting on "
            "the one before. Gives the answer with its sources, or says that there is none.",
            ask=partial(self.astream, graph=graph),
        )

    def as_retriever(self, k: int = 5, *, multi_hop: bool = False) -> EvidenceRetriever:
        """Give a retriever over the documents: the best ``k`` passages of one search.

        With ``multi_hop`` it asks the question through the graph and gives the evidence of all
        its steps: what was cited first, and never less of it.

        Raises:
            RetrievalError: this trail has no documents.
            HoptrailError: ``k`` is not positive.
        """
        if k < 1:
            raise HoptrailError(f"k={k} gives no passage: ask for one or more")
        search = needs_documents(self.assembly.parts.search)
        return asking(self.aask, k) if multi_hop else searching(search, k)

    async def prepare(self, progress: Progress | None = None) -> IngestReport | None:
        """Bring the index of ``docs`` up to date now, rather than at the first question."""
        corpus = self.assembly.corpus
        return None if corpus is None else await corpus.prepare(progress)

    def close(self) -> None:
        """Close the files; the trail answers no more questions."""
        self.assembly.close()

    async def _go(
        self,
        given: Question | Messages | Command[Any],
        run_id: str,
        graph: CompiledStateGraph[Any, None, Any, Any],
        **configured: str | None,
    ) -> AsyncGenerator[Event, None]:
        if (corpus := self.assembly.corpus) is not None:
            # Documents that are indexed first take their time, not the run's.
            await corpus.open()
        named = {"thread_id": run_id, RUN_ID: run_id, **configured}
        config: RunnableConfig = {"configurable": named}
        # LangGraph types its generator as an iterator; left early, it has to be closed, and the
        # run ended if no node is there to end it.
        async with AsyncExitStack() as leaving:
            live: RunnableConfig = {"configurable": {**config["configurable"], LEAVING: leaving}}
            told = cast(
                "AsyncGenerator[Event, None]", graph.astream(given, live, stream_mode="custom")
            )
            async with aclosing(told):
                async for event in told:
                    yield event
        if self._approve and graph is self.graph:
            state = await graph.aget_state(config)
            for pending in state.interrupts:
                steps = pending.value["plan"]
                yield PlanProposed(run_id, tuple(step["question"] for step in steps))
