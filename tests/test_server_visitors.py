"""Who may come in: Host, Origin, token and size, on every route there is."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

import hoptrail.server
from hoptrail import Hoptrail, SettingsError, load_settings
from hoptrail.server.app import create_app
from hoptrail.server.visitors import Visitors
from hoptrail.viewer import server_page
from tests.raw import ask_raw, status_of
from tests.serving import Server, served

TOKEN = "k\u00e9y-of-the-house"
OPEN = {"/healthz"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with served(
        home=home, allowed_hosts="trail.example", allowed_origins="https://app.example"
    ) as it:
        yield it


@pytest.fixture(scope="module")
def guarded(home: Path) -> Iterator[Server]:
    with served(home=home, api_token=TOKEN) as it:
        yield it


def routes(server: Server) -> list[tuple[str, str]]:
    """Give method and path of all there is, from the app itself: new routes come by themselves."""
    found = []
    for route in server.app.routes:
        assert isinstance(route, Route)
        path = re.sub(r"\{[^}]*\}", "x", route.path)
        found += [(method, path) for method in sorted(route.methods or {"GET", "POST", "DELETE"})]
    return [*found, ("GET", "/no/such/path"), ("GET", "/runs/..%2f..%2fetc")]


BAD_HOSTS = [
    ("evil.example", 421),
    ("localhost.evil.example", 421),
    ("127.0.0.1.nip.io", 421),
    ("192.0.2.1", 421),
    ("169.254.169.254:80", 421),
    ("[2001:db8::1]:8700", 421),
    ("0.0.0.0", 421),
    ("2130706433", 421),
    ("trail.example.evil", 421),
    ("x?y", 400),
    ("x/y", 400),
    ("x#y", 400),
    ("a@localhost", 400),
    ("localhost\\evil", 400),
    ("local%68ost", 400),
    ("localhost:port", 400),
    ("localhost:80:80", 400),
    ("localhost,evil", 400),
    ("", 400),
    ("[::1", 400),
    ("-", 400),
    ("evil.example:8700", 421),
    ("a.localhost", 421),
    ("localhost.localdomain", 421),
    ("metadata.google.internal", 421),
    ("127.1", 421),
    ("0x7f.0.0.1", 421),
    ("0177.0.0.1", 421),
    ("192.168.1.1:8700", 421),
    ("[::]", 421),
    ("[::ffff:192.0.2.1]", 421),
    ("localhost..", 400),
    (".localhost", 400),
    ("localhost:", 400),
    ("localhost:123456", 400),
    (":8700", 400),
    ("::1", 400),
    ("[fe80::1%25lo]", 400),
    ("*", 400),
    ("http://localhost", 400),
    ("localhost evil", 400),
    ("l\u043ecalhost", 400),
]
GOOD_HOSTS = [
    "localhost",
    "LOCALHOST:1234",
    "localhost.",
    "127.0.0.1",
    "127.8.9.10:99",
    "[::1]:8700",
    "trail.example",
    "Trail.Example:443",
]


@pytest.mark.parametrize(("host", "status"), BAD_HOSTS)
def test_a_host_that_is_not_this_servers_is_turned_away_on_every_route(
    server: Server, host: str, status: int
) -> None:
    for method, path in routes(server):
        answer = server.http.request(method, path, headers={b"host": host.encode()})
        assert answer.status_code == status, (method, path)
        assert answer.json()["error"]["message"]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_its_own_hosts_are_answered(server: Server, host: str) -> None:
    assert server.http.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
        b"GET http://evil/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_what_is_no_proper_request_is_400(server: Server, head: bytes) -> None:
    answer = ask_raw(server.port, head)
    assert status_of(answer) == 400
    assert b'"error"' in answer


def test_a_path_that_hides_a_slash_reaches_no_other_route(server: Server) -> None:
    for path in ("/runs/a%2Ftrace.json", "/runs/a%2fevents", "//healthz", "/runs/..;/healthz"):
        assert (
            status_of(ask_raw(server.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            == 404
        )


BAD_ORIGINS = [
    "null",
    "https://evil.example",
    "http://localhost.evil.example",
    "http://127.0.0.1.nip.io:8700",
    "https://app.example.evil",
    "http://app.example",
    "https://app.example:8443",
    "file://",
    "localhost",
    "chrome-extension://abcdef",
    "http://localhost@evil.example",
    "http://192.0.2.1",
    "",
    "https://evil.example:443",
    "http://a.localhost:3000",
    "http://127.0.0.1.evil.example",
    "http://127.0.0.1:3000/",
    "http://0.0.0.0:8700",
    "http://10.0.0.1:3000",
    "http://[2001:db8::1]",
    "https://app.example.",
    "https://xapp.example",
    "ws://localhost:3000",
    "app://localhost",
    "javascript:alert(1)",
    "http:localhost",
    "://localhost",
    "https://",
    "http://localhost http://localhost",
    "*",
]


@pytest.mark.parametrize("origin", BAD_ORIGINS)
def test_a_page_of_elsewhere_may_not_call_any_route(server: Server, origin: str) -> None:
    for method, path in routes(server):
        answer = server.http.request(method, path, headers={"origin": origin})
        assert answer.status_code == 403, (method, path)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:1", "https://app.example"],
)
def test_a_page_of_this_machine_may_call_and_read(server: Server, origin: str) -> None:
    answer = server.http.get("/healthz", headers={"origin": origin})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, last-event-id",
    }
    allowed = server.http.options("/reasoning/multi-hop", headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == origin
    assert "last-event-id" in allowed.headers["access-control-allow-headers"].lower()


def test_two_origins_are_none(server: Server) -> None:
    both = [("origin", "http://localhost"), ("origin", "http://localhost")]
    assert server.http.get("/healthz", headers=both).status_code == 403


def test_at_an_address_of_the_network_every_address_is_a_host_but_no_name() -> None:
    visitors = Visitors("0.0.0.0", (), ())
    assert visitors.check_host([b"192.0.2.1:8700"])
    assert visitors.check_host([b"localhost:8700"])
    with pytest.raises(Exception, match="does not answer"):
        visitors.check_host([b"rebound.example"])
    assert visitors.allows("http://192.0.2.1:8700", "192.0.2.1:8700")
    assert not visitors.allows("http://localhost:3000", "192.0.2.1:8700")


WRONG = [
    [],
    [("authorization", "Bearer wrong")],
    [("authorization", "Bearer")],
    [("authorization", f"Basic {TOKEN}")],
    [("authorization", TOKEN)],
    [("authorization", f"Bearer {TOKEN}x")],
    [("authorization", f"Bearer {TOKEN[:-1]}")],
    [("authorization", f"Bearer {TOKEN}"), ("authorization", f"Bearer {TOKEN}")],
    [("x-api-key", TOKEN)],
    [("api-key", TOKEN)],
    [("cookie", f"token={TOKEN}")],
    [("authorization", "Bearer \u00ff\u00fe")],
]


def encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers]


@pytest.mark.parametrize("headers", WRONG)
def test_without_the_token_nothing_but_healthz_answers(
    guarded: Server, headers: list[tuple[str, str]]
) -> None:
    for route in guarded.app.routes:
        assert isinstance(route, Route)
        path = re.sub(r"\{[^}]*\}", "x", route.path)
        for method in route.methods or {"GET", "POST", "DELETE"}:
            answer = guarded.http.request(method, f"{path}?token={TOKEN}", headers=encoded(headers))
            if path in OPEN:
                assert answer.status_code == 200
            else:
                assert answer.status_code == 401, (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"
            assert TOKEN not in answer.text


def test_the_token_is_asked_for_before_the_body_is_read(guarded: Server) -> None:
    head = "POST /reasoning/multi-hop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\n"
    assert status_of(ask_raw(guarded.port, head)) == 401


def test_with_the_token_all_answer(guarded: Server) -> None:
    headers = encoded([("authorization", f"bearer {TOKEN}")])
    for path in ("/", "/readyz", "/runs", "/openapi.json"):
        assert guarded.http.get(path, headers=headers).status_code == 200
    assert guarded.http.get("/runs/nobody", headers=headers).status_code == 404


def test_no_route_is_open_by_mistake(guarded: Server) -> None:
    open_routes = {
        route.path
        for route in guarded.app.routes
        if isinstance(route, APIRoute) and type(route).__name__ != "GuardedRoute"
    }
    # The page at "/" holds nothing; what else is there asks for the token itself.
    assert open_routes == {*OPEN, "/"}
    assert guarded.http.get("/").status_code == 401
    page = guarded.http.get("/", headers={"Accept": "text/html"})
    assert page.text == server_page()
    others = {route.path for route in guarded.app.routes if not isinstance(route, APIRoute)}  # type: ignore[attr-defined] # every route has one
    assert others <= {"/mcp"}


def test_an_app_for_others_needs_a_token(home: Path) -> None:
    trail = Hoptrail(settings=load_settings(home=home, backends="extractive"))
    with pytest.raises(SettingsError, match="HOPTRAIL_API_TOKEN"):
        create_app(trail, host="0.0.0.0")
    trail.close()


def test_answers_are_sealed(server: Server) -> None:
    for path in ("/healthz", "/runs", "/no/such"):
        headers = server.http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers


def test_a_wrong_method_is_told_the_right_ones(server: Server) -> None:
    answer = server.http.put("/reasoning/multi-hop")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert server.http.put("/memory/forget").headers["allow"] == "POST"
    assert server.http.put("/memory").headers["allow"] == "DELETE, GET, POST"


def test_there_is_no_page_that_loads_scripts_from_elsewhere(server: Server) -> None:
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert server.http.get(path).status_code == 404


def test_no_middleware_runs_the_app_in_a_task_of_its_own_and_nobody_trusts_a_path() -> None:
    for file in Path(hoptrail.server.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Name | ast.alias):
                name = node.id if isinstance(node, ast.Name) else node.name
                assert "BaseHTTPMiddleware" not in name, file
            if isinstance(node, ast.Attribute) and node.attr == "path":
                assert not ast.unparse(node).endswith("url.path"), file


@pytest.mark.parametrize(
    ("hosts", "origins", "why"),
    [
        (["http://proxy.example"], [], "no host name .* write example.com"),
        (["a b"], [], "no host name"),
        ([], ["app.example"], "no origin of web pages .* write https://example.com"),
        ([], ["*"], "no origin of web pages"),
        ([], ["https://app.example/page"], "no origin of web pages"),
    ],
)
def test_a_name_that_could_never_match_is_refused_at_the_start(
    hosts: list[str], origins: list[str], why: str
) -> None:
    with pytest.raises(SettingsError, match=why):
        Visitors("127.0.0.1", hosts, origins)


def test_a_wrong_token_is_told_from_none(guarded: Server) -> None:
    none = guarded.http.get("/runs").json()["error"]
    wrong = guarded.http.get("/runs", headers={"authorization": "Bearer wrong"}).json()["error"]
    assert none["message"] == "this server asks for a token"
    assert wrong["message"] == "the token is not this server's"
    assert none["fix"] == wrong["fix"]
    assert "HOPTRAIL_API_TOKEN" in wrong["fix"]


def test_a_route_that_is_not_there_says_where_the_routes_are(server: Server) -> None:
    assert "/openapi.json" in server.http.get("/docs").json()["error"]["fix"]
