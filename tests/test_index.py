"""A question in, evidence out: by words and vectors, or honestly by words only."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from blockbuster import blockbuster_ctx
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from hoptrail.embeddings import EmbedderChain, HashEmbedder
from hoptrail.errors import IndexDamaged, RetrievalError
from hoptrail.evidence import Retrieval
from hoptrail.retrieval.external import ExternalIndex
from hoptrail.retrieval.index import Index
from hoptrail.retrieval.ingest import ingest
from hoptrail.retrieval.store import FILE_NAME, FORMAT
from tests.embedders import MemoryEmbedder

pytestmark = pytest.mark.anyio

CORPUS = """\
{"id": "opera", "title": "The Bartered Bride", "text": "A comic opera by Bedřich Smetana."}
{"id": "smetana", "title": "Bedřich Smetana", "text": "A composer born in Litomyšl."}
{"id": "town", "title": "Litomyšl", "text": "A town with a castle in the Pardubice Region."}
{"id": "bonn", "title": "Bonn", "text": "A city on the Rhine, where Beethoven was born."}
{"id": "bread", "title": "Bread", "text": "Flour, water, salt and yeast."}
"""


@pytest.fixture
def chain() -> EmbedderChain:
    return EmbedderChain([MemoryEmbedder()])


@pytest.fixture
async def place(tmp_path: Path, chain: EmbedderChain) -> Path:
    (tmp_path / "c.jsonl").write_text(CORPUS, encoding="utf-8")
    await ingest([tmp_path / "c.jsonl"], tmp_path / "index", embedders=chain)
    return tmp_path / "index"


@pytest.fixture
async def index(place: Path) -> AsyncIterator[Index]:
    with closing(Index.open(place)) as index:
        yield index


def ids(found: Retrieval) -> list[str]:
    return [evidence.passage.id for evidence in found.evidence]


async def test_a_hybrid_search_says_how_it_found_each_passage(
    index: Index, chain: EmbedderChain
) -> None:
    found = await index.search("Who wrote the Bartered Bride?", k=3, embedders=chain)
    space = await MemoryEmbedder().space()
    assert (found.mode, found.space, found.warnings) == ("hybrid", space.id, ())
    best = found.evidence[0]
    assert (best.passage.id, best.rank, best.passage.source) == ("opera", 1, "c.jsonl")
    assert set(best.scores) == {"bm25", "dense", "graph", "fused"}
    assert best.score == best.scores["graph"]
    scores = [evidence.score for evidence in found.evidence]
    assert scores == sorted(scores, reverse=True)
    assert [evidence.rank for evidence in found.evidence] == [1, 2, 3]


async def test_the_dense_score_is_the_exact_cosine(index: Index, chain: EmbedderChain) -> None:
    question = "Which composer was born in a town with a castle?"
    found = await index.search(question, k=5, embedders=chain)
    embedder = MemoryEmbedder()
    texts = [f"{one.passage.title}\n{one.passage.text}" for one in found.evidence]
    exact = await embedder.embed(texts, "passage") @ (await embedder.embed([question], "query"))[0]
    dense = [one.scores.get("dense", 0.0) for one in found.evidence]
    assert dense == pytest.approx(exact.tolist(), abs=2e-3)


async def test_the_second_hop_comes_over_a_shared_name(index: Index) -> None:
    question = "In which region was the composer of The Bartered Bride born?"
    assert ids(await index.search(question, k=3))[0] == "opera"
    assert {"smetana", "town"} <= set(ids(await index.search(question, k=4)))
    assert "smetana" not in ids(await index.search(question, k=1, graph=False))


async def test_without_the_graph_the_fused_score_ranks(index: Index, chain: EmbedderChain) -> None:
    found = await index.search("a composer", k=5, embedders=chain, graph=False)
    assert [one.score for one in found.evidence] == [one.scores["fused"] for one in found.evidence]
    assert all("graph" not in one.scores for one in found.evidence)


@pytest.mark.parametrize(
    ("embedders", "reason"),
    [
        (None, "no embedder was given"),
        (EmbedderChain([]), "no embedder of the index's space"),
        (EmbedderChain([MemoryEmbedder(weights="another-model")]), "another embedding space"),
        (EmbedderChain([HashEmbedder(384)]), "not built with this corpus' vectors"),
    ],
)
async def test_without_its_embedder_a_search_is_lexical_and_says_why(
    index: Index, embedders: EmbedderChain | None, reason: str
) -> None:
    found = await index.search("Beethoven", embedders=embedders)
    assert (found.mode, found.space, ids(found)[0]) == ("lexical", None, "bonn")
    (warning,) = found.warnings
    assert "searched by words only" in warning
    assert reason in warning
    assert all("dense" not in one.scores for one in found.evidence)


async def test_the_same_model_behind_another_backend_is_accepted(index: Index) -> None:
    other = EmbedderChain([MemoryEmbedder(backend="huggingface")])
    assert (await index.search("Beethoven", embedders=other)).mode == "hybrid"


async def test_an_embedder_that_fails_on_the_question_is_passed_over(index: Index) -> None:
    chain = EmbedderChain(
        [MemoryEmbedder(down_for={"Beethoven"}), MemoryEmbedder(backend="huggingface")]
    )
    found = await index.search("Beethoven", embedders=chain)
    assert (found.mode, found.warnings) == ("hybrid", ())


async def test_when_the_last_embedder_fails_on_the_question_words_are_left(index: Index) -> None:
    found = await index.search(
        "Beethoven", embedders=EmbedderChain([MemoryEmbedder(down_for={"Beethoven"})])
    )
    assert (found.mode, ids(found)[0]) == ("lexical", "bonn")
    assert "it went down" in found.warnings[0]


async def test_recovery_needs_no_restart(index: Index) -> None:
    """An outage is over when the embedder is asked again, a little later."""
    now = [0.0]
    embedder = MemoryEmbedder(down=True)
    chain = EmbedderChain([embedder], clock=lambda: now[0])
    assert (await index.search("Beethoven", embedders=chain)).mode == "lexical"
    embedder.down = False
    now[0] += 60
    assert (await index.search("Beethoven", embedders=chain)).mode == "hybrid"


async def test_a_question_is_embedded_once(index: Index) -> None:
    embedder = MemoryEmbedder()
    chain = EmbedderChain([embedder])
    for _ in range(3):
        assert (await index.search("Beethoven", embedders=chain)).mode == "hybrid"
    assert embedder.asked.count("Beethoven") == 1


@pytest.mark.parametrize("question", ["", "?!", "the of and", "\0", "x" * 100_000])
async def test_a_question_that_says_nothing_finds_nothing_by_words(
    index: Index, question: str
) -> None:
    assert (await index.search(question)).evidence == ()


async def test_there_are_at_most_as_many_as_there_are(index: Index, chain: EmbedderChain) -> None:
    found = ids(await index.search("born yeast opera castle", k=500, embedders=chain))
    assert sorted(found) == ["bonn", "bread", "opera", "smetana", "town"]


async def test_searches_at_the_same_time_do_not_disturb_each_other(
    index: Index, chain: EmbedderChain
) -> None:
    questions = ["Beethoven", "a castle", "yeast", "comic opera"] * 8
    found = await asyncio.gather(*(index.search(text, embedders=chain) for text in questions))
    assert [ids(one)[0] for one in found[:4]] == ["bonn", "town", "bread", "opera"]
    assert [ids(one) for one in found] == [ids(one) for one in found[:4]] * 8


async def test_the_event_loop_is_never_blocked(index: Index, chain: EmbedderChain) -> None:
    with blockbuster_ctx("hoptrail.retrieval"):
        assert (await index.search("Beethoven", embedders=chain)).evidence


async def test_an_open_index_follows_the_one_on_disk(
    index: Index, place: Path, tmp_path: Path, chain: EmbedderChain
) -> None:
    assert (await index.search("Moldau")).evidence == ()
    (tmp_path / "c.jsonl").write_text('{"id": "moldau", "title": "Moldau", "text": "A river."}')
    other = EmbedderChain([MemoryEmbedder(weights="another-model")])
    await ingest([tmp_path / "c.jsonl"], place, embedders=other)
    assert (await index.search("Moldau", embedders=chain)).mode == "lexical"
    found = await index.search("Moldau", embedders=other)
    assert (found.mode, ids(found)) == ("hybrid", ["moldau"])
    assert index.stats().passages == 1


async def test_stats_say_what_there_is(index: Index, place: Path) -> None:
    stats = index.stats()
    assert (stats.passages, stats.sources, stats.format) == (5, 1, FORMAT)
    assert stats.space == await MemoryEmbedder().space()
    assert stats.bytes == (place / FILE_NAME).stat().st_size
    assert (stats.names, stats.links) == (5, 7)


async def test_without_an_index_opening_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match="no index here; make one with `hoptrail ingest PATH"):
        Index.open(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE passages SET text = 'something else' WHERE id = 'bonn'",
        "UPDATE passages SET vector = zeroblob(768) WHERE id = 'bonn'",
        "DELETE FROM passages WHERE id = 'bonn'",
        "DELETE FROM blobs WHERE name = 'graph'",
        "DELETE FROM manifest",
        "UPDATE manifest SET document = '{}'",
    ],
)
async def test_an_index_that_is_not_what_was_written_is_refused(place: Path, change: str) -> None:
    with closing(sqlite3.connect(place / FILE_NAME)) as database, database:
        database.execute(change)
    with pytest.raises(IndexDamaged, match=r"index\.db.*Ingest the documents again"):
        Index.open(place)


class Fixed(BaseRetriever):
    """Gives what it was given."""

    documents: list[Document]

    def _get_relevant_documents(self, query, *, run_manager):  # type: ignore[no-untyped-def] # LangChain's
        if query == "fail":
            raise ValueError("no such thing")
        return self.documents


async def test_any_langchain_retriever_takes_the_place_of_the_index() -> None:
    documents = [
        Document(page_content="one", id="a", metadata={"title": "T", "source": "s", "score": 0.5}),
        Document(page_content="two", metadata={"start_index": 7}),
        Document(page_content="three"),
    ]
    found = await ExternalIndex(Fixed(documents=documents)).search("anything", k=2)
    assert (found.mode, found.space) == ("external", None)
    first, second = found.evidence
    assert first.passage.model_dump() == {
        "id": "a",
        "text": "one",
        "title": "T",
        "source": "s",
        "start": 0,
        "end": 3,
    }
    assert (first.score, second.score, second.rank) == (0.5, 0.5, 2)
    assert (second.passage.start, second.passage.end, len(second.passage.id)) == (7, 10, 16)


async def test_a_failing_retriever_is_a_retrieval_error() -> None:
    with pytest.raises(RetrievalError, match="Fixed failed: ValueError: no such thing"):
        await ExternalIndex(Fixed(documents=[])).search("fail")


async def test_a_tiny_corpus_has_scores_that_say_something(tmp_path: Path) -> None:
    """With two passages SQLite's own bm25() would be nil for every word."""
    (tmp_path / "a.md").write_text("# Vltava\n\nThe Vltava flows through Prague.")
    (tmp_path / "b.md").write_text("# Rhine\n\nThe Rhine flows through Bonn.")
    await ingest([tmp_path], tmp_path / ".index", embedders=None)
    with closing(Index.open(tmp_path / ".index")) as index:
        found = await index.search("Which river flows through Bonn?")
    assert [one.passage.title for one in found.evidence] == ["Rhine", "Vltava"]
    assert found.evidence[0].scores["bm25"] > 2 * found.evidence[1].scores["bm25"] > 0.1


async def test_a_vector_is_stored_at_half_precision(place: Path) -> None:
    with closing(sqlite3.connect(place / FILE_NAME)) as database:
        (vector,) = database.execute("SELECT vector FROM passages").fetchone()
    assert np.frombuffer(vector, np.float16).shape == (384,)
