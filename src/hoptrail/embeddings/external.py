"""Any LangChain ``Embeddings`` the user passes in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hoptrail.embeddings.batches import BatchedEmbedder
from hoptrail.errors import BackendError, BackendUnavailable
from hoptrail.space import TextKind

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings


@dataclass(eq=False)
class ExternalEmbedder(BatchedEmbedder):
    """Asks ``embeddings`` by its async methods and checks the answers like any backend's."""

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
                return [await self.embeddings.aembed_query(text) for text in texts]
            return await self.embeddings.aembed_documents(texts)
        except BackendError:
            raise
        except Exception as error:  # a user's class may raise whatever it likes
            message = f"{type(error).__name__}: {error}"
            raise BackendUnavailable(message, backend=self.backend, model=self.model) from error
