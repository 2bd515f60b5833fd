"""Assembly: the one place that knows every part, and builds them from the settings.

Construction only: nothing here reads a document, opens a file or asks a backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hoptrail.journal import Journal
from hoptrail.settings import Settings, load_settings

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel
    from langchain_core.retrievers import BaseRetriever

    from hoptrail.backend import Backend
    from hoptrail.budget import Budget
    from hoptrail.embeddings import EmbedderChain
    from hoptrail.router import RoutedChatModel

Documents = str | Path | Sequence[str | Path] | None


@dataclass(eq=False)
class Assembly:
    """The parts of one trail, each built when it is first asked for."""

    docs: Documents = None
    index: str | Path | None = None
    model: BaseChatModel | None = None
    embeddings: Embeddings | None = None
    retriever: BaseRetriever | None = None
    budget: Budget | None = None
    approve: bool = False
    given_settings: Settings | None = None

    @cached_property
    def settings(self) -> Settings:
        """The settings passed in, or those of the environment."""
        return self.given_settings or load_settings()

    @cached_property
    def journal(self) -> Journal:
        """The runs under the home folder."""
        return Journal(self.settings.home)

    @cached_property
    def router(self) -> RoutedChatModel:
        """Hoptrail's own chat model over the backends, in the order of the settings."""
        from hoptrail.router import RoutedChatModel

        return RoutedChatModel(backends=self.backends)

    @cached_property
    def backends(self) -> list[Backend]:
        """The backends named in the settings, in their order."""
        return [self._backend(name) for name in self.settings.backends]

    @cached_property
    def embedders(self) -> EmbedderChain:
        """The embedders named in the settings, or only the one passed in."""
        from hoptrail.embeddings import EmbedderChain, ExternalEmbedder

        if self.embeddings is not None:
            return EmbedderChain([ExternalEmbedder(self.embeddings)])
        return EmbedderChain([self._embedder(name) for name in self.settings.embedders])
