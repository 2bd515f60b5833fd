"""A trail as a retriever: one search, or the evidence of all steps of a question."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import create_retriever_tool

from hoptrail import Hoptrail, HoptrailError, RetrievalError, load_settings
from hoptrail.evidence import Citation, Passage
from hoptrail.evidence_retriever import evidence_of
from hoptrail.trace import StepTrace, Trace, TracedEvidence
from tests import two_hops

pytestmark = pytest.mark.anyio


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[Hoptrail]:
    docs = two_hops.write_documents(tmp_path / "docs")
    (docs / "moon.md").write_text("# Moon\nThe Moon was not born, nor written.\n", "utf-8")
    trail = Hoptrail(docs, model=two_hops.model(), settings=offline())
    yield trail
    trail.close()


def offline() -> Any:
    return load_settings(backends="extractive", embedders="hash")


async def test_one_search_gives_the_best_passages(trail: Hoptrail) -> None:
    found = await trail.as_retriever(k=1).ainvoke("Where was Franz Kafka born?")
    (document,) = found
    assert "born in Prague" in document.page_content
    assert document.metadata["title"] == "Franz Kafka"
    assert document.metadata["source"] == "docs/people.md"
    assert document.metadata["rank"] == 1
    assert document.metadata["score"] > 0
    assert document.metadata["mode"] == "hybrid"
    assert document.metadata["space"]
    assert document.metadata["id"] == document.id


async def test_one_trail_retrieves_for_another_without_a_loss(trail: Hoptrail) -> None:
    question = "Where was Franz Kafka born?"
    other = Hoptrail(retriever=trail.as_retriever(k=3), settings=offline())
    search, same = trail.assembly.parts.search, other.assembly.parts.search
    assert search is not None
    assert same is not None
    found, again = await search(question, 3), await same(question, 3)
    assert [each.passage for each in again.evidence] == [each.passage for each in found.evidence]
    assert [each.score for each in again.evidence] == [each.score for each in found.evidence]
    other.close()


async def test_both_doors_give_the_same(trail: Hoptrail) -> None:
    retriever = trail.as_retriever()
    asynchronous = await retriever.ainvoke("Who wrote The Trial?")
    assert await asyncio.to_thread(retriever.invoke, "Who wrote The Trial?") == asynchronous
    # A synchronous call works where an event loop runs already, as in a notebook.
    assert retriever.invoke("Who wrote The Trial?") == asynchronous


async def test_a_question_gives_the_evidence_of_all_its_steps(trail: Hoptrail) -> None:
    found = await trail.as_retriever(multi_hop=True).ainvoke(two_hops.QUESTION)
    assert [document.metadata["cited"] for document in found][:2] == [True, True]
    # As the answer cites them: [1] is the first.
    assert [document.metadata["title"] for document in found][:2] == ["Franz Kafka", "The Trial"]
    assert {document.metadata["step"] for document in found} <= {1, 2}
    assert len({document.id for document in found}) == len(found)


async def test_what_was_cited_is_never_cut(trail: Hoptrail) -> None:
    found = await trail.as_retriever(k=1, multi_hop=True).ainvoke(two_hops.QUESTION)
    assert [document.metadata["cited"] for document in found] == [True, True]


@pytest.mark.parametrize("multi_hop", [False, True])
async def test_an_agents_tool_can_be_made_of_it(trail: Hoptrail, multi_hop: bool) -> None:
    retriever = trail.as_retriever(multi_hop=multi_hop)
    tool = create_retriever_tool(
        retriever, "notes", "Searches.", response_format="content_and_artifact"
    )
    call: Any = {"name": "notes", "args": {"query": two_hops.QUESTION}, "id": "1"}
    told = await tool.ainvoke({**call, "type": "tool_call"})
    assert "born in Prague" in told.text
    assert all(isinstance(document, Document) for document in told.artifact)


class Shelf(BaseRetriever):
    """Always the same document."""

    def _get_relevant_documents(self, query: str, **_: object) -> list[Document]:
        return [Document("It is so.", metadata={"source": "shelf.md"})]


async def test_a_retriever_of_the_callers_is_searched_too() -> None:
    trail = Hoptrail(retriever=Shelf(), settings=offline())
    (document,) = await trail.as_retriever().ainvoke("Is it so?")
    assert document.metadata["mode"] == "external"
    assert document.metadata["source"] == "shelf.md"
    trail.close()


@pytest.mark.parametrize("multi_hop", [False, True])
def test_without_documents_it_says_how_to_give_some(multi_hop: bool) -> None:
    trail = Hoptrail(settings=offline())
    with pytest.raises(RetrievalError, match=r"docs=.*HOPTRAIL_DOCS"):
        trail.as_retriever(multi_hop=multi_hop)
    trail.close()


@pytest.mark.parametrize("multi_hop", [False, True])
def test_no_passages_cannot_be_asked_for(trail: Hoptrail, multi_hop: bool) -> None:
    with pytest.raises(HoptrailError, match="k=0"):
        trail.as_retriever(0, multi_hop=multi_hop)


def test_documents_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    trail = Hoptrail(tmp_path / "nowhere", settings=offline())
    with pytest.raises(RetrievalError, match="nowhere"):
        trail.as_retriever().invoke("Who?")
    trail.close()


items = st.builds(
    lambda name, rank, cited: TracedEvidence(
        passage=Passage(id=name, text=name), rank=rank, score=1 / rank, cited=cited
    ),
    st.sampled_from("abcdefgh"),
    st.integers(1, 9),
    st.booleans(),
)
traces = st.builds(
    lambda evidence, cited: Trace(
        run_id="r",
        question="?",
        steps=[
            StepTrace(id=number, question="?", evidence=given)
            for number, given in enumerate(evidence, start=1)
        ],
        citations=[Citation(passage_id=name, source="") for name in cited],
    ),
    st.lists(st.lists(items, max_size=6), max_size=4),
    st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=4),
)


@given(traces, st.integers(0, 8))
def test_evidence_is_given_once_the_cited_first(trace: Trace, k: int) -> None:
    found = evidence_of(trace, k)
    names = [document.id for document in found]
    retrieved = {item.passage.id for step in trace.steps for item in step.evidence}
    cited = {
        item.passage.id
        for step in trace.steps
        for item in step.evidence
        if item.cited or item.passage.id in {each.passage_id for each in trace.citations}
    }
    assert len(set(names)) == len(names)
    assert set(names[: len(cited)]) == cited
    assert len(names) == min(max(k, len(cited)), len(retrieved))
    by_answer = [each.passage_id for each in trace.citations if each.passage_id in retrieved]
    assert names[: len(by_answer)] == by_answer
