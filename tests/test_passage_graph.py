"""The passage graph: personalised PageRank over the names that passages share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.retrieval.graph import COUNT_CAP, RESTART, Mass, PassageGraph
from hoptrail.retrieval.index import fuse, ranked

Mentions = list[dict[str, int]]
NAMES = ("prague", "vltava", "smetana", "bonn", "rhine")

mentions_lists = st.lists(
    st.dictionaries(st.sampled_from(NAMES), st.integers(1, 5)), min_size=1, max_size=12
)
scores_of = st.floats(0, 1, width=32)


def seeds(graph: PassageGraph, data: st.DataObject) -> tuple[Mass, Mass]:
    """Seeds of mass 1 somewhere in the graph."""
    size = graph.size + len(graph.names)
    drawn = data.draw(st.lists(st.integers(0, 9), min_size=size, max_size=size))
    mass = np.array(drawn, np.float32)
    mass[0] += 1
    mass /= mass.sum()
    return mass[: graph.size], mass[graph.size :]


def dense_pagerank(mentions: Mentions, graph: PassageGraph, seed: Mass) -> Mass:
    """The same walk in a few lines of dense linear algebra: (I - (1 - a) P^T) y = a x."""
    size, names = graph.size, list(graph.names)
    links = np.zeros((size + len(names),) * 2)
    for passage, counted in enumerate(mentions):
        for name, count in counted.items():
            if name in graph.names:
                holders = sum(name in other for other in mentions)
                weight = np.sqrt(min(count, COUNT_CAP)) * np.log1p(size / holders)
                column = size + names.index(name)
                links[passage, column] = links[column, passage] = weight
    alone = links.sum(axis=1) == 0
    links[alone, alone] = 1
    step = links / links.sum(axis=1, keepdims=True)
    solved: Mass = np.linalg.solve(np.eye(len(links)) - (1 - RESTART) * step.T, RESTART * seed)
    return solved


@given(mentions_lists, st.data())
def test_the_walk_is_personalised_pagerank(mentions: Mentions, data: st.DataObject) -> None:
    graph = PassageGraph.build(mentions, NAMES[:2])
    passages, names = seeds(graph, data)
    exact = dense_pagerank(mentions, graph, np.concatenate([passages, names]))
    assert np.concatenate(graph.walk(passages, names)) == pytest.approx(exact, abs=2e-3)


@given(mentions_lists, st.data())
def test_no_mass_is_lost_or_made(mentions: Mentions, data: st.DataObject) -> None:
    graph = PassageGraph.build(mentions, NAMES)
    on_passages, on_names = graph.walk(*seeds(graph, data))
    assert on_passages.sum() + on_names.sum() == pytest.approx(1, abs=5e-3)
    assert (on_passages >= 0).all()
    assert (on_names >= 0).all()


@given(mentions_lists, st.data())
def test_seeds_have_mass_one(mentions: Mentions, data: st.DataObject) -> None:
    graph = PassageGraph.build(mentions, NAMES)
    drawn = data.draw(st.lists(scores_of, min_size=graph.size, max_size=graph.size))
    fused = np.array(drawn, np.float32)
    fused[0] = 1
    passages, names = graph.seeds("is Prague on the Vltava or is Bonn?", fused)
    assert passages.sum() + names.sum() == pytest.approx(1, abs=1e-5)


@given(mentions_lists)
def test_what_was_dumped_walks_the_same(mentions: Mentions) -> None:
    graph = PassageGraph.build(mentions, NAMES)
    again = PassageGraph.restored(graph.dump(), graph.size)
    fused = np.linspace(1, 0, graph.size, dtype=np.float32)
    question = "Does the Vltava reach Bonn?"
    assert again.names == graph.names
    assert np.array_equal(again.scores(question, fused), graph.scores(question, fused))


def test_the_second_hop_is_found_over_a_shared_name() -> None:
    mentions = [
        {"smetana": 3, "vltava": 1},
        {"vltava": 3, "prague": 1},
        {"bonn": 3, "rhine": 1},
        {"rhine": 3},
    ]
    graph = PassageGraph.build(mentions, ["smetana", "vltava", "bonn", "rhine"])
    fused = np.array([1, 0, 0.4, 0.4], np.float32)
    scores = graph.scores("Through which city flows the river that Smetana set to music?", fused)
    assert ranked(scores, fused, 4).tolist()[:2] == [0, 1]


@given(st.lists(scores_of, min_size=1, max_size=30), st.integers(1, 30))
def test_without_links_the_fused_ranking_stands(drawn: list[float], k: int) -> None:
    """However the question names titles: a graph without links has nothing to say."""
    names = [f"title {number}" for number in range(len(drawn))]
    graph = PassageGraph.build([{name: 2} for name in names], names)
    fused = np.array(drawn, np.float32)
    scores = graph.scores("Is Title 3 older than Title 1?", fused)
    order = [row for row in np.argsort(-fused, kind="stable") if fused[row] > 0]
    assert ranked(scores, fused, k).tolist() == order[:k]


@given(st.lists(st.tuples(scores_of, scores_of), min_size=1, max_size=30), st.integers(1, 30))
def test_a_ranking_is_the_best_k_of_a_permutation(drawn: list[tuple[float, float]], k: int) -> None:
    graph, fused = (np.array(column, np.float32) for column in zip(*drawn, strict=True))
    keys = list(zip((-graph).tolist(), (-fused).tolist(), range(len(drawn)), strict=True))
    seen = [key for key in sorted(keys) if key[0] < 0 or key[1] < 0]
    assert ranked(graph, fused, k).tolist() == [row for _, _, row in seen][:k]


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20))
def test_fused_scores_are_shares_of_the_best(drawn: list[float]) -> None:
    part = np.array(drawn, np.float32)
    fused = fuse(part, np.zeros_like(part))
    assert ((fused >= 0) & (fused <= 0.5)).all()
    if (part > 1e-6).any():
        assert fused.max() == pytest.approx(0.5)
        assert fused.argmax() == part.argmax()


def test_names_that_link_nothing_and_title_nothing_are_left_out() -> None:
    graph = PassageGraph.build([{"prague": 1, "bonn": 1}, {"prague": 1, "rhine": 1}], ["rhine"])
    assert set(graph.names) == {"prague", "rhine"}
    assert graph.edges == 3


def test_no_passages_are_a_graph_too() -> None:
    graph = PassageGraph.build([], [])
    assert graph.scores("Prague?", np.zeros(0, np.float32)).shape == (0,)
