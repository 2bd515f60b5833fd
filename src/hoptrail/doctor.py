"""The check-up: which backends are up, which embedders, what the index holds, what is odd."""

from __future__ import annotations

import asyncio
import platform
import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import BaseModel, ConfigDict

from hoptrail.backend import Availability
from hoptrail.connections import HttpRefusal, aclose_all, refuse, shared_client
from hoptrail.errors import RetrievalError

if TYPE_CHECKING:
    from hoptrail.assembly import Assembly

_SECONDS = 3.0
_TRIED = "Which river flows through Prague?"


class LoadedModel(BaseModel):
    """A model that Ollama holds in memory; ``context`` is its window in tokens."""

    model_config = ConfigDict(frozen=True)

    name: str
    context: int | None = None
    gpu_share: float | None = None


class IndexState(BaseModel):
    """What an index holds, how it is searched now, and what stands in the way of better."""

    model_config = ConfigDict(frozen=True)

    path: Path
    passages: int = 0
    sources: int = 0
    space: str | None = None
    search: str = ""
    problem: str = ""


class Checkup(BaseModel):
    """What a check-up found. ``notes`` are worth knowing, ``warnings`` worth acting on."""

    model_config = ConfigDict(frozen=True)

    backends: tuple[Availability, ...]
    embedders: tuple[Availability, ...]
    loaded: tuple[LoadedModel, ...] = ()
    index: IndexState | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    home: Path
    versions: dict[str, str]

    @property
    def can_answer(self) -> bool:
        """Whether anything at all can answer, be it the built-in."""
        return any(found.up for found in self.backends)

    @property
    def language_model(self) -> Availability | None:
        """The language model that would be asked, or None."""
        return next((f for f in self.backends if f.up and f.backend != "extractive"), None)


async def check_up(assembly: Assembly) -> Checkup:
    """Ask everything how it is, all at once; nothing is loaded or spent."""
    try:
        async with asyncio.TaskGroup() as group:
            backends = group.create_task(assembly.router.availability())
            embedders = group.create_task(assembly.embedders.status())
            loaded = group.create_task(_loaded(assembly.settings.ollama_host))
        index = await _index_state(assembly)
    finally:
        await aclose_all()
    ollama = any(found.backend == "ollama" and found.up for found in backends.result())
    return Checkup(
        backends=tuple(backends.result()),
        embedders=tuple(embedders.result()),
        loaded=tuple(loaded.result()) if ollama else (),
        index=index,
        notes=(_PARALLEL,) if ollama else (),
        warnings=assembly.settings.warnings,
        home=assembly.settings.home,
        versions=_versions(),
    )


_PARALLEL = (
    "Ollama answers one call of a model at a time unless OLLAMA_NUM_PARALLEL is set where "
    "`ollama serve` runs; it tells nobody which. Steps that could run side by side wait for each "
    "other until then."
)


async def _loaded(host: str) -> list[LoadedModel]:
    try:
        async with shared_client().stream("GET", f"{host}/api/ps", timeout=_SECONDS) as response:
            await refuse(response)
            await response.aread()
        models = response.json()["models"] or []
        return [_loaded_model(each) for each in models]
    except (httpx.HTTPError, HttpRefusal, ValueError, KeyError, TypeError):
        return []  # the backend's own probe says what is wrong with it


def _loaded_model(told: dict[str, Any]) -> LoadedModel:
    size, on_gpu = told.get("size"), told.get("size_vram")
    share = on_gpu / size if size and on_gpu is not None else None
    return LoadedModel(name=told["name"], context=told.get("context_length"), gpu_share=share)


async def _index_state(assembly: Assembly) -> IndexState | None:
    library = assembly.library
    if library is None:
        return None
    if not library.folder.exists():
        return IndexState(path=library.folder, problem="not made yet: `hoptrail ingest` makes it")
    from hoptrail.retrieval.index import Index  # noqa: PLC0415 - only where there is an index

    try:
        index = await asyncio.to_thread(Index.open, library.folder)
    except RetrievalError as error:
        return IndexState(path=library.folder, problem=str(error))
    with closing(index):
        tried = await index.search(_TRIED, k=1, embedders=assembly.embedders)
        stats = index.stats()
    return IndexState(
        path=library.folder,
        passages=stats.passages,
        sources=stats.sources,
        space=stats.space and stats.space.id,
        search=tried.mode,
        problem="; ".join(tried.warnings),
    )


def _versions() -> dict[str, str]:
    names = ("hoptrail", "langgraph", "langchain-core")
    found = {name: version(name) for name in names}
    return {**found, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
