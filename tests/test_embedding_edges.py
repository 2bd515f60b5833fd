"""The fine print of embedding spaces: exact limits, exact words, and who is asked for what."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from hoptrail.embeddings import EmbedderChain, HashEmbedder, as_langchain
from hoptrail.embeddings.batches import gathered
from hoptrail.embeddings.chain import WatchedEmbedder
from hoptrail.embeddings.face import Pin
from hoptrail.embeddings.vectors import unit_rows
from hoptrail.errors import (
    AllBackendsFailed,
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    InvalidResponse,
    RequestRefused,
    SpaceMismatch,
)
from hoptrail.space import (
    CANARY_TEXTS,
    CANARY_TOLERANCE,
    Embedder,
    EmbeddingSpace,
    TextKind,
    Vectors,
    canaries_agree,
)
from tests.clock import Clock
from tests.providers import unit_vector

pytestmark = [pytest.mark.anyio, pytest.mark.promise("spaces-never-mix")]

CANARY_CALLS = [((text,), "passage") for text in CANARY_TEXTS] + [((CANARY_TEXTS[0],), "query")]


@dataclass(eq=False)
class Model(Embedder):
    """An embedder in memory that tells passages from queries and notes its calls."""

    weights: str = "all-minilm"
    failure: BackendError | None = None
    may_change: bool = True
    width: int = 384
    calls: list[tuple[tuple[str, ...], TextKind]] = field(default_factory=list)
    backend: str = "external"
    model: str = "in-memory"

    async def space(self) -> EmbeddingSpace:
        if self.failure:
            raise self.failure
        return EmbeddingSpace(backend=self.backend, model=self.model, dimensions=self.width)

    async def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        self.calls.append((tuple(texts), kind))
        if self.failure:
            raise self.failure
        return self.rows(texts, kind)

    def rows(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """What it gives for the texts."""
        rows = [unit_vector(f"{kind} {text}", self.weights, self.width) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), self.width)


class Fixed(Model):
    """An embedder of two dimensions; the last row of a call can be bent away by an angle."""

    bent: float = 1.0
    """The cosine between the last row of a call and what it was."""

    def rows(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        rows = np.tile(np.array([1, 0], np.float32), (len(texts), 1))
        rows[-1] = self.bent, np.sqrt(1 - np.float32(self.bent) ** 2)
        return rows


def down(**more: Any) -> BackendUnavailable:
    return BackendUnavailable("it is down", backend="external", model="in-memory", **more)


class TestIdentity:
    def test_the_id_of_a_space_is_the_same_in_every_process_and_release(self) -> None:
        """Indexes on disk name their space by it."""
        space = EmbeddingSpace(backend="ollama", model="all-minilm", dimensions=384)
        assert space.id == "ollama:all-minilm:739f100c9c9a"
        assert space.normalised

    @pytest.mark.parametrize(
        "other",
        [
            {"backend": "local"},
            {"model": "bge-small"},
            {"dimensions": 385},
            {"revision": "2"},
            {"normalised": False},
            {"query_prefix": "q: "},
            {"passage_prefix": "p: "},
        ],
        ids=lambda other: next(iter(other)),
    )
    def test_whatever_is_declared_otherwise_is_another_space(self, other: dict[str, Any]) -> None:
        space = EmbeddingSpace(backend="ollama", model="all-minilm", dimensions=384)
        assert space.model_copy(update=other).id != space.id

    async def test_a_model_is_asked_for_each_canary_alone_and_for_one_query(self) -> None:
        model = Model()
        rows = await model.canaries()
        assert model.calls == CANARY_CALLS
        assert rows.shape == (len(CANARY_TEXTS) + 1, 384)
        for row, ((text,), kind) in zip(rows, CANARY_CALLS, strict=True):
            np.testing.assert_array_equal(row, unit_vector(f"{kind} {text}", "all-minilm"))


class TestAgreement:
    OURS = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)

    def turned(self, cosine: float, row: int = 1) -> Vectors:
        """`OURS`, with one row at this cosine to what it was."""
        theirs = self.OURS.copy()
        along = self.OURS[row].astype(np.float64)
        across = np.array([-along[1], along[0]])
        theirs[row] = cosine * along + np.sqrt(1 - cosine**2) * across
        return theirs

    def test_one_canary_that_differs_is_enough(self) -> None:
        for row in range(3):
            assert canaries_agree(self.OURS, self.turned(CANARY_TOLERANCE + 1e-4, row))
            assert not canaries_agree(self.OURS, self.turned(CANARY_TOLERANCE - 1e-4, row))

    def test_the_tolerance_itself_is_near_enough(self) -> None:
        ours = np.array([[1, 0]], dtype=np.float32)
        along = np.float32(CANARY_TOLERANCE)
        theirs = np.array([[along, np.sqrt(1 - along**2)]], dtype=np.float32)
        assert np.linalg.norm(theirs) == 1
        assert canaries_agree(ours, theirs)

    @pytest.mark.parametrize(("left", "right"), [(0.01, 0.02), (7, 1), (0.01, 1), (1, 30)])
    def test_length_says_nothing(self, left: float, right: float) -> None:
        same, other = np.float32(left) * self.OURS, self.turned(CANARY_TOLERANCE - 1e-3)
        assert canaries_agree(same, np.float32(right) * self.OURS)
        assert not canaries_agree(same, np.float32(right) * other)

    @pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
    def test_a_number_that_is_none_agrees_with_nothing(self, number: float) -> None:
        broken = self.OURS.copy()
        broken[2, 1] = number
        assert not canaries_agree(broken, self.OURS)
        assert not canaries_agree(self.OURS, broken)
        assert not canaries_agree(broken, broken)

    def test_a_vector_without_length_agrees_with_nothing(self) -> None:
        zero = self.OURS.copy()
        zero[0] = 0
        for pair in ((zero, self.OURS), (self.OURS, zero), (zero, zero), (0 * zero, 0 * zero)):
            assert not canaries_agree(*pair)

    def test_other_shapes_agree_with_nothing(self) -> None:
        wider = np.hstack([self.OURS, np.zeros((3, 1), np.float32)])
        for theirs in (self.OURS[:2], self.OURS[:1], self.OURS[:, :1], wider, self.OURS[0]):
            assert not canaries_agree(self.OURS, theirs)


class TestReading:
    def test_rows_become_unit_rows_of_float32(self) -> None:
        rows = unit_rows([[3, 4], [0, -2], [1e-3, 0]], 3)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, np.array([[0.6, 0.8], [0, -1], [1, 0]]), atol=1e-7)

    @pytest.mark.parametrize("kind", ["int8", "uint8", "uint64", "float16", "float32", "float64"])
    def test_numbers_of_every_kind_are_read(self, kind: str) -> None:
        rows = np.array([[120, 0], [90, 120]], dtype=kind)
        np.testing.assert_allclose(unit_rows(rows, 2, 2), np.array([[1, 0], [0.6, 0.8]]), atol=1e-7)

    def test_half_precision_does_not_overflow(self) -> None:
        rows = np.array([[30000, 40000]], dtype=np.float16)
        np.testing.assert_allclose(unit_rows(rows, 1), np.array([[0.6, 0.8]]), atol=1e-3)

    @pytest.mark.parametrize(
        ("rows", "why"),
        [
            ([1.0, 2.0], "the answer has the shape (2,), not one vector per text"),
            ([[1.0], [2.0]], "the answer has the shape (2, 1), not one vector per text"),
            ([[[1.0, 2.0]]] * 2, "the answer has the shape (2, 1, 2), not one vector per text"),
            ([], "the answer has the shape (0,), not one vector per text"),
            ([[1.0, 2.0]], "1 vectors came back for 2 texts"),
            ([[1.0, 2.0]] * 3, "3 vectors came back for 2 texts"),
            ([[1.0, 2.0], [1.0]], "the vectors differ in width"),
            ([["1", "2"], ["3", "4"]], "the answer holds something other than numbers"),
            ([[True, False]] * 2, "the answer holds something other than numbers"),
            ([[1j, 2]] * 2, "the answer holds something other than numbers"),
            ([[None, 1.0]] * 2, "the answer holds something other than numbers"),
            ([[10**400, 1]] * 2, "the answer holds something other than numbers"),
            (None, "the answer holds something other than numbers"),
            ({"embeddings": []}, "the answer holds something other than numbers"),
            ([[1.0, 2.0], [1.0, np.nan]], "a vector holds NaN or infinity"),
            ([[1.0, 2.0], [1.0, -np.inf]], "a vector holds NaN or infinity"),
            ([[0.0, 0.0], [3.0, 4.0]], "a vector has the length 0 or 5"),
            ([[3.0, 4.0], [0.0, 1234567.0]], "a vector has the length 5 or 1.23e+06"),
        ],
    )
    def test_what_is_no_vector_per_text_is_refused_and_named(self, rows: object, why: str) -> None:
        with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
            unit_rows(rows, 2)

    def test_another_width_than_known_is_refused(self) -> None:
        assert unit_rows([[1, 1, 1]], 1, 3).shape == (1, 3)
        for width in (2, 4):
            with pytest.raises(ValueError, match=f"^the vectors are 3 wide, not {width}$"):
                unit_rows([[1, 1, 1]], 1, width)

    @pytest.mark.parametrize(
        ("length", "taken"),
        [(1e-6, False), (1.1e-6, True), (1, True), (0.99e6, True), (1e6, False), (1e-30, False)],
    )
    def test_only_a_plausible_length_is_a_direction(self, length: float, taken: bool) -> None:
        if taken:
            np.testing.assert_array_equal(unit_rows([[0, length], [0, 1]], 2), [[0, 1], [0, 1]])
        else:
            with pytest.raises(ValueError, match="a vector has the length"):
                unit_rows([[0, length], [0, 1]], 2)


class TestWitness:
    """Whose vectors they are is checked with every call, by a canary of the call's own kind."""

    @pytest.mark.parametrize("kind", ["passage", "query"])
    async def test_a_canary_goes_along_and_is_not_given(self, kind: TextKind) -> None:
        model = Model()
        embedder = await EmbedderChain([model]).first()
        model.calls.clear()
        rows = await embedder.embed(["one", "two"], kind)
        assert model.calls == [(("one", "two", CANARY_TEXTS[0]), kind)]
        np.testing.assert_array_equal(rows, model.rows(["one", "two"], kind))

    @pytest.mark.parametrize("kind", ["passage", "query"])
    @pytest.mark.parametrize(("weights", "width"), [("another", 384), ("all-minilm", 383)])
    async def test_another_models_vectors_are_not_given(
        self, kind: TextKind, weights: str, width: int
    ) -> None:
        model = Model()
        embedder = await EmbedderChain([model]).first()
        model.weights, model.width = weights, width
        why = "^another model answers under this name than when it was checked$"
        with pytest.raises(InvalidResponse, match=why) as caught:
            await embedder.embed(["one", "two"], kind)
        assert (caught.value.backend, caught.value.model) == ("external", "in-memory")
        asked = len(model.calls)
        with pytest.raises(InvalidResponse, match=why):
            await embedder.embed(["one"], kind)
        assert len(model.calls) == asked

    @pytest.mark.parametrize(("cosine", "same"), [(0.9, True), (0.8999, False), (-1, False)])
    async def test_in_a_batch_a_cosine_of_nine_tenths_is_the_same_model(
        self, cosine: float, same: bool
    ) -> None:
        model = Fixed(width=2)
        embedder = await EmbedderChain([model]).first()
        model.bent = cosine
        if same:
            np.testing.assert_array_equal(await embedder.embed(["one"], "passage"), [[1, 0]])
        else:
            with pytest.raises(InvalidResponse):
                await embedder.embed(["one"], "passage")

    async def test_a_witness_that_is_no_number_is_none(self) -> None:
        model = Fixed(width=2)
        embedder = await EmbedderChain([model]).first()
        model.bent = float("nan")
        with pytest.raises(InvalidResponse, match="another model answers"):
            await embedder.embed(["one"], "passage")

    @pytest.mark.parametrize("kind", ["passage", "query"])
    async def test_who_cannot_change_and_who_has_nothing_to_say_needs_no_witness(
        self, kind: TextKind
    ) -> None:
        fixed, model = Model(may_change=False), Model()
        for inner, texts in ((fixed, ("one",)), (model, ())):
            embedder = await EmbedderChain([inner]).first()
            inner.calls.clear()
            rows = await embedder.embed(texts, kind)
            assert inner.calls == [(texts, kind)]
            np.testing.assert_array_equal(rows, inner.rows(texts, kind))

    @pytest.mark.parametrize("kind", ["passage", "query"])
    async def test_before_anything_is_known_there_is_nothing_to_compare(
        self, kind: TextKind
    ) -> None:
        model = Model()
        (embedder,) = EmbedderChain([model]).members
        rows = await embedder.embed(["one"], kind)
        assert model.calls == [(("one",), kind)]
        np.testing.assert_array_equal(rows, model.rows(["one"], kind))


class TestMemory:
    """How long an embedder is believed, and how long it is left alone."""

    async def test_a_proof_lasts_five_minutes_and_not_a_moment_longer(self) -> None:
        clock, model = Clock(), Model()
        embedder = await EmbedderChain([model], clock=clock).first()
        clock.now += 299.5
        assert (await embedder.space()).dimensions == 384
        np.testing.assert_array_equal(
            (await embedder.canaries())[0], model.rows(CANARY_TEXTS[:1], "passage")[0]
        )
        assert model.calls == CANARY_CALLS
        clock.now += 0.5
        await embedder.canaries()
        assert model.calls == CANARY_CALLS * 2

    async def test_a_failure_is_kept_for_half_a_minute_and_not_a_moment_longer(self) -> None:
        clock, model = Clock(), Model()
        embedder = await EmbedderChain([model], clock=clock).first()
        model.failure, model.calls = down(), []
        with pytest.raises(BackendUnavailable, match="it is down"):
            await embedder.embed(["one"], "query")
        model.failure = None
        clock.now += 29.5
        for ask in (embedder.space, embedder.canaries, lambda: embedder.embed(["one"], "query")):
            with pytest.raises(BackendUnavailable, match="it is down"):
                await ask()
        assert len(model.calls) == 1
        clock.now += 0.5
        await embedder.canaries()
        assert model.calls[1:] == CANARY_CALLS

    @pytest.mark.parametrize(("asked", "kept"), [(5.0, 30.0), (90.0, 90.0), (0.0, 30.0)])
    async def test_who_asks_for_more_time_is_given_it(self, asked: float, kept: float) -> None:
        clock = Clock()
        model = Model(failure=down(retry_after=asked))
        chain = EmbedderChain([model], clock=clock)
        for passed, calls in ((0, 1), (kept - 1, 1), (1, 2)):
            clock.now += passed
            with pytest.raises(AllBackendsFailed):
                await chain.first()
            assert len(model.calls) == calls

    async def test_after_a_failure_it_proves_itself_anew(self) -> None:
        """Though its last proof was a moment ago."""
        clock, model = Clock(), Model()
        chain = EmbedderChain([model], clock=clock)
        embedder = await chain.first()
        model.failure = down()
        with pytest.raises(BackendUnavailable):
            await embedder.embed(["one"], "query")
        model.failure, model.weights = None, "another"
        clock.now += 30
        model.calls.clear()
        rows = await (await chain.first()).embed(["one"], "query")
        assert model.calls[:5] == CANARY_CALLS
        np.testing.assert_array_equal(rows, model.rows(["one"], "query"))

    async def test_a_refused_text_is_not_remembered_as_a_failure(self) -> None:
        model = Model()
        embedder = await EmbedderChain([model]).first()
        model.failure = RequestRefused("too long", backend="external")
        with pytest.raises(RequestRefused, match="too long"):
            await embedder.embed(["long"], "query")
        model.failure, model.calls = None, []
        await embedder.embed(["one"], "query")
        assert model.calls == [(("one", CANARY_TEXTS[0]), "query")]

    async def test_a_remembered_failure_is_told_by_an_error_of_its_own(self) -> None:
        """One object would collect the traceback of every question it ended."""
        model = Model(failure=down(retry_after=40.0, status=503))
        embedder = EmbedderChain([model]).members[0]
        raised = []
        for _ in range(3):
            with pytest.raises(BackendUnavailable) as caught:
                await embedder.canaries()
            raised.append(caught.value)
        assert len({id(error) for error in raised}) == 3
        told = {(str(error), error.retry_after, error.status, error.model) for error in raised}
        assert told == {("it is down", 40.0, 503, "in-memory")}

    async def test_a_probe_that_hangs_is_named(self) -> None:
        class Hanging(Model):
            async def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
                await asyncio.sleep(3600)
                return self.rows(texts, kind)

        watched = WatchedEmbedder(Hanging(), Clock(), 0.02)
        with pytest.raises(BackendUnavailable) as caught:
            await watched.proof()
        assert str(caught.value) == "the canary texts took longer than 0.02 s"
        assert (caught.value.backend, caught.value.model) == ("external", "in-memory")
        assert caught.value.__cause__ is None

    async def test_status_does_not_believe_what_is_remembered(self) -> None:
        clock, model = Clock(), Model()
        chain = EmbedderChain([model], clock=clock)
        await chain.first()
        model.failure = down()
        assert [row.state for row in await chain.status()] == ["down"]
        with pytest.raises(AllBackendsFailed):
            await chain.first()
        model.failure = None
        assert [row.state for row in await chain.status()] == ["up"]
        model.calls.clear()
        await chain.first()
        assert model.calls == []


class TestChain:
    async def test_the_reasons_name_those_passed_over_in_order(self) -> None:
        first, second, third = (Model(model=name, failure=down()) for name in "abc")
        chain = EmbedderChain([first, second, third], clock=(clock := Clock()))
        assert chain.reasons == []
        third.failure = None
        assert (await chain.first()).model == "c"
        lines = ["external:in-memory: it is down"] * 2
        assert chain.reasons == lines
        chain.reasons.clear()
        assert chain.reasons == lines
        third.failure = BackendUnavailable("gone", backend="external", model="c")
        clock.now += 301
        with pytest.raises(AllBackendsFailed) as caught:
            await chain.first()
        assert chain.reasons == [*lines, "external:c: gone"]
        assert [str(cause) for cause in caught.value.causes] == ["it is down", "it is down", "gone"]

    async def test_members_are_all_in_order_and_nobody_is_asked(self) -> None:
        models = [Model(model=name, failure=down()) for name in "ab"]
        hashing = HashEmbedder()
        members = EmbedderChain([*models, hashing]).members
        names = [(member.backend, member.model) for member in members]
        assert names == [("external", "a"), ("external", "b"), ("hash", hashing.model)]
        assert members[2] is hashing
        assert [model.calls for model in models] == [[], []]

    async def test_matching_says_why_of_each(self) -> None:
        canaries = await Model().canaries()
        turned = Model(model="turned", weights="another")
        cosines = np.sum(np.asarray(await turned.canaries()) * canaries, axis=1)
        chain = EmbedderChain(
            [
                Model(model="a", failure=down()),
                Model(model="narrow", width=100),
                turned,
                HashEmbedder(384),
            ]
        )
        assert await chain.matching("any:id", canaries) is None
        assert chain.reasons == [
            "external:a: it is down",
            "external:narrow: another embedding space: 100 wide, the index 384",
            f"external:turned: another embedding space: a canary's cosine is {cosines.min():.3f}",
            f"hash:{HashEmbedder.model}: the index was not built with this corpus' vectors",
        ]

    async def test_an_index_of_other_canaries_is_told_apart_from_another_width(self) -> None:
        """Another release may have had fewer of them."""
        chain, canaries = EmbedderChain([Model()]), await Model().canaries()
        assert await chain.matching("any:id", canaries[:4]) is None
        assert chain.reasons == [
            "external:in-memory: the index was checked by 4 canaries, not by 5"
        ]

    async def test_matching_takes_the_first_that_agrees_and_asks_no_further(self) -> None:
        canaries = await Model().canaries()
        models = [Model(model="a", weights="another"), Model(model="b"), Model(model="c")]
        chain = EmbedderChain(models)
        found = await chain.matching("any:id", canaries)
        assert found is chain.members[1]
        assert len(chain.reasons) == 1
        assert models[2].calls == []

    async def test_a_model_needs_no_corpus(self) -> None:
        """What an index stored for a corpus' embedder is no business of a model's."""
        chain = EmbedderChain([Model()])
        found = await chain.matching("any:id", await Model().canaries(), b"a table")
        assert found is chain.members[0]

    async def test_each_corpus_gets_its_own_table(self) -> None:
        chain = EmbedderChain([HashEmbedder()])
        for text in ("The Vltava is a river", "Bread needs yeast", "The Vltava is a river"):
            built = HashEmbedder(512).fitted([text, "Atoms decay"])
            space = await built.space()
            found = await chain.matching(space.id, await built.canaries(), built.dump())
            assert found is not None
            assert await found.space() == space


class TestStatus:
    async def test_each_state_has_its_name(self) -> None:
        failures: list[tuple[BackendError, str]] = [
            (BackendRefused("pull it", backend="x", status=404), "model_missing"),
            (BackendUnavailable("no such page", backend="x", status=404), "model_missing"),
            (BackendBusy("it loads", backend="x", status=503), "loading"),
            (BackendRefused("no key", backend="x", status=401), "misconfigured"),
            (BackendUnavailable("reset", backend="x"), "down"),
            (InvalidResponse("half", backend="x", status=200), "down"),
        ]
        models = [
            Model(model=str(number), backend=f"b{number}", failure=error)
            for number, (error, _) in enumerate(failures)
        ]
        rows = await EmbedderChain(models).status()
        told = [(row.backend, row.model, row.state, row.detail) for row in rows]
        assert told == [
            (f"b{number}", str(number), state, str(error))
            for number, (error, state) in enumerate(failures)
        ]
        assert not any(row.up for row in rows)

    async def test_who_is_up_says_its_width_and_space(self) -> None:
        model, hashing = Model(), HashEmbedder(512)
        rows = await EmbedderChain([model, hashing]).status()
        for row, each in zip(rows, (model, hashing), strict=True):
            space = await each.space()
            assert (row.backend, row.model, row.state) == (each.backend, each.model, "up")
            assert row.detail == f"{space.dimensions} dimensions, {space.id}"

    async def test_a_corpus_embedder_that_fails_is_told_too(self) -> None:
        class Broken(HashEmbedder):
            async def space(self) -> EmbeddingSpace:
                raise BackendRefused("no table", backend="hash")

        (row,) = await EmbedderChain([Broken()]).status()
        assert (row.state, row.detail) == ("misconfigured", "no table")

    @pytest.mark.parametrize("failure", [None, down()])
    async def test_the_time_taken_is_told_in_milliseconds(
        self, monkeypatch: pytest.MonkeyPatch, failure: BackendError | None
    ) -> None:
        clock = Clock()

        class Slow(Model):
            async def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
                clock.now += 0.25 if len(self.calls) == 0 else 0
                return await super().embed(texts, kind)

        chain = EmbedderChain([Slow(failure=failure)])
        with monkeypatch.context() as patched:
            patched.setattr(time, "perf_counter", clock)
            (row,) = await chain.status()
        assert row.ms == 250

    async def test_all_are_asked_at_once(self) -> None:
        """Each waits for the other: one after another they would never end."""
        met = asyncio.Barrier(2)

        class Waiting(Model):
            async def space(self) -> EmbeddingSpace:
                await met.wait()
                return await super().space()

        async with asyncio.timeout(30):
            rows = await EmbedderChain([Waiting(), Waiting()]).status()
        assert [row.state for row in rows] == ["up", "up"]


class TestLangChain:
    @pytest.mark.parametrize("chained", [False, True])
    async def test_passages_and_queries_are_asked_for_as_what_they_are(self, chained: bool) -> None:
        model = Model(may_change=False)
        face = as_langchain(EmbedderChain([model]) if chained else model)
        for kind, texts, rows in (
            ("passage", ["one", "two"], await face.aembed_documents(["one", "two"])),
            ("query", ["three"], [await face.aembed_query("three")]),
            ("passage", ["four"], await asyncio.to_thread(face.embed_documents, ["four"])),
            ("query", ["five"], [await asyncio.to_thread(face.embed_query, "five")]),
        ):
            assert ((*texts,), kind) in model.calls
            assert rows == model.rows(texts, kind).tolist()  # type: ignore[arg-type] # from a literal
            assert all(type(number) is float for row in rows for number in row)

    def test_whoever_calls_may_say_how_to_wait(self) -> None:
        waited: list[str] = []

        def waiting(work: Coroutine[None, None, list[list[float]]]) -> list[list[float]]:
            waited.append(threading.current_thread().name)
            return asyncio.run(work)

        model = Model()
        face = as_langchain(model, run=waiting)
        assert face.embed_documents(["one"]) == model.rows(["one"], "passage").tolist()
        assert face.embed_query("one") == model.rows(["one"], "query")[0].tolist()
        assert waited == [threading.current_thread().name] * 2

    async def test_a_pin_that_is_passed_in_is_kept(self) -> None:
        built = Model()
        pin = Pin("an:older:id", await built.canaries())
        chain = EmbedderChain([Model(weights="another", model="a"), Model(model="b")])
        face = as_langchain(chain, pin=pin)
        assert await face.aembed_query("one") == built.rows(["one"], "query")[0].tolist()
        assert face.pin is pin

    async def test_the_first_call_pins_the_space(self) -> None:
        model = Model()
        face = as_langchain(EmbedderChain([model]))
        assert face.pin is None
        await face.aembed_query("one")
        assert face.pin is not None
        assert face.pin.space_id == (await model.space()).id
        np.testing.assert_array_equal(face.pin.canaries, await model.canaries())

    async def test_hashing_is_pinned_by_its_spaces_id(self) -> None:
        face = as_langchain(EmbedderChain([HashEmbedder(64)]))
        assert (await face.aembed_documents(["one"]))[0] == await face.aembed_query("one")
        other = as_langchain(EmbedderChain([HashEmbedder(128)]), pin=face.pin)
        with pytest.raises(SpaceMismatch, match="not built with this corpus"):
            await other.aembed_query("one")

    async def test_an_embedder_alone_needs_no_pin(self) -> None:
        face = as_langchain(Model())
        await face.aembed_query("one")
        assert face.pin is None

    async def test_two_first_calls_at_once_end_in_one_space(self) -> None:
        """The slower one takes the pin that it finds, whatever it was about to pin itself."""
        one, other = Model(model="one"), Model(model="other", weights="another")
        both, chosen = EmbedderChain([one, other]), iter([one, other])
        met = asyncio.Barrier(2)

        class Undecided:
            reasons: tuple[str, ...] = ()

            async def first(self) -> Embedder:
                mine = next(chosen)
                await met.wait()
                return mine

            async def matching(self, *asked: Any) -> Embedder | None:
                return await both.matching(*asked)

        face = as_langchain(Undecided())  # type: ignore[arg-type] # no more of it is asked
        async with asyncio.timeout(30):
            rows = await asyncio.gather(face.aembed_query("text"), face.aembed_query("text"))
        assert rows[0] == rows[1]

    async def test_why_nobody_may_answer_is_told_of_each(self) -> None:
        pin = Pin("an:older:id", await Model().canaries())
        chain = EmbedderChain(
            [Model(model="a", failure=down()), Model(model="b", width=100), Model(weights="other")]
        )
        with pytest.raises(SpaceMismatch) as caught:
            await as_langchain(chain, pin=pin).aembed_query("one")
        assert str(caught.value) == (
            f"no embedder of an:older:id is up ({'; '.join(chain.reasons)})"
        )
        assert len(chain.reasons) == 3


class TestGathering:
    @pytest.mark.parametrize("ticks", range(5))
    @pytest.mark.parametrize("fails_first", [True, False])
    async def test_a_cancellation_that_comes_with_a_failure_is_never_lost(
        self, ticks: int, fails_first: bool
    ) -> None:
        for _ in range(10):
            answered = asyncio.Event()

            async def failing(answered: asyncio.Event = answered) -> Vectors:
                await answered.wait()
                raise down()

            async def hanging() -> Vectors:
                await asyncio.Event().wait()
                raise AssertionError("nobody sets it")

            async def call_once(*work: Callable[[], Awaitable[Vectors]]) -> None:
                with pytest.raises(BackendUnavailable):
                    await gathered(work)

            async with asyncio.TaskGroup() as group:
                call = group.create_task(call_once(failing, hanging, failing))
                for _ in range(5):  # until all of them wait
                    await asyncio.sleep(0)
                if fails_first:
                    answered.set()
                    for _ in range(ticks):
                        await asyncio.sleep(0)
                taken = call.cancel()
                answered.set()
            # One that had ended before cannot be cancelled any more.
            assert call.cancelled() == taken
            assert taken or ticks

    async def test_a_failure_leaves_no_cancellation_behind(self) -> None:
        async def failing() -> Vectors:
            await asyncio.sleep(0)
            raise down()

        with pytest.raises(BackendUnavailable):
            await gathered([failing, failing])
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
