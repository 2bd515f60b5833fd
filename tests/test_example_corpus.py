"""The example corpus: its questions can be answered from it, and the built-in backend does so."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hoptrail import Hoptrail
from hoptrail.evaluation import exact_match

EXAMPLES = Path(__file__).parent.parent / "examples"
CORPUS = {
    path.name: path.read_text(encoding="utf-8") for path in (EXAMPLES / "corpus").glob("*.md")
}
QUESTIONS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (EXAMPLES / "questions.jsonl").read_text(encoding="utf-8").splitlines()
]


def by_id(question: dict[str, Any]) -> str:
    return str(question["id"])


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_a_document_has_a_title_and_is_short(name: str) -> None:
    title, _, text = CORPUS[name].partition("\n")
    assert re.fullmatch(r"# \S.*", title)
    assert 40 <= len(text.split()) <= 120


def test_every_kind_of_question_is_there() -> None:
    assert len({question["id"] for question in QUESTIONS}) == len(QUESTIONS) >= 12
    assert {1, 2, 3, 4} <= {question["hops"] for question in QUESTIONS}
    kinds = {question["type"] for question in QUESTIONS}
    assert {"bridge", "comparison", "yes_no", "single", "unanswerable"} <= kinds


@pytest.mark.parametrize("question", QUESTIONS, ids=by_id)
def test_the_supporting_documents_contain_the_answers(question: dict[str, Any]) -> None:
    assert set(question["supporting"]) <= set(CORPUS)
    for step in question["decomposition"]:
        assert step["supporting"] in [*question["supporting"], ""]
        if step["answer"] is not None:
            assert step["answer"] in CORPUS[step["supporting"]]


@pytest.mark.parametrize("question", QUESTIONS, ids=by_id)
def test_the_decomposition_ends_in_the_answer(question: dict[str, Any]) -> None:
    steps = question["decomposition"]
    for number, step in enumerate(steps, start=1):
        assert all(int(ref) < number for ref in re.findall(r"#(\d+)", step["question"]))
    if question["type"] in ("bridge", "single", "unanswerable"):
        assert steps[-1]["answer"] == question["answer"]


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hoptrail]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOPTRAIL_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("HOPTRAIL_BACKENDS", "extractive")
        patch.setenv("HOPTRAIL_EMBEDDERS", "hash")
        trail = Hoptrail(docs=EXAMPLES / "corpus")
        yield trail
        trail.close()


@pytest.mark.parametrize("question", QUESTIONS, ids=by_id)
def test_the_built_in_backend_answers_from_the_corpus(
    trail: Hoptrail, question: dict[str, Any]
) -> None:
    answer = trail.ask(question["question"])
    assert answer.degraded
    assert answer.abstained == (question["answer"] is None)
    if question["answer"] is not None:
        short = re.sub(r"\s*\[\d+\]", "", answer.text.partition("\n")[0])
        assert exact_match(short, [question["answer"], *question["aliases"]])
        assert answer.citations
