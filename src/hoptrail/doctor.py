"""The check-up: which backends are up, which embedders, what the index holds, what is odd."""

from __future__ import annotations

import asyncio
import platform
import sqlite3
import tempfile
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import BaseModel, ConfigDict

from hoptrail.addresses import is_own_host
from hoptrail.backend import Availability
from hoptrail.connections import HttpRefusal, aclose_all, refuse, shared_client
from hoptrail.errors import RetrievalError

if TYPE_CHECKING:
    from hoptrail.assembly import Assembly
    from hoptrail.router import RoutedChatModel
    from hoptrail.settings import Settings

HUB = "https://huggingface.co"
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
    """Ask everything how it is, all at once; nothing is loaded or spent.

    Raises:
        SettingsError: a setting cannot be used.
    """
    settings, router, chain = assembly.settings, assembly.router, assembly.embedders
    try:
        async with asyncio.TaskGroup() as group:
            backends = group.create_task(_backends(router, settings))
            embedders = group.create_task(chain.status())
            loaded = group.create_task(_loaded(settings.ollama_host))
        index = await _index_state(assembly)
    finally:
        await aclose_all()
    ollama = any(found.backend == "ollama" and found.up for found in backends.result())
    return Checkup(
        backends=tuple(backends.result()),
        embedders=tuple(embedders.result()),
        loaded=tuple(loaded.result()) if ollama else (),
        index=index,
        notes=(*((_PARALLEL,) if ollama else ()), *sqlite_notes(sqlite3.sqlite_version_info)),
        warnings=(*settings.warnings, *_unwritable(settings.home)),
        home=settings.home,
        versions=_versions(),
    )


_PARALLEL = (
    "Ollama answers one call of a model at a time unless OLLAMA_NUM_PARALLEL is set where "
    "`ollama serve` runs; it tells nobody which. Steps that could run side by side wait for each "
    "other until then."
)


_RESET_BUG = ((3, 7, 0), (3, 51, 3))
_RESET_BUG_FIXED_IN = ((3, 44, 6), (3, 50, 7))
"""Earlier lines that were mended too."""


def sqlite_notes(version: tuple[int, ...]) -> tuple[str, ...]:
    """Say whether this SQLite can damage a file that several processes write at the same moment.

    Nothing of ours can rule that out (https://sqlite.org/wal.html#walresetbug), and hardly any
    Python has the newer one yet; it takes two processes in a window that nobody has hit by chance.
    """
    first, mended = _RESET_BUG
    if not first <= version < mended:
        return ()
    if any(version[:2] == line[:2] and version >= line for line in _RESET_BUG_FIXED_IN):
        return ()
    told = ".".join(map(str, version))
    return (
        f"SQLite {told} has the WAL-reset bug: very rarely, processes that write to one journal "
        "at the same moment may damage it. Where many do, use a Python with SQLite 3.51.3 or newer",
    )


async def _backends(router: RoutedChatModel, settings: Settings) -> list[Availability]:
    found = await router.availability()
    token = settings.token_for(settings.huggingface_base_url)
    if token is None or not is_own_host(settings.huggingface_base_url):
        return found
    return [
        await token_checked(each, token.get_secret_value())
        if each.backend == "huggingface"
        else each
        for each in found
    ]


async def token_checked(found: Availability, token: str, hub: str = HUB) -> Availability:
    """Give what was found of Hugging Face, with a token that the Hub does not know told.

    The list of models, by which the backend is probed, is open to anybody.
    """
    if not found.up:
        return found
    headers = {"Authorization": f"Bearer {token}"}
    try:
        response = await shared_client().get(
            f"{hub}/api/whoami-v2", headers=headers, timeout=_SECONDS
        )
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError):
        return found
    if response.status_code != httpx.codes.UNAUTHORIZED:
        return found
    fix = f"set HF_TOKEN to a token from {HUB}/settings/tokens"
    told = {"state": "misconfigured", "detail": "Hugging Face does not know this token", "fix": fix}
    return found.model_copy(update=told)


def _unwritable(home: Path) -> tuple[str, ...]:
    try:
        home.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=home).close()
    except OSError as error:
        return (
            f"{home} cannot be written ({error.strerror}): set HOPTRAIL_HOME to another folder",
        )
    return ()


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
    corpus = assembly.corpus
    if corpus is None:
        return None
    if missing := [str(path) for path in corpus.docs if not path.exists()]:
        problem = f"there is no {', '.join(missing)}: correct --docs or HOPTRAIL_DOCS"
        return IndexState(path=corpus.folder, problem=problem)
    if not corpus.folder.exists():
        problem = "not made yet: the next `hoptrail ask` or `hoptrail ingest` makes it"
        return IndexState(path=corpus.folder, problem=problem)
    from hoptrail.retrieval.index import Index  # noqa: PLC0415 - only where there is an index

    try:
        index = await asyncio.to_thread(Index.open, corpus.folder)
    except RetrievalError as error:
        return IndexState(path=corpus.folder, problem=str(error))
    with closing(index):
        tried = await index.search(_TRIED, k=1, embedders=assembly.embedders)
        stats = index.stats()
    return IndexState(
        path=corpus.folder,
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
