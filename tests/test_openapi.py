"""The OpenAPI document: complete, and what the server does is in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from hoptrail.server.answer_body import AnswerBody, StepBody
from tests import two_hops
from tests.made_up_requests import make_up_requests
from tests.providers import ChatRequest, LoopbackProvider, Reply
from tests.serving import Server, served

TOKEN = "key-of-the-house"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def answer_anything(request: ChatRequest) -> Reply:
    """Answer as a good model would, and what it cannot know, briefly."""
    asked = two_hops.kind_of(request)
    known = request.schema or asked == "synthesis"
    return two_hops.respond(request) if known else Reply("It is Prague.")


@pytest.fixture
def server(provider: LoopbackProvider, tmp_path: Path) -> Iterator[Server]:
    two_hops.serve(provider)
    provider.ollama.models.append("all-minilm")
    provider.huggingface.respond = answer_anything
    docs = two_hops.write_documents(tmp_path / "docs")
    flags: dict[str, Any] = {"api_token": TOKEN, "token": "hf_x", "backends": "huggingface,ollama"}
    with served(provider, docs=docs, **flags) as it:
        yield it


@pytest.fixture
def document(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.http.get("/openapi.json", headers=HEADERS).json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_every_route_is_in_the_document(server: Server, document: dict[str, Any]) -> None:
    hidden = {"/openapi.json"}
    for route in server.app.routes:
        if isinstance(route, APIRoute) and route.path not in hidden:
            path = route.path.replace(":path}", "}")
            assert {each.lower() for each in route.methods or ()} <= set(document["paths"][path]), (
                path
            )


def test_every_operation_says_what_it_is_and_how_it_fails(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        statuses = set(operation["responses"])
        assert {"400", "403", "414", "421", "422", "431", "500", "503"} <= statuses, name
        assert ("401" in statuses) == ("security" in operation) == (name != "get /healthz"), name
        if "requestBody" in operation:
            assert {"413", "415"} <= statuses, name
        for status, response in operation["responses"].items():
            if status.startswith(("4", "5")) and (name, status) != ("get /readyz", "503"):
                schema = response["content"]["application/json"]["schema"]
                assert schema["$ref"].endswith("Problem"), (name, status)


def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        if body := operation.get("requestBody"):
            content = body["content"]["application/json"]
            schema = content["schema"]
            if "$ref" in schema:
                schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            told = [schema["properties"][each] for each in schema.get("required", ())]
            whole = "examples" in content or "examples" in schema
            assert whole or (told and all("examples" in each for each in told)), name


def test_an_answer_has_the_fields_that_are_declared(server: Server) -> None:
    body = {"question": two_hops.QUESTION}
    told = server.http.post("/reasoning/multi-hop", json=body, headers=HEADERS).json()
    assert set(told) == set(AnswerBody.model_fields)
    assert set(told["steps"][0]) == set(StepBody.model_fields)


def test_without_a_token_the_document_asks_for_none(tmp_path: Path) -> None:
    with served(home=tmp_path) as server:
        document = server.http.get("/openapi.json").json()
    for name, operation in operations(document):
        assert "security" not in operation, name
        assert "401" not in operation["responses"], name


@pytest.mark.timeout(1800)
def test_what_is_made_up_from_the_document_is_answered_as_it_says(
    server: Server, document: dict[str, Any], tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Both backends are up: whatever is answered 500 or more is a fault."""
    # The run that the document names as the other one of two: no answer tells its id.
    body = {"question": two_hops.QUESTION, "run_id": "20261122-101500-b81d03"}
    server.http.post("/reasoning/multi-hop", json=body, headers=HEADERS).raise_for_status()
    examples = pytestconfig.getoption("--api-examples")
    outcome = make_up_requests(server.url, HEADERS, tmp_path, examples)
    print(f"\n{outcome.table}")  # noqa: T201 # `make api` shows it
    assert not outcome.failures, outcome.told
    for name, _ in operations(document):
        met = outcome.statuses[name.partition(" ")[0].upper() + name[name.index(" ") :]]
        assert any(status < 300 for status in met), (name, met)
