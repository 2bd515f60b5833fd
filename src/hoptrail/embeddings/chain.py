"""The embedders in order of preference, and which of them may be used now."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Sequence
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np

from hoptrail.backend import Availability
from hoptrail.errors import (
    AllBackendsFailed,
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    InvalidResponse,
    RequestRefused,
)
from hoptrail.space import (
    CANARY_TEXTS,
    CorpusEmbedder,
    Embedder,
    EmbeddingSpace,
    TextKind,
    Vectors,
    canaries_agree,
)
from hoptrail.time_limit import TimeLimit

BENCH_SECONDS = 30.0
RECHECK_SECONDS = 300.0
PROBE_SECONDS = 10.0
WITNESS_TOLERANCE = 0.9
"""Smallest cosine at which a canary that was embedded beside other texts is the same model's: in a
batch a quantised model gives slightly other vectors than for a text alone."""

State = Literal["down", "loading", "misconfigured", "model_missing"]
Clock = Callable[[], float]


class WatchedEmbedder(Embedder):
    """An embedder with a memory of how it is.

    A failure is remembered for `BENCH_SECONDS` (longer when the server says so), in which it is
    not asked again; after that it has to prove itself by its canaries anew. They are kept for
    `RECHECK_SECONDS`: a provider may change the model behind a name without a word. Until then a
    canary goes along with every call as a witness, and the vectors are its model's or none.
    """

    def __init__(self, inner: Embedder, clock: Clock, probe_seconds: float) -> None:
        self.inner, self.backend, self.model = inner, inner.backend, inner.model
        self._clock = clock
        self._probe_seconds = probe_seconds
        self._known: tuple[EmbeddingSpace, Vectors] | None = None
        self._known_until = 0.0
        self._failure: BackendError | None = None
        self._benched_until = 0.0
        # A lock belongs to one event loop, and an embedder may serve several.
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]
        self._locks = WeakKeyDictionary()

    async def space(self) -> EmbeddingSpace:
        """Give the space's identity as last proved."""
        return (await self.proof())[0]

    async def canaries(self) -> Vectors:
        """Give the canary vectors as last proved."""
        return (await self.proof())[1]

    async def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Give the inner embedder's vectors; remembers when it fails.

        Raises:
            InvalidResponse: among other things, when they are of another model than at its proof.
        """
        self._raise_when_benched()
        try:
            if self._known is None or not texts or not self.inner.may_change:
                return await self.inner.embed(texts, kind)
            return await self._witnessed(texts, kind, self._known[1])
        except RequestRefused:
            raise
        except BackendError as error:
            self._bench(error)
            raise

    async def _witnessed(self, texts: Sequence[str], kind: TextKind, canaries: Vectors) -> Vectors:
        rows = await self.inner.embed([*texts, CANARY_TEXTS[0]], kind)
        known = canaries[0 if kind == "passage" else len(CANARY_TEXTS)]
        if rows.shape[1:] != known.shape or not rows[-1] @ known >= WITNESS_TOLERANCE:
            message = "another model answers under this name than when it was checked"
            raise InvalidResponse(message, backend=self.backend, model=self.model)
        return rows[:-1]

    async def proof(self, *, fresh: bool = False) -> tuple[EmbeddingSpace, Vectors]:
        """Give space and canaries, asking when nothing recent is known or ``fresh`` is wanted."""
        async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if not fresh:
                self._raise_when_benched()
                if self._known and self._clock() < self._known_until:
                    return self._known
            try:
                found = await self._prove()
            except BackendError as error:
                self._bench(error)
                raise
            self._known, self._known_until = found, self._clock() + RECHECK_SECONDS
            self._failure = None
            return found

    async def _prove(self) -> tuple[EmbeddingSpace, Vectors]:
        try:
            async with TimeLimit(self._probe_seconds):
                canaries = await self.inner.canaries()
                return await self.inner.space(), canaries
        except TimeoutError:
            message = f"the canary texts took longer than {self._probe_seconds:g} s"
            raise BackendUnavailable(message, backend=self.backend, model=self.model) from None

    def _bench(self, error: BackendError) -> None:
        self._known, self._failure = None, error
        self._benched_until = self._clock() + max(BENCH_SECONDS, error.retry_after or 0.0)

    def _raise_when_benched(self) -> None:
        if self._failure and self._clock() < self._benched_until:
            raise copy.copy(self._failure)  # the same object would collect tracebacks


class EmbedderChain:
    """Chooses an embedder; never moves from one to another within a call.

    It is the `hoptrail.space.Embedders` that retrieval asks.
    """

    def __init__(
        self,
        embedders: Sequence[Embedder],
        *,
        clock: Clock = time.monotonic,
        probe_seconds: float = PROBE_SECONDS,
    ) -> None:
        self._embedders = [
            # Retrieval has to see that it is one; and hashing cannot fail.
            embedder
            if isinstance(embedder, CorpusEmbedder)
            else WatchedEmbedder(embedder, clock, probe_seconds)
            for embedder in embedders
        ]
        self._reasons: list[str] = []
        self._restored: tuple[str, CorpusEmbedder] | None = None

    @property
    def reasons(self) -> list[str]:
        """Why the last decision passed over the others, one line each."""
        return list(self._reasons)

    @property
    def members(self) -> tuple[Embedder, ...]:
        """All embedders, the preferred one first; whether they are up is not asked."""
        return tuple(self._embedders)

    async def first(self) -> Embedder:
        """Give the first embedder that is up: its space is known and its canaries are well.

        Raises:
            AllBackendsFailed: none is; ``causes`` names each reason.
        """
        causes: list[BackendError] = []
        for embedder in self._embedders:
            try:
                await embedder.canaries()
            except BackendError as error:
                causes.append(error)
            else:
                self._reasons = [_line(cause, str(cause)) for cause in causes]
                return embedder
        self._reasons = [_line(cause, str(cause)) for cause in causes]
        raise AllBackendsFailed(causes)

    async def matching(
        self, space_id: str, canaries: Vectors, dumped: bytes | None = None
    ) -> Embedder | None:
        """Give an embedder of the space an index was built in, or None when none is up.

        The same model behind another backend is accepted, another model of equal width is not:
        the canaries decide. An embedder that depends on the corpus is restored from ``dumped``,
        and its space's id has to be the very same.

        Raises:
            IndexDamaged: ``dumped`` cannot be read.
        """
        reasons: list[str] = []
        for embedder in self._embedders:
            try:
                candidate = self._candidate(embedder, space_id, dumped)
                why = await _mismatch(candidate, space_id, canaries)
            except BackendError as error:
                why = str(error)
            if why is None:
                break
            reasons.append(_line(embedder, why))
        else:
            candidate = None
        self._reasons = reasons
        return candidate

    async def status(self) -> list[Availability]:
        """Ask every embedder afresh, all at once, and say how each is."""
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(_availability(embedder)) for embedder in self._embedders]
        return [task.result() for task in asked]

    def _candidate(self, embedder: Embedder, space_id: str, dumped: bytes | None) -> Embedder:
        if dumped is None or not isinstance(embedder, CorpusEmbedder):
            return embedder
        if self._restored is None or self._restored[0] != space_id:
            self._restored = (space_id, embedder.restored(dumped))
        return self._restored[1]


async def _mismatch(embedder: Embedder, space_id: str, canaries: Vectors) -> str | None:
    """Say why this embedder may not query the space, or None when it may."""
    if isinstance(embedder, CorpusEmbedder) and (await embedder.space()).id != space_id:
        return "the index was not built with this corpus' vectors"
    ours = await embedder.canaries()
    if canaries_agree(ours, canaries):
        return None
    if ours.shape[1] != canaries.shape[1]:
        return f"another embedding space: {ours.shape[1]} wide, the index {canaries.shape[1]}"
    if len(ours) != len(canaries):
        return f"the index was checked by {len(canaries)} canaries, not by {len(ours)}"
    cosine = float(np.einsum("ij,ij->i", ours, canaries).min())
    return f"another embedding space: a canary's cosine is {cosine:.3f}"


async def _availability(embedder: Embedder) -> Availability:
    started = time.perf_counter()
    name, model = embedder.backend, embedder.model
    try:
        if isinstance(embedder, WatchedEmbedder):
            space, _ = await embedder.proof(fresh=True)
        else:
            space = await embedder.space()
    except BackendError as error:
        ms = 1000 * (time.perf_counter() - started)
        return Availability(
            backend=name, model=model, state=_state(error), detail=str(error), ms=ms
        )
    ms = 1000 * (time.perf_counter() - started)
    detail = f"{space.dimensions} dimensions, {space.id}"
    return Availability(backend=name, model=model, state="up", detail=detail, ms=ms)


def _state(error: BackendError) -> State:
    if error.status == 404:
        return "model_missing"
    if isinstance(error, BackendBusy):
        return "loading"
    return "misconfigured" if isinstance(error, BackendRefused) else "down"


def _line(who: Embedder | BackendError, why: str) -> str:
    return f"{who.backend}:{who.model}: {why}"
