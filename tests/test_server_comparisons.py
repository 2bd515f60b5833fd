"""The route that compares two runs."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hoptrail.comparison import Comparison, compare
from tests import two_hops
from tests.providers import ChatRequest, LoopbackProvider, Reply
from tests.serving import Server, served
from tests.test_server_clients import hang_in, in_phase, wait_for

ASK = "/reasoning/multi-hop"


@pytest.fixture
def server(provider: LoopbackProvider, tmp_path: Path) -> Iterator[Server]:
    two_hops.serve(provider)
    with served(provider, docs=two_hops.write_documents(tmp_path / "docs")) as it:
        yield it


def ask(server: Server, run_id: str) -> None:
    body = {"question": two_hops.QUESTION, "run_id": run_id}
    assert server.http.post(ASK, json=body).status_code == 200


def test_two_runs_are_compared(server: Server, provider: LoopbackProvider) -> None:
    ask(server, "one")

    def otherwise(request: ChatRequest) -> Reply:
        reply = two_hops.respond(request)
        asked = two_hops.kind_of(request)
        return Reply(reply.text.replace("Prague", "Kierling")) if "born" in asked else reply

    provider.ollama.respond = otherwise
    ask(server, "other")
    told = server.http.get("/runs/one/diff/other")
    assert told.status_code == 200
    assert told.headers["content-type"] == "application/json"
    journal = server.trail.assembly.journal
    compared = Comparison.model_validate(told.json())
    assert compared == compare(journal.trace("one"), journal.trace("other"))
    assert compared.first == "Step 2 was answered differently: “Kierling” instead of “Prague”."
    assert [step.same for step in compared.steps] == [True, False]


def test_a_run_under_way_is_compared_as_far_as_it_has_come(
    server: Server, provider: LoopbackProvider
) -> None:
    ask(server, "one")
    hang_in(provider, "synthesis")
    with ThreadPoolExecutor() as pool:
        body = {"question": two_hops.QUESTION, "run_id": "live", "detach": True}
        waiting = pool.submit(server.http.post, ASK, json=body)
        wait_for(lambda: in_phase(provider, "synthesis"))
        compared = Comparison.model_validate(server.http.get("/runs/one/diff/live").json())
        server.http.post("/runs/live/cancel")
        waiting.result(20)
    assert [step.same for step in compared.steps] == [True, True]
    told = {each.name: (each.before, each.after) for each in compared.differences}
    assert told["status"] == ("answered", "running")


def test_what_is_not_there_is_not_compared(server: Server) -> None:
    ask(server, "one")
    for path in ("/runs/one/diff/none", "/runs/none/diff/one"):
        refused = server.http.get(path)
        assert refused.status_code == 404
        assert refused.json()["error"]["type"] == "run_not_found"
    assert server.http.get("/runs/one/diff/a%20b").status_code == 422


def test_no_secret_of_a_run_under_way_is_told(provider: LoopbackProvider, tmp_path: Path) -> None:
    two_hops.serve(provider)
    docs = two_hops.write_documents(tmp_path / "docs")
    with served(provider, docs=docs, api_token="hk-4f2a9c81b7d03e") as server:
        headers = {"Authorization": "Bearer hk-4f2a9c81b7d03e"}
        server.http.headers.update(headers)
        ask(server, "one")
        hang_in(provider, "plan")
        with ThreadPoolExecutor() as pool:
            body = {"question": "What does hk-4f2a9c81b7d03e open?", "run_id": "live"}
            waiting = pool.submit(server.http.post, ASK, json=body)
            wait_for(lambda: in_phase(provider, "plan"))
            told = server.http.get("/runs/one/diff/live")
            server.http.post("/runs/live/cancel")
            waiting.result(20)
    assert told.json()["first"].startswith("Another question was asked: “What does ")
    assert "hk-4f2a9c81b7d03e" not in told.text
