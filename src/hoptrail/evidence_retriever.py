"""A trail as a LangChain retriever: the passages of one search, or of all steps of a question."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import Field

from hoptrail.answer import Answer
from hoptrail.background import background
from hoptrail.errors import RetrievalError
from hoptrail.evidence import Evidence, Retrieval
from hoptrail.parts import Search
from hoptrail.trace import StepTrace, Trace, TracedEvidence

Find = Callable[[str], Coroutine[Any, Any, list[Document]]]  # Any: send and yield types, unused


class EvidenceRetriever(BaseRetriever):
    """Gives the documents that ``find`` finds for a question; `searching` and `asking` make one.

    The metadata of each: ``id``, ``source``, ``start_index`` (where it stands in that),
    ``title``, ``score``, ``rank``, the ``mode`` of the search and the embedding ``space`` it
    used; of a question also ``step`` and ``cited``.
    """

    find: Find = Field(exclude=True, repr=False)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        return await self.find(query)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return background().run(self.find(query))


def searching(search: Search, k: int) -> EvidenceRetriever:
    """Give a retriever that searches once, for the best ``k`` passages."""

    async def find(question: str) -> list[Document]:
        found: Retrieval = await search(question, k)
        return [_document(each, mode=found.mode, space=found.space) for each in found.evidence]

    return EvidenceRetriever(find=find)


def asking(ask: Callable[[str], Awaitable[Answer]], k: int) -> EvidenceRetriever:
    """Give a retriever that answers the question and gives the evidence of all its steps.

    What was cited comes first and is always given; the best of the rest fill up to ``k``.
    """

    async def find(question: str) -> list[Document]:
        return evidence_of((await ask(question)).trace, k)

    return EvidenceRetriever(find=find)


def evidence_of(trace: Trace, k: int) -> list[Document]:
    """Give the evidence of a run, each passage once: cited by the answer, by a step, retrieved."""
    order = [cited.passage_id for cited in trace.citations]
    found = sorted(_evidence(trace), key=lambda each: _place(each[1], order))
    once: dict[str, tuple[StepTrace, TracedEvidence]] = {}
    for step, item in found:
        once.setdefault(item.passage.id, (step, item))
    cited = sum(_cited(item, order) for _, item in once.values())
    return [
        _document(
            item,
            mode=step.retrieval_mode,
            space=step.embedding_space,
            step=step.id,
            cited=_cited(item, order),
        )
        for step, item in list(once.values())[: max(k, cited)]
    ]


def needs_documents(search: Search | None) -> Search:
    """Give the search, which there must be.

    Raises:
        RetrievalError: the trail has no documents; says how to give it some.
    """
    if search is None:
        raise RetrievalError(
            "there are no documents to search: give the trail docs=, index= or retriever=, "
            "or set HOPTRAIL_DOCS"
        )
    return search


def _evidence(trace: Trace) -> Iterable[tuple[StepTrace, TracedEvidence]]:
    return ((step, item) for step in trace.steps for item in step.evidence)


def _place(item: TracedEvidence, order: Sequence[str]) -> tuple[int, bool, int]:
    by_answer = order.index(item.passage.id) if item.passage.id in order else len(order)
    return by_answer, not item.cited, item.rank


def _cited(item: TracedEvidence, order: Sequence[str]) -> bool:
    return item.cited or item.passage.id in order


def _document(evidence: Evidence, **metadata: object) -> Document:
    passage = evidence.passage
    return Document(
        id=passage.id,
        page_content=passage.text,
        metadata={
            "id": passage.id,
            "source": passage.source,
            "start_index": passage.start,
            "title": passage.title,
            "score": evidence.score,
            "rank": evidence.rank,
            **metadata,
        },
    )
