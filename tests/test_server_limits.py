"""What is too large, too slow, too deep or no proper JSON is turned away, at next to no cost."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route

from hoptrail import Hoptrail, load_settings
from hoptrail.server import launch
from hoptrail.server.gate import MAX_BODY
from hoptrail.server.strict_json import MAX_DEPTH, NotStrict, read_strict_json
from hoptrail.testing import ScriptedChatModel, script
from tests.raw import ask_raw, connected, post, status_of, until_answered
from tests.serving import Server, served

ASK = "/reasoning/multi-hop"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(home=tmp_path_factory.mktemp("home")) as it:
        yield it


NOT_STRICT = {
    b'{"question": NaN}': "NaN",
    b'{"question": "a", "x": -Infinity}': "-Infinity",
    b'{"question": 1e999}': "too large",
    b'{"question": ' + b"9" * 100_000 + b"}": "too large",
    b'{"question": "a\\ud800z"}': "surrogate",
    b'{"\\udfff": 1}': "surrogate",
    b'{"question": "a", "question": "b"}': "twice",
    b'{"question": {"a": 1, "a": 1}}': "twice",
    b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1): "deeper",
    b"[" * 300_000 + b"]" * 300_000: "deeper",
    b'{"a":' * 200_000: "deeper",
    b'\xef\xbb\xbf{"question": "a"}': "byte order mark",
    '{"question": "a"}'.encode("utf-16"): "UTF-8",
    b'{"question": "\xff\xfe"}': "UTF-8",
    b'{"question": "a"} {}': "extra data",
    b"{'question': 'a'}": "JSON",
    b'{"question": "a"': "JSON",
    b'{"question": "a\nb"}': "control character",
}


def posts(server: Server) -> list[tuple[str, bool]]:
    """Give the paths that take a POST, and whether a body of JSON belongs to it."""
    found = []
    for route in server.app.routes:
        assert isinstance(route, Route)
        if "POST" in (route.methods or {"POST"}):
            path = re.sub(r"\{[^}]*\}", "x", route.path)
            found.append((path, getattr(route, "body_field", None) is not None))
    return found


@pytest.mark.parametrize(("body", "why"), NOT_STRICT.items(), ids=range(len(NOT_STRICT)))
def test_json_that_others_would_read_otherwise_is_refused_everywhere(
    server: Server, body: bytes, why: str
) -> None:
    for path, has_body in posts(server):
        answer = server.http.post(path, content=body, headers=JSON)
        if has_body:
            assert answer.status_code == 422, path
            assert why in answer.json()["error"]["message"], path
        else:
            assert 400 <= answer.status_code < 500, path


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**300), 10**300)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)
def test_proper_json_is_read_as_it_is(value: object) -> None:
    assert read_strict_json(json.dumps(value).encode()) == value
    assert read_strict_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=60))
def test_bytes_are_json_or_refused(data: bytes) -> None:
    with suppress(NotStrict):  # nothing else rises
        json.dumps(read_strict_json(data))


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "",
    ],
)
def test_what_is_not_sent_as_json_is_415(server: Server, kind: str) -> None:
    answer = server.http.post(ASK, content=b'{"question": "Who?"}', headers={"content-type": kind})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"question": ""},
        {"question": " \t\n"},
        {"question": "\x1c"},
        {"question": None},
        {"question": 1},
        {"question": "x" * 10_001},
        {"question": "Who?", "questoin": "Who?"},
        {"question": "Who?", "graph": "chat"},
        {"question": "Who?", "run_id": "../../etc"},
        {"question": "Who?", "run_id": "a\n"},
        {"question": "Who?", "run_id": "x" * 65},
        {"question": "Who?", "stream": "yes"},
        [],
        "Who?",
    ],
)
def test_a_body_of_another_form_is_422_and_says_where(server: Server, body: object) -> None:
    answer = server.http.post(ASK, json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("body")


HOSTILE = [
    "a\n",
    "...",
    "%2e%2e",
    "a;b",
    "a b",
    "'; DROP TABLE runs; --",
    "\u00e4",
    "x" * 65,
    "a\x00b",
    "*",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_run_id_is_a_name_and_nothing_else(server: Server, name: str) -> None:
    for end in ("", "/trace.json", "/events"):
        answer = server.http.get(f"/runs/{quote(name, safe='')}{end}")
        assert answer.status_code in (404, 422), (name, end)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=1e9",
        "limit=" + "9" * 5000,
        "limit=NaN",
        "status=odd",
        "before=now",
        "before=0.5",
        "before=1e400",
        "before=9999-99-99T00:00:00Z",
    ],
)
def test_a_parameter_that_cannot_be_is_422(server: Server, query: str) -> None:
    assert server.http.get(f"/runs?{query}").status_code == 422


def test_a_body_that_says_it_is_too_large_is_413_before_it_comes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "RECEIPT_SECONDS", 3600.0)  # whoever waits for it waits for ever
    for size in (MAX_BODY + 1, 64 * 1024 * 1024, 10**18):
        head = CHUNKED.replace(b"Transfer-Encoding: chunked", b"Content-Length: %d" % size)
        assert status_of(ask_raw(server.port, head)) == 413


def test_a_body_in_chunks_that_becomes_too_large_is_413(server: Server) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with connected(server.port) as client:
        client.sendall(CHUNKED)
        for _ in range(17):
            client.sendall(chunk)
        assert status_of(until_answered(client)) == 413


def test_a_body_of_the_largest_size_is_read(server: Server) -> None:
    body = b'{"question": ""' + b" " * (MAX_BODY - 16) + b"}"
    assert server.http.post(ASK, content=body, headers=JSON).status_code == 422


@pytest.mark.parametrize(("target", "statuses"), [("runs?x=", (414,)), ("y" * 60_000, (414, 431))])
def test_a_long_address_is_refused(server: Server, target: str, statuses: tuple[int, ...]) -> None:
    request = f"GET /{target}{'y' * 9000} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert status_of(ask_raw(server.port, request)) in statuses


@pytest.mark.parametrize(
    "headers",
    [f"X: {'y' * 17_000}\r\n", f"X: {'y' * 70_000}\r\n", "X: y\r\n" * 101, "X: y\r\n" * 10_000],
    ids=["17 KB", "70 KB", "101", "10,000"],
)
def test_large_headers_are_431(server: Server, headers: str) -> None:
    request = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
    assert status_of(ask_raw(server.port, request)) == 431


def test_headers_that_never_end_are_431(server: Server) -> None:
    with connected(server.port) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 40_000)
        assert status_of(until_answered(client)) == 431


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "RECEIPT_SECONDS", 0.5)


CHUNKED = (
    f"POST {ASK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    "Transfer-Encoding: chunked\r\n\r\n"
).encode()
SLOW = {
    "headers": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX", b"x"),
    "body": (post(ASK, {"question": "Who?" * 99})[:-300], b"x"),
    "chunks": (CHUNKED, b"1\r\nx\r\n"),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("begun", "drop"), SLOW.values(), ids=SLOW)
def test_a_request_that_does_not_arrive_is_408_and_the_connection_ends(
    server: Server, begun: bytes, drop: bytes
) -> None:
    answer, ended, until = b"", False, time.monotonic() + 40
    with server.held():
        client = connected(server.port)
        client.sendall(begun)
    with client:
        client.settimeout(0.1)
        while not ended and time.monotonic() < until:
            try:
                part = client.recv(65536)
                answer, ended = answer + part, not part
            except TimeoutError:
                with suppress(ConnectionError):  # what was answered is read all the same
                    client.sendall(drop)  # one at a time: it must not help
            except ConnectionError:
                ended = True
    assert ended
    assert status_of(answer) == 408


@pytest.mark.usefixtures("impatient")
def test_a_connection_that_says_nothing_is_closed(server: Server) -> None:
    with connected(server.port) as client:
        assert until_answered(client) == b""


@pytest.mark.timeout(180)
def test_two_hundred_slow_ones_are_closed_and_keep_nobody_waiting(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = post(ASK, {"question": "Who?"})
    monkeypatch.setattr(launch, "RECEIPT_SECONDS", 2.0)
    started = time.monotonic()
    with server.held():
        slow = [connected(server.port) for _ in range(200)]
        for client, (begun, _) in zip(slow, cycle(SLOW.values()), strict=False):
            client.sendall(begun)
    for _ in range(10):
        with server.held():
            client = connected(server.port)
            client.sendall(asked)
        with client:
            assert status_of(until_answered(client)) == 200
    for client in slow:
        assert status_of(until_answered(client)) == 408
        client.close()
    assert time.monotonic() - started < 100  # one after the other, they would take 400


def test_the_connection_serves_the_next_request_too(server: Server) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(server.port) as client:
        for _ in range(3):
            client.sendall(request)
            assert status_of(until_answered(client)) == 200


@pytest.mark.usefixtures("impatient")
def test_a_run_may_take_longer_than_a_request_may_take_to_arrive(
    tmp_path: Path,
) -> None:
    def build() -> Hoptrail:
        model = ScriptedChatModel(respond=script(["a?"], {"a?": "1"}, "1"), delay=lambda _: 1.0)
        return Hoptrail(model=model, settings=load_settings(home=tmp_path, embedders="hash"))

    with served(build=build) as server:
        with server.held():
            client = connected(server.port)
            client.sendall(post(ASK, {"question": "a?"}))
        with client:
            assert status_of(until_answered(client)) == 200


def test_too_many_connections_are_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "MAX_CONNECTIONS", 5)
    with served(home=tmp_path) as small:
        held = [connected(small.port) for _ in range(5)]
        assert status_of(ask_raw(small.port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")) == 503
        for each in held:
            each.close()
