"""The ways in which two embedding spaces come to meet, each over real sockets.

Whatever happens: vectors of two spaces are not compared, no question finds less than by words,
and what was done is said.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hoptrail import Hoptrail, load_settings
from hoptrail.embeddings import (
    EmbedderChain,
    HashEmbedder,
    HuggingFaceEmbedder,
    OllamaEmbedder,
    as_langchain,
)
from hoptrail.errors import SpaceMismatch
from hoptrail.retrieval.index import Index
from hoptrail.space import Embedder
from tests import synonyms
from tests.providers import EMBEDDING, Fault, LoopbackProvider, ollama_vectors, vectors
from tests.synonyms import Findings, look_up, take_in, write_notes
from tests.two_hops import QUESTION, model, write_documents

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.promise("spaces-never-mix"),
    pytest.mark.timeout(300),
]

MINILM = "all-minilm"


@dataclass
class Shelf:
    """Notes, an index of it, and the servers that embed."""

    docs: Path
    place: Path
    provider: LoopbackProvider
    client: httpx.AsyncClient
    by_words: float
    now: float = 1000.0

    def ollama(self, model: str = MINILM, **named: Any) -> Embedder:
        return OllamaEmbedder(model, self.provider.ollama_url, client=lambda: self.client, **named)

    def huggingface(self, **named: Any) -> Embedder:
        return HuggingFaceEmbedder(
            base_url=self.provider.huggingface_url, client=lambda: self.client, **named
        )

    def chain(self, *embedders: Embedder) -> EmbedderChain:
        return EmbedderChain(embedders, clock=lambda: self.now)

    async def build(self, *embedders: Embedder) -> str:
        """Index the notes; give the space it is in."""
        report = await take_in(self.docs, self.place, self.chain(*embedders))
        return report.space.id if report.space else ""

    async def ask(self, *embedders: Embedder) -> Findings:
        return await look_up(self.place, self.chain(*embedders))

    def went_by_words(self, found: Findings, *why: str) -> None:
        assert (found.modes, found.spaces) == ({"lexical"}, {None})
        assert found.recall == self.by_words
        assert all("searched by words only" in warning for warning in found.warnings)
        assert any(all(reason in warning for reason in why) for warning in found.warnings)

    def went_by_meaning(self, found: Findings, space: str, weights: str = MINILM) -> None:
        assert (found.modes, found.spaces, found.warnings) == ({"hybrid"}, {space}, set())
        assert found.are_cosines_of(weights)
        assert found.recall_in_other_words == 1.0
        assert found.recall >= self.by_words


@pytest.fixture(scope="module")
async def by_words(tmp_path_factory: pytest.TempPathFactory) -> float:
    root = tmp_path_factory.mktemp("words")
    await take_in(write_notes(root / "docs"), root / "index", None)
    found = await look_up(root / "index", None)
    assert 0.5 < found.recall < 0.9
    assert found.recall_in_other_words < 0.8
    assert found.recall_in_their_words == 1.0
    return found.recall


@pytest.fixture
async def shelf(
    tmp_path: Path, provider: LoopbackProvider, by_words: float, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shelf]:
    synonyms.teach_synonyms(monkeypatch)
    provider.ollama.models = [MINILM, "bge-small-384", "nomic-embed-text"]
    async with httpx.AsyncClient(verify=False) as client:  # certificates cost 40 ms a test
        docs = write_notes(tmp_path / "docs")
        yield Shelf(docs, tmp_path / "index", provider, client, by_words)


class TestAnotherSpace:
    async def test_another_width(self, shelf: Shelf) -> None:
        await shelf.build(shelf.ollama())
        found = await shelf.ask(shelf.ollama("nomic-embed-text"))
        shelf.went_by_words(found, "768 wide, the index 384")

    async def test_the_same_width_of_another_model(self, shelf: Shelf) -> None:
        await shelf.build(shelf.ollama())
        found = await shelf.ask(
            shelf.ollama("bge-small-384"), shelf.huggingface(model="BAAI/bge-small-en-v1.5")
        )
        shelf.went_by_words(found, "ollama:bge-small-384", "huggingface:BAAI", "canary's cosine")

    async def test_the_same_name_of_another_revision(
        self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await shelf.build(shelf.ollama())
        monkeypatch.setitem(vectors.SAME_MODEL, MINILM, "all-minilm-2")
        shelf.went_by_words(await shelf.ask(shelf.ollama()), "canary's cosine")
        anew = await shelf.build(shelf.ollama())
        shelf.went_by_meaning(await shelf.ask(shelf.ollama()), anew)

    @pytest.mark.parametrize("side", ["query_prefix", "passage_prefix"])
    async def test_the_same_model_with_another_prefix(self, shelf: Shelf, side: str) -> None:
        await shelf.build(shelf.ollama())
        prefix = {side: "the text that has to be embedded for a search is the following one: "}
        shelf.went_by_words(await shelf.ask(shelf.ollama(**prefix)), "canary's cosine")
        anew = await shelf.build(shelf.ollama(**prefix))
        found = await shelf.ask(shelf.ollama(**prefix))
        assert (found.modes, found.spaces) == ({"hybrid"}, {anew})
        assert found.recall >= shelf.by_words

    async def test_hashing_of_another_corpus(self, shelf: Shelf, tmp_path: Path) -> None:
        await shelf.build(shelf.ollama())
        shelf.went_by_words(await shelf.ask(HashEmbedder(384)), "this corpus' vectors")


class TestTheSameSpace:
    async def test_vectors_that_nobody_normalised(
        self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space = await shelf.build(shelf.ollama())
        monkeypatch.setattr(ollama_vectors, "normalised", lambda vector: 3 * vector)
        shelf.went_by_meaning(await shelf.ask(shelf.ollama()), space)

    async def test_the_model_at_hugging_face_and_its_build_for_ollama(self, shelf: Shelf) -> None:
        space = await shelf.build(shelf.ollama())
        shelf.went_by_meaning(await shelf.ask(shelf.huggingface()), space)
        assert await shelf.build(shelf.huggingface()) == space

    @pytest.mark.parametrize(("noise", "is_near"), [(0.05, True), (0.6, False)])
    async def test_a_quantised_build_is_measured(
        self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, noise: float, is_near: bool
    ) -> None:
        """What it was built from does not count: how near its vectors are does."""
        space = await shelf.build(shelf.huggingface())

        def quantised(text: str, model: str) -> Any:
            exact = vectors.normalised(vectors.raw_vector(text, model))
            other = vectors.normalised(vectors.raw_vector(text, "rounding"))
            return exact + noise * other

        monkeypatch.setattr(ollama_vectors, "raw_vector", quantised)
        found = await shelf.ask(shelf.ollama())
        if is_near:
            assert (found.modes, found.spaces) == ({"hybrid"}, {space})
            assert found.recall >= shelf.by_words
        else:
            shelf.went_by_words(found, "canary's cosine is 0.8")


class TestFailover:
    """An embedder that fails on the way leaves none of its vectors, whoever goes on."""

    @pytest.mark.parametrize("calls", [7, 12, 17])
    async def test_in_the_middle_of_a_batch_and_of_an_ingestion(
        self, shelf: Shelf, calls: int
    ) -> None:
        """The first six calls are canaries, then come nine batches; each is asked twice."""
        shelf.provider.huggingface.embed_faults.extend([None] * calls + [Fault("bad_gateway")] * 99)
        other = shelf.ollama("bge-small-384")
        space = await shelf.build(shelf.huggingface(), other)
        assert space.startswith("ollama:bge-small-384")
        shelf.went_by_meaning(await shelf.ask(other), space, "bge-small-384")

    async def test_to_the_same_model_elsewhere(self, shelf: Shelf) -> None:
        shelf.provider.huggingface.embed_faults.extend([None] * 12 + [Fault("reset")] * 99)
        space = await shelf.build(shelf.huggingface(), shelf.ollama())
        shelf.went_by_meaning(await shelf.ask(shelf.ollama()), space)

    async def test_to_hashing(self, shelf: Shelf) -> None:
        shelf.provider.huggingface.embed_faults.extend([None] * 12 + [Fault("reset")] * 99)
        space = await shelf.build(shelf.huggingface(), HashEmbedder())
        found = await shelf.ask(shelf.huggingface(), HashEmbedder())
        assert space.startswith("hash:")
        assert (found.modes, found.spaces) == ({"hybrid"}, {space})
        assert found.recall_in_their_words == 1.0

    async def test_of_a_question(self, shelf: Shelf) -> None:
        space = await shelf.build(shelf.huggingface())
        chain = shelf.chain(shelf.huggingface(), shelf.ollama("bge-small-384"), shelf.ollama())
        await chain.first()
        shelf.provider.huggingface.embed_fault = Fault("bad_gateway")
        found = await look_up(shelf.place, chain)
        shelf.went_by_meaning(found, space)


class TestASilentChange:
    """Another model answers under the same name, and nobody says so."""

    def change(self, monkeypatch: pytest.MonkeyPatch, name: str = "another-384") -> None:
        monkeypatch.setitem(vectors.SAME_MODEL, MINILM, name)

    async def test_between_two_questions(
        self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A moment ago its canaries were right: the one that goes along with a question tells."""
        space = await shelf.build(shelf.ollama())
        chain = shelf.chain(shelf.ollama())
        with closing(Index.open(shelf.place)) as index:
            question = "Who is the doctor of Bonn?"
            assert (await index.search(question, embedders=chain)).space == space
            self.change(monkeypatch)
            shelf.went_by_words(await look_up(index, chain), "another model answers")
            monkeypatch.undo()
            synonyms.teach_synonyms(monkeypatch)
            shelf.now += 31
            shelf.went_by_meaning(await look_up(index, chain), space)

    async def test_to_another_width(self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
        await shelf.build(shelf.ollama())
        chain = shelf.chain(shelf.ollama())
        await chain.first()
        self.change(monkeypatch, "nomic-embed-text")
        shelf.went_by_words(await look_up(shelf.place, chain), "width changed")

    @pytest.mark.parametrize("change_at", [8, 12, 14])
    async def test_while_documents_are_embedded(
        self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, change_at: int
    ) -> None:
        original = vectors.raw_vector

        def changing(text: str, model: str) -> Any:
            late = len(shelf.provider.ollama.embeddings) > change_at
            return original(text, "another-384" if late else model)

        monkeypatch.setattr(ollama_vectors, "raw_vector", changing)
        space = await shelf.build(shelf.ollama(), shelf.huggingface())
        assert space.startswith("huggingface:")
        shelf.went_by_meaning(await shelf.ask(shelf.huggingface()), space)

    async def test_there_and_back_while_documents_are_embedded(
        self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At the end it is as it was at the beginning; what it gave in between is not kept."""
        original = vectors.raw_vector

        def there_and_back(text: str, model: str) -> Any:
            number = len(shelf.provider.ollama.embeddings)
            return original(text, "another-384" if 10 <= number <= 15 else model)

        monkeypatch.setattr(ollama_vectors, "raw_vector", there_and_back)
        space = await shelf.build(shelf.ollama(), shelf.huggingface())
        assert space.startswith("huggingface:")
        shelf.went_by_meaning(await shelf.ask(shelf.huggingface()), space)

    async def test_a_new_digest_with_the_same_vectors_is_the_same_space(
        self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space = await shelf.build(shelf.ollama())
        revision = "hoptrail.embeddings.ollama.OllamaEmbedder._revision"

        async def pulled_again(_: object) -> str:
            return "another-digest"

        monkeypatch.setattr(revision, pulled_again)
        shelf.went_by_meaning(await shelf.ask(shelf.ollama()), space)
        assert await shelf.build(shelf.ollama()) == space


class TestRecovery:
    async def test_a_question_leaves_the_fallback_without_a_restart(self, shelf: Shelf) -> None:
        space = await shelf.build(shelf.ollama())
        chain = shelf.chain(shelf.ollama(), HashEmbedder())
        shelf.provider.ollama.embed_fault = Fault("status", status=503)
        with closing(Index.open(shelf.place)) as index:
            shelf.went_by_words(await look_up(index, chain), "503")
            shelf.provider.ollama.embed_fault = None
            shelf.now += 31
            shelf.went_by_meaning(await look_up(index, chain), space)

    async def test_an_index_leaves_the_fallback_at_the_next_ingestion(self, shelf: Shelf) -> None:
        """It was built by hashing; an open reader moves on with it."""
        shelf.provider.ollama.embed_fault = Fault("reset")
        chain = shelf.chain(shelf.ollama(), HashEmbedder())
        fallback = await take_in(shelf.docs, shelf.place, chain)
        assert fallback.space is not None
        with closing(Index.open(shelf.place)) as index:
            found = await look_up(index, chain)
            assert found.spaces == {fallback.space.id}
            assert found.recall_in_their_words == 1.0
            shelf.provider.ollama.embed_fault = None
            shelf.now += 31
            report = await take_in(shelf.docs, shelf.place, chain)
            assert report.space is not None
            assert report.unchanged == 1
            shelf.went_by_meaning(await look_up(index, chain), report.space.id)


class TestNoVectors:
    async def test_an_index_of_words_only(self, shelf: Shelf) -> None:
        """The best embedder is up, but nothing in the index is in its space."""
        assert await shelf.build() == ""
        shelf.went_by_words(await shelf.ask(shelf.ollama()), "the index holds no vectors")

    async def test_an_index_without_passages(self, shelf: Shelf) -> None:
        for path in shelf.docs.iterdir():
            path.unlink()
        (shelf.docs / "blank.md").write_text("  \n", encoding="utf-8")
        for embedder in (HashEmbedder(), shelf.ollama()):
            space = await shelf.build(embedder)
            found = await shelf.ask(embedder)
            assert (found.spaces, found.recall) == ({space}, 0.0)


class TestBadVectors:
    @pytest.mark.parametrize("kind", sorted(EMBEDDING))
    async def test_in_an_ingestion(self, shelf: Shelf, kind: str) -> None:
        """The canaries were well; no bad vector is kept."""
        shelf.provider.huggingface.embed_faults.extend([None] * 6 + [Fault(kind)] * 99)
        space = await shelf.build(shelf.huggingface(), shelf.ollama("bge-small-384"))
        assert space.startswith("ollama:bge-small-384")
        shelf.went_by_meaning(
            await shelf.ask(shelf.ollama("bge-small-384")), space, "bge-small-384"
        )

    @pytest.mark.parametrize("kind", sorted(EMBEDDING))
    async def test_of_a_question(self, shelf: Shelf, kind: str) -> None:
        await shelf.build(shelf.huggingface())
        chain = shelf.chain(shelf.huggingface())
        await chain.first()
        shelf.provider.huggingface.embed_fault = Fault(kind)
        shelf.went_by_words(await look_up(shelf.place, chain), "huggingface")


class TestComparing:
    async def test_vectors_of_two_spaces_are_never_compared(self, shelf: Shelf) -> None:
        """An embedder that is passed off as the index's own is refused by its width."""
        await shelf.build(shelf.ollama())

        class Forged(EmbedderChain):
            async def matching(self, *_: Any, **__: Any) -> Embedder:
                return shelf.ollama("nomic-embed-text")

        with pytest.raises(SpaceMismatch, match="is not of the space ollama:all-minilm"):
            await look_up(shelf.place, Forged([]))

    async def test_a_pinned_space_raises(
        self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        face = as_langchain(shelf.chain(shelf.ollama()))
        rows = await face.aembed_documents(["one river"])
        assert np.allclose(rows[0], vectors.unit_vector("one river", MINILM), atol=1e-5)
        monkeypatch.setitem(vectors.SAME_MODEL, MINILM, "another-384")
        shelf.now += 301
        with pytest.raises(SpaceMismatch, match="no embedder of ollama:all-minilm"):
            await face.aembed_query("one river")


class TestWhatIsSaid:
    """The answer and its trace name the space, or say that there was none."""

    @pytest.mark.parametrize("is_up", [True, False])
    def test_of_every_step(self, tmp_path: Path, provider: LoopbackProvider, is_up: bool) -> None:
        docs = tmp_path / "docs"
        write_documents(docs)
        provider.ollama.models = [MINILM]
        settings = load_settings(ollama_host=provider.ollama_url, embedders="ollama")
        with closing(Hoptrail(docs=docs, settings=settings, model=model())) as trail:
            trail.ask(QUESTION)
        provider.ollama.embed_fault = None if is_up else Fault("status", status=503)
        with closing(Hoptrail(docs=docs, settings=settings, model=model())) as trail:
            answer = trail.ask(QUESTION)
        assert answer.text.startswith("Prague")
        for step in answer.trace.steps:
            told = "; ".join(step.warnings)
            if is_up:
                assert step.retrieval_mode == "hybrid"
                assert str(step.embedding_space).startswith("ollama:all-minilm:")
                assert "by words only" not in told
            else:
                assert (step.retrieval_mode, step.embedding_space) == ("lexical", None)
                assert "searched by words only" in told
                assert "503" in told
