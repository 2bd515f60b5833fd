"""Any LangChain ``Embeddings`` the user passes in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from langchain_core.embeddings import Embeddings

from hoptrail.embeddings.batches import BatchedEmbedder
from hoptrail.errors import BackendError, BackendUnavailable
from hoptrail.space import TextKind
from hoptrail.threads import in_own_thread


@dataclass(eq=False)
class ExternalEmbedder(BatchedEmbedder):
    """Asks ``embeddings`` and checks the answers like any backend's.

    One that has only blocking methods is asked in threads of its own.
    """

    backend = "external"

    embeddings: Embeddings

    def __post_init__(self) -> None:
        named = getattr(self.embeddings, "model", None) or getattr(
            self.embeddings, "model_name", None
        )
        kind = type(self.embeddings)
        self.model = named if isinstance(named, str) else f"{kind.__module__}.{kind.__qualname__}"

    async def _answer(self, texts: list[str], kind: TextKind) -> object:
        try:
            if kind == "query":
                return [await self._query(text) for text in texts]
            return await self._passages(texts)
        except BackendError:
            raise
        except Exception as error:  # a user's class may raise whatever it likes
            message = f"{type(error).__name__}: {error}"
            raise BackendUnavailable(message, backend=self.backend, model=self.model) from error

    async def _query(self, text: str) -> list[float]:
        if type(self.embeddings).aembed_query is Embeddings.aembed_query:
            return await in_own_thread(partial(self.embeddings.embed_query, text))
        return await self.embeddings.aembed_query(text)

    async def _passages(self, texts: list[str]) -> list[list[float]]:
        if type(self.embeddings).aembed_documents is Embeddings.aembed_documents:
            return await in_own_thread(partial(self.embeddings.embed_documents, texts))
        return await self.embeddings.aembed_documents(texts)
