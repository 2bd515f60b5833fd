"""Any LangChain retriever in place of the index."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from hoptrail.errors import HoptrailError, RetrievalError
from hoptrail.evidence import Evidence, Passage, Retrieval
from hoptrail.space import Embedders
from hoptrail.threads import in_own_thread

SCORE_KEYS = ("relevance_score", "score", "similarity")
"""Where retrievers and rerankers leave a score in a document's metadata, most telling first."""


class ExternalIndex:
    """A LangChain retriever behind the `search` that an `Index` has."""

    def __init__(self, retriever: BaseRetriever) -> None:
        self._retriever = retriever

    async def search(
        self, question: str, *, k: int = 5, embedders: Embedders | None = None
    ) -> Retrieval:
        """Give what the retriever found, in its order, at most ``k`` passages.

        A document without an id gets the digest of its text as one; one without a score is
        scored by its place.

        Raises:
            RetrievalError: the retriever failed.
        """
        try:
            documents = await self._found(question)
        except HoptrailError:
            raise
        except Exception as error:  # a user's class may raise whatever it likes
            name = type(self._retriever).__name__
            raise RetrievalError(f"{name} failed: {type(error).__name__}: {error}") from error
        return Retrieval(evidence=_evidence(documents[:k]), mode="external")

    async def _found(self, question: str) -> list[Document]:
        kind, base = type(self._retriever), BaseRetriever
        if (kind.ainvoke, kind._aget_relevant_documents) == (
            base.ainvoke,
            base._aget_relevant_documents,
        ):
            return await in_own_thread(partial(self._retriever.invoke, question))
        return await self._retriever.ainvoke(question)


def _evidence(documents: Sequence[Document]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(passage=_passage(document), rank=rank, score=_score(document, rank))
        for rank, document in enumerate(documents, 1)
    )


def _passage(document: Document) -> Passage:
    text = document.page_content
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
    start = document.metadata.get("start_index")
    start = start if isinstance(start, int) else 0
    return Passage(
        id=str(document.id or document.metadata.get("id") or digest),
        text=text,
        title=str(document.metadata.get("title") or ""),
        source=str(document.metadata.get("source") or ""),
        start=start,
        end=start + len(text),
    )


def _score(document: Document, rank: int) -> float:
    for key in SCORE_KEYS:
        if isinstance(score := document.metadata.get(key), int | float):
            return float(score)
    return 1 / rank
