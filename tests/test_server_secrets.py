"""Keys are in no answer of any route, in no log line and in no file, whatever goes wrong."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from hoptrail.journal import Journal
from tests import two_hops
from tests.canaries import CANARIES, leaks
from tests.providers import ChatRequest, Fault, LoopbackProvider, Reply
from tests.serving import Server, served
from tests.sinks import keys
from tests.test_server_clients import wait_for

pytestmark = pytest.mark.promise("secrets-stay-in")

API_TOKEN = CANARIES["api_token"]
OWN = {"X-Api-Key": CANARIES["client"], "Cookie": f"session={CANARIES['cookie']}"}
HEADERS = {"Authorization": f"Bearer {API_TOKEN}", **OWN}
QUERY = {"user": "anna"}


def echo(request: ChatRequest) -> Reply:
    """Fail as a backend that repeats the key that it was sent."""
    raise RuntimeError(f"bad key {request.headers['authorization']}")


def tell(request: ChatRequest) -> Reply:
    """Answer as a model that says the key, in the middle of an answer and word by word."""
    right = two_hops.respond(request)
    key = request.headers["authorization"].removeprefix("Bearer ")
    said = right.text if request.schema else f"{right.text} By the way: {key}."
    return replace(right, text=said.replace("Prague", f"Prague ({key}) {key}"))


FAULTS: dict[str, Fault | None] = {
    "healthy": None,
    "echo": None,
    "told": None,
    "401": Fault("bad_token", echo=True),
    "402": Fault("out_of_credit"),
    "500": Fault("server_error_html"),
    "loading": Fault("loading"),
    "redirect": Fault("redirect_off_host"),
    "reset": Fault("close"),
    "cut": Fault("stream_reset", after=1),
    "garbage": Fault("garbage_json"),
}


@pytest.fixture(params=FAULTS)
def server(
    request: pytest.FixtureRequest, provider: LoopbackProvider, tmp_path: Path
) -> Iterator[Server]:
    """A server whose Hugging Face fails in one way; nobody else is asked."""
    side = provider.huggingface
    side.respond = {"echo": echo, "told": tell}.get(request.param, two_hops.respond)
    side.fault = side.embed_fault = FAULTS[request.param]
    docs = two_hops.write_documents(tmp_path / "docs")
    flags: dict[str, Any] = {
        **keys(),
        "backends": "huggingface",
        "embedders": "huggingface",
        "deadline": 1.0,
    }
    with served(provider, docs=docs, **flags) as it:
        yield it
    side.unexpected.clear()


def examples(server: Server) -> Iterator[tuple[str, str, Any]]:
    """Give method, path and body of each operation's example, and of what no document has."""
    document = server.http.get("/openapi.json", headers=HEADERS).json()
    bodies = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            bodies[method.upper(), path] = _example(operation, document)
    for route in server.app.routes:
        assert isinstance(route, Route)
        for method in route.methods or {"GET", "POST", "DELETE"}:
            path = route.path.replace("{run_id}", "mine").replace("{model:path}", "x")
            body = bodies.get((method, route.path.replace(":path", "")))
            yield method, path, body


def _example(operation: dict[str, Any], document: dict[str, Any]) -> Any:
    if "requestBody" not in operation:
        return None
    content = operation["requestBody"]["content"]["application/json"]
    if "examples" in content:
        return next(iter(content["examples"].values()))["value"]
    schema = content["schema"]
    schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "examples" in schema:
        return schema["examples"][0]
    fields = schema["properties"]
    return {name: fields[name]["examples"][0] for name in schema.get("required", ())}


def answers(server: Server) -> Iterator[httpx.Response]:
    """Ask everything rightly, without the token, with another one, and with a broken body."""
    for method, path, body in examples(server):
        for token in (API_TOKEN, f"{API_TOKEN}x", "x"):
            headers = {**OWN, "Authorization": f"Bearer {token}"}
            yield server.http.request(method, path, params=QUERY, json=body, headers=headers)
        broken = {**HEADERS, "Content-Type": "application/json"}
        yield server.http.request(method, path, content=b"{", headers=broken)


def test_keys_are_nowhere_but_in_requests(
    server: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
    mine = {"question": two_hops.QUESTION, "run_id": "mine"}
    server.http.post("/reasoning/multi-hop", json=mine, headers=HEADERS)
    told = [f"{answer.headers} {answer.text}" for answer in answers(server)]
    assert len(told) > 100
    with monkeypatch.context() as broken:
        broken.setattr(Journal, "runs", None)
        fault = server.http.get("/runs", headers=HEADERS)
    assert fault.status_code == 500
    wait_for(lambda: "Traceback" in caplog.text)  # it is told after the answer
    out, err = capfd.readouterr()
    kept = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert kept
    assert not leaks("".join([*told, fault.text, out, err, caplog.text]))
    assert not leaks(b"".join(kept))
