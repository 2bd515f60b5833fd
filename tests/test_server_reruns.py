"""``POST /runs/{run_id}/rerun``: a fork over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hoptrail.answer import answer_of
from hoptrail.server.answer_body import AnswerBody
from tests import four_hops
from tests.four_hops import CHAIN, QUESTION, asked
from tests.providers import Fault, LoopbackProvider
from tests.serving import Server, served
from tests.test_server_clients import wait_for
from tests.test_server_runs import frames

CHANGE = {"step": 4, "answer": "1 mile"}


@pytest.fixture
def server(provider: LoopbackProvider, tmp_path: Path) -> Iterator[Server]:
    four_hops.serve(provider, CHAIN)
    docs = four_hops.write_documents(tmp_path / "docs")
    with served(provider, docs=docs) as it:
        yield it


@pytest.fixture
def parent(server: Server, provider: LoopbackProvider) -> str:
    """A run that has ended."""
    answer = server.http.post("/reasoning/multi-hop", json={"question": QUESTION})
    assert answer.status_code == 200
    asked(provider)
    run_id: str = answer.json()["run_id"]
    return run_id


def test_a_fork_answers_like_a_question_and_is_linked(
    server: Server, provider: LoopbackProvider, parent: str
) -> None:
    answer = server.http.post(f"/runs/{parent}/rerun", json=CHANGE)
    assert answer.status_code == 200
    assert asked(provider) == ["synthesis"]
    told = answer.json()
    assert set(told) == set(AnswerBody.model_fields)
    assert told["parent_run_id"] == parent
    assert told["change"]["answer"] == "1 mile"
    assert told["steps"][3]["given"]
    assert told["steps"][0]["from_run"] == parent
    assert told["usage"]["llm_calls"] == 1
    assert answer.headers["x-hoptrail-run-id"] == told["run_id"]
    trace = server.trail.assembly.journal.trace(told["run_id"])
    assert told == answer_of(trace).as_json()
    newest, oldest = server.http.get("/runs").json()["runs"]
    assert (newest["run_id"], newest["parent_run_id"]) == (told["run_id"], parent)
    assert (oldest["run_id"], oldest["parent_run_id"]) == (parent, "")


def test_a_fork_is_told_as_it_happens(server: Server, parent: str) -> None:
    body = {**CHANGE, "stream": True, "run_id": "fork"}
    told = server.http.post(f"/runs/{parent}/rerun", json=body)
    assert told.headers["x-hoptrail-run-id"] == "fork"
    events = frames(told.text)
    assert events[0][1] == "RUN_STARTED"
    assert not events[0][2]["resumed"]
    finished = [data["step"] for _, kind, data in events if kind == "STEP_FINISHED"]
    assert {step["id"]: bool(step["from_run"]) for step in finished} == {
        1: True,
        2: True,
        3: True,
        4: False,
    }
    assert events[-1][2]["answer"]["parent_run_id"] == parent
    trace = server.http.get("/runs/fork/trace.json").json()
    assert (trace["parent_run_id"], trace["change"]["step"]) == (parent, 4)


def test_a_detached_fork_goes_on(server: Server, provider: LoopbackProvider, parent: str) -> None:
    body = {**CHANGE, "detach": True, "stream": True, "run_id": "fork"}
    with server.http.stream("POST", f"/runs/{parent}/rerun", json=body) as told:
        assert told.status_code == 200
    wait_for(lambda: server.http.get("/runs/fork").json()["status"] == "answered")
    assert asked(provider) == ["synthesis"]


def test_passages_are_a_list(server: Server, parent: str) -> None:
    trace = server.http.get(f"/runs/{parent}/trace.json").json()
    passage = trace["steps"][0]["evidence"][0]["passage"]["id"]
    told = server.http.post(f"/runs/{parent}/rerun", json={"step": 1, "banned": [passage]})
    assert told.status_code == 200
    held = [item["passage_id"] for item in told.json()["steps"][0]["evidence"]]
    assert passage not in held


def test_the_same_fork_under_the_same_id_is_finished_and_another_is_not_taken_for_it(
    server: Server, provider: LoopbackProvider, parent: str
) -> None:
    provider.ollama.fault = Fault("status", status=500)
    body: dict[str, Any] = {**CHANGE, "run_id": "fork"}
    assert server.http.post(f"/runs/{parent}/rerun", json=body).status_code == 503
    provider.ollama.fault = None
    other = server.http.post(f"/runs/{parent}/rerun", json={**body, "answer": "2 miles"})
    assert (other.status_code, other.json()["error"]["type"]) == (409, "run_of_another")
    own = server.http.post(f"/runs/{parent}/rerun", json={**CHANGE, "run_id": parent})
    assert own.status_code == 409


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({}, 422, "unprocessable_content"),
        ({"answer": "x"}, 422, "unprocessable_content"),
        ({"step": "1", "answer": "x"}, 422, "unprocessable_content"),
        ({"step": 1, "answer": 5}, 422, "unprocessable_content"),
        ({"step": 1, "pinned": [1]}, 422, "unprocessable_content"),
        ({"step": 1, "pinned": "p"}, 422, "unprocessable_content"),
        ({"step": 1, "answer": "x", "other": 1}, 422, "unprocessable_content"),
        ({"step": 9, "answer": "x"}, 422, "change_impossible"),
        ({"step": 1, "question": "Where is #2?"}, 422, "change_impossible"),
        ({"step": 1, "pinned": ["nothing"]}, 422, "change_impossible"),
        # Nobody sends this server's documents to a backend that its owner did not choose.
        ({"model": "huggingface:openai/gpt-oss-20b"}, 422, "change_impossible"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(
    server: Server, provider: LoopbackProvider, parent: str, body: Any, status: int, kind: str
) -> None:
    for stream in (False, True):
        told = server.http.post(f"/runs/{parent}/rerun", json={**body, "stream": stream})
        assert (told.status_code, told.json()["error"]["type"]) == (status, kind)
    assert asked(provider) == []
    assert len(server.http.get("/runs").json()["runs"]) == 1


def test_a_run_that_is_not_there_or_still_under_way_has_no_fork(
    server: Server, provider: LoopbackProvider
) -> None:
    assert server.http.post("/runs/nothing/rerun", json=CHANGE).status_code == 404
    provider.ollama.fault = Fault("hang", seconds=60)
    body = {"question": QUESTION, "run_id": "long", "stream": True}
    with server.http.stream("POST", "/reasoning/multi-hop", json=body) as answer:
        lines = answer.iter_lines()  # let go of, it would leave the run
        next(lines)
        told = server.http.post("/runs/long/rerun", json=CHANGE)
        assert (told.status_code, told.json()["error"]["type"]) == (409, "run_busy")
    provider.ollama.fault = None
