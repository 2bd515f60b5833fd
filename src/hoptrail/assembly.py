"""Assembly: the one place that knows every part, and builds them from the settings.

Construction only: nothing here reads a document, opens a file or asks a backend.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hoptrail.budget import Budget
from hoptrail.errors import ChangeImpossible, SettingsError
from hoptrail.journal import Journal
from hoptrail.settings import MODEL_SETTINGS, Settings, load_settings

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.tools import BaseTool
    from langgraph.store.base import BaseStore

    from hoptrail.backend import Backend
    from hoptrail.corpus import Corpus
    from hoptrail.embeddings import EmbedderChain
    from hoptrail.memory import Memory
    from hoptrail.memory_store import ThreadedSqliteStore
    from hoptrail.otlp import SpanWay
    from hoptrail.parts import Parts, Search
    from hoptrail.router import RoutedChatModel
    from hoptrail.space import Embedder
    from hoptrail.span_export import SpanExport

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
    tools: Sequence[BaseTool] | None = None
    store: BaseStore | None = None
    approve: bool = False
    given_settings: Settings | None = None

    @cached_property
    def settings(self) -> Settings:
        """The settings passed in, or those of the environment."""
        return self.given_settings or load_settings()

    @cached_property
    def journal(self) -> Journal:
        """The runs under the home folder."""
        return Journal(self.settings.home, self.settings.secrets)

    @cached_property
    def spans(self) -> SpanExport | None:
        """Where runs go as OpenTelemetry's spans, or None when they are to go nowhere."""
        if self.settings.otel_disabled:
            return None
        from hoptrail.span_export import SpanExport

        return SpanExport(span_way(self.settings))

    @cached_property
    def backends(self) -> list[Backend]:
        """The backends that the settings name, in their order."""
        return [make_backend(name, self.settings) for name in self.settings.backends]

    @cached_property
    def router(self) -> RoutedChatModel:
        """Hoptrail's own chat model over the backends."""
        from hoptrail.router import RoutedChatModel

        return RoutedChatModel(self.backends)

    @cached_property
    def embedders(self) -> EmbedderChain:
        """The embedders that the settings name, or only the one passed in."""
        from hoptrail.embeddings import EmbedderChain, ExternalEmbedder

        if self.embeddings is not None:
            return EmbedderChain([ExternalEmbedder(self.embeddings)])
        settings = self.settings
        return EmbedderChain([make_embedder(name, settings) for name in settings.embedders])

    @cached_property
    def corpus(self) -> Corpus | None:
        """The documents and their index, or None when there are none."""
        docs = self._documents()
        if self.retriever is not None or not (docs or self.index):
            return None
        from hoptrail.corpus import Corpus

        folder = Path(self.index) if self.index else None
        return Corpus(docs, folder, self.settings.home, self.embedders)

    @property
    def documents(self) -> str:
        """What is answered from, as it was named."""
        return _listed(self._places())

    @cached_property
    def parts(self) -> Parts:
        """What the graph is made of."""
        from hoptrail.parts import Parts

        settings, own = self.settings, self.model is None
        model = self.router if self.model is None else self.model
        return Parts(
            model=model,
            journal=self.journal,
            policy=self.router.policy if own else model_name(model),
            search=self._search(),
            similarity=self._similarity,
            budget=self.budget or _budget(settings),
            # The same documents are the same to a fork and to a comparison, wherever each was run.
            documents=_listed(path.absolute() for path in self._places()),
            top_k=settings.top_k,
            context_tokens=settings.context_tokens,
            # A quarter of the window is left to the answer.
            prompt_tokens=max(3 * settings.num_ctx // 4, settings.context_tokens),
            revisions=settings.revisions,
            concurrency=settings.concurrency,
            approve=self.approve,
            tools=_tools(settings) if self.tools is None else _checked(self.tools),
            # Only memory that was asked for enters a run; a conversation always has one.
            recall=None if self.store is None else self.memory().recall,
            routed=own,
            named_model=self.named_model,
            spans=self.spans,
            secrets=settings.secrets,
        )

    def named_model(self, name: str) -> tuple[RoutedChatModel, str]:
        """Give the model ``BACKEND:MODEL`` behind a router of its own, and its policy."""
        from hoptrail.router import RoutedChatModel

        backend, _, model = name.partition(":")
        # One that is there may have its model in memory.
        there = [each for each in self.backends if (each.name, each.model) == (backend, model)]
        settings = self.settings.with_model(backend, model)
        router = RoutedChatModel(there or [make_backend(backend, settings)])
        return router, router.policy

    def check_model(self, name: str) -> None:
        """Check that ``BACKEND:MODEL`` names a backend of the settings.

        Whoever may fork a run must not have this process load a model of their choice.

        Raises:
            ChangeImpossible: it does not; or it is another local model than that of the settings.
        """
        allowed = [each for each in self.settings.backends if each in MODEL_SETTINGS]
        backend, _, model = name.partition(":")
        if backend not in allowed:
            raise ChangeImpossible(
                f"{name!r} is not a model that may be asked: write it as BACKEND:MODEL, with a "
                f"backend of the settings ({', '.join(allowed) or 'which have none'})"
            )
        if backend == "local" and model != self.settings.local_model:
            raise ChangeImpossible(f"{model!r} is not the local model that HOPTRAIL_LOCAL_MODEL is")

    def memory(self, user: str = "default", store: BaseStore | None = None) -> Memory:
        """Give what is remembered of a user: in a store passed in, or under the home folder."""
        from hoptrail.memory import Memory

        given = store if store is not None else self.store
        return Memory(self.own_store if given is None else given, self.embedders, user)

    @cached_property
    def own_store(self) -> ThreadedSqliteStore:
        """The memory under the home folder."""
        from hoptrail.memory_store import sqlite_store

        return sqlite_store(self.settings.home / "memory.db")

    def close(self) -> None:
        """Close the files of what was built."""
        for name in ("journal", "corpus", "own_store", "spans"):
            if (part := self.__dict__.get(name)) is not None:
                part.close()

    def _documents(self) -> list[Path]:
        docs = self.docs
        if docs is None:
            own = self.index is not None or self.retriever is not None
            docs = () if own else self.settings.docs
        return [Path(each) for each in ([docs] if isinstance(docs, str | Path) else docs)]

    def _places(self) -> list[Path]:
        """Give the documents, or else the index that stands for them."""
        return self._documents() or ([Path(self.index)] if self.index else [])

    def _search(self) -> Search | None:
        if self.retriever is not None:
            from hoptrail.retrieval.external import ExternalIndex

            external = ExternalIndex(self.retriever)
            return lambda question, k: external.search(question, k=k)
        return None if self.corpus is None else self.corpus.search

    async def _similarity(self, text: str, others: Sequence[str]) -> Sequence[float]:
        embedder = await self.embedders.first()
        vectors = await embedder.embed([text, *others], "passage")
        return [float(cosine) for cosine in vectors[1:] @ vectors[0]]


def model_name(model: BaseChatModel) -> str:
    """Name a caller's model for the trace: its kind, and the model it asks where it tells."""
    told = model._get_ls_params()
    return f"{told.get('ls_provider', model._llm_type)}:{told.get('ls_model_name', '')}".strip(":")


def span_way(settings: Settings) -> SpanWay:
    """Give where the settings would have spans go, and what of a run they hold."""
    from hoptrail.otlp import SpanWay, traces_address
    from hoptrail.span_attributes import SpanAttributes

    base, headers = settings.otlp_endpoint, settings.otlp_headers
    return SpanWay(
        address=settings.otlp_traces_endpoint or (traces_address(base) if base else ""),
        headers=headers.get_secret_value() if headers else "",
        file=settings.otel_file,
        service=settings.otel_service_name,
        told=SpanAttributes(settings.otel_content, settings.secrets),
    )


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths))


def _budget(settings: Settings) -> Budget:
    return Budget(
        max_steps=settings.max_steps,
        max_llm_calls=settings.max_llm_calls,
        max_tokens=settings.max_tokens,
        deadline=settings.deadline,
    )


def _tools(settings: Settings) -> tuple[BaseTool, ...]:
    if not settings.tools:
        return ()
    from hoptrail import tools

    return tuple(getattr(tools, name) for name in settings.tools)


def _checked(tools: Sequence[BaseTool]) -> tuple[BaseTool, ...]:
    from langchain_core.tools import BaseTool

    for tool in tools:
        if not isinstance(tool, BaseTool):
            raise SettingsError(
                f"tools= takes LangChain tools, and {tool!r} is none: make it one with "
                "`@tool` of langchain_core.tools"
            )
    return tuple(tools)


def make_backend(name: str, settings: Settings) -> Backend:
    """Build the backend of this name."""
    from hoptrail.backend import CallLimits, Sampling

    sampling = Sampling(temperature=settings.temperature)

    def limits(first_token: float) -> CallLimits:
        return CallLimits(
            connect=settings.connect_timeout,
            first_token=settings.first_byte_timeout or first_token,
            idle=settings.idle_timeout,
            total=settings.call_timeout,
        )

    match name:
        case "huggingface":
            from hoptrail.providers.huggingface import HuggingFaceBackend

            url = settings.huggingface_base_url
            token = _token(settings, url)
            return HuggingFaceBackend(
                settings.hf_model, token, url, sampling=sampling, limits=limits(30)
            )
        case "ollama":
            from hoptrail.providers.ollama import OllamaBackend

            model, host = settings.ollama_model or None, settings.ollama_host
            return OllamaBackend(
                model, host, num_ctx=settings.num_ctx, sampling=sampling, limits=limits(180)
            )
        case "local":
            from hoptrail.providers.local import LocalBackend

            return LocalBackend(settings.local_model or None)
        case _:
            from hoptrail.providers.extractive import ExtractiveBackend

            return ExtractiveBackend()


def make_embedder(name: str, settings: Settings) -> Embedder:
    """Build the embedder of this name."""
    from hoptrail import embeddings
    from hoptrail.connections import shared_client

    match name:
        case "huggingface":
            endpoint = settings.huggingface_embedding_url
            url = settings.huggingface_base_url
            return embeddings.HuggingFaceEmbedder(
                settings.embedding_model,
                _token(settings, endpoint or url),
                url,
                endpoint,
                client=shared_client,
            )
        case "ollama":
            model, host = settings.ollama_embedding_model, settings.ollama_host
            return embeddings.OllamaEmbedder(model, host, client=shared_client)
        case "local":
            # Never fetched unasked: it is 90 MB, and offline the attempt takes minutes.
            path = settings.local_embedding_path
            return embeddings.LocalEmbedder(settings.embedding_model, path, local_files_only=True)
        case _:
            return embeddings.HashEmbedder()


def _token(settings: Settings, url: str) -> str | None:
    token = settings.token_for(url)
    return token.get_secret_value() if token else None
