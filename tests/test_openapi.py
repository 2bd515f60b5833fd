"""The OpenAPI document: complete, and what the server does is in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests import two_hops
from tests.providers import LoopbackProvider
from tests.serving import Server, served

TOKEN = "key-of-the-house"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def server(provider: LoopbackProvider, tmp_path: Path) -> Iterator[Server]:
    two_hops.serve(provider)
    provider.ollama.models.append("all-minilm")
    provider.huggingface.any_model = True
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


def test_without_a_token_the_document_asks_for_none(tmp_path: Path) -> None:
    with served(home=tmp_path) as server:
        document = server.http.get("/openapi.json").json()
    for name, operation in operations(document):
        assert "security" not in operation, name
        assert "401" not in operation["responses"], name


@pytest.mark.timeout(300)
def test_made_up_requests_meet_no_server_error_and_no_status_that_is_not_told(
    server: Server, document: dict[str, Any]
) -> None:
    schema = schemathesis.openapi.from_dict(document)
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        _try(result.ok(), server)


def _try(operation: Any, server: Server) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=12,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def made_up(case: Any) -> None:
        answer = case.call(base_url=server.url, headers=HEADERS, timeout=30)
        # A model that Hugging Face does not have is its refusal, not an error of the server's.
        refused = answer.status_code == 503 and "backend_refused" in answer.text
        assert answer.status_code < 500 or refused, (operation.label, answer.text)
        checks = [status_code_conformance, content_type_conformance, response_schema_conformance]
        case.validate_response(answer, checks=checks)

    made_up()
