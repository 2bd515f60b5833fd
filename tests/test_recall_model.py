"""With the real all-MiniLM-L6-v2 weights: what the index finds is what the vectors say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from hoptrail.embeddings import EmbedderChain, LocalEmbedder
from hoptrail.retrieval.documents import find, read
from hoptrail.retrieval.index import Index
from hoptrail.retrieval.ingest import ingest

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "examples" / "corpus"
WEIGHTS = ROOT / ".models" / "all-MiniLM-L6-v2"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.model,
    pytest.mark.skipif(
        not (WEIGHTS / "model.onnx").is_file(), reason="no weights in .models; run `make model`"
    ),
]

QUESTIONS = (
    "Which river flows through the city where Bedřich Smetana died?",
    "Who discovered penicillin?",
    "On which continent is Aconcagua?",
    "Who wrote the novel about a Transylvanian count?",
)


@pytest.fixture(scope="module")
def embedder() -> LocalEmbedder:
    return LocalEmbedder("sentence-transformers/all-MiniLM-L6-v2", path=WEIGHTS)


@pytest.fixture(scope="module")
async def index(
    embedder: LocalEmbedder, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Index]:
    place = tmp_path_factory.mktemp("index")
    await ingest([CORPUS], place, embedders=EmbedderChain([embedder]))
    with closing(Index.open(place)) as index:
        yield index


@pytest.mark.parametrize("question", QUESTIONS)
async def test_the_dense_ranking_is_that_of_the_exact_neighbours(
    index: Index, embedder: LocalEmbedder, question: str
) -> None:
    files, _ = find([CORPUS])
    passages = [passage for file in files for passage in read(file, [])]
    vectors = await embedder.embed([f"{one.title}\n{one.text}" for one in passages], "passage")
    cosines = vectors @ (await embedder.embed([question], "query"))[0]
    exact = {one.id: float(cosine) for one, cosine in zip(passages, cosines, strict=True)}

    found = await index.search(question, k=len(passages), embedders=EmbedderChain([embedder]))
    dense = {one.passage.id: one.scores["dense"] for one in found.evidence}
    assert dense == pytest.approx({name: exact[name] for name in dense}, abs=2e-3)
    nearest = [passages[row].id for row in np.argsort(-cosines)[:10]]
    assert set(nearest) <= set(dense)
    by_index = sorted(dense, key=lambda name: -dense[name])[:10]
    assert [exact[name] for name in by_index] == pytest.approx(
        [exact[name] for name in nearest], abs=2e-3
    )


async def test_the_passages_that_answer_come_first(index: Index, embedder: LocalEmbedder) -> None:
    found = await index.search("Who discovered penicillin?", embedders=EmbedderChain([embedder]))
    assert found.mode == "hybrid"
    best = {one.passage.title for one in found.evidence[:2]}
    assert best == {"Penicillin", "Alexander Fleming"}
