"""The root of the server: a page to browsers, what it is to everybody else."""

from collections.abc import Iterator

import httpx
import pytest

from hoptrail.viewer import server_page, server_policy
from tests.serving import Server, served

TOKEN = "key-of-the-h0use"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.fixture
def server() -> Iterator[Server]:
    with served() as it:
        yield it


def root(server: Server, accept: str, **headers: str) -> httpx.Response:
    return server.http.get("/", headers={"Accept": accept, **headers})


@pytest.mark.parametrize(
    "accept",
    [
        BROWSER,
        "text/html",
        "TEXT/HTML; q=0.5",
        "application/json;q=0.2, text/html",
        "text/html;q=1",
    ],
)
def test_a_browser_gets_the_page_under_its_policy(server: Server, accept: str) -> None:
    answer = root(server, accept)
    assert answer.status_code == 200
    assert answer.text == server_page()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers.get_list("content-security-policy") == [server_policy()]
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/json",
        "text/html;q=0",
        "text/html;q=x",
        "text/html;q=0.1,application/json",
        "text/*",
        "",
    ],
)
def test_everybody_else_gets_json(server: Server, accept: str) -> None:
    answer = root(server, accept)
    assert answer.json()["name"] == "hoptrail"
    assert answer.headers["vary"] == "Accept"


def test_with_a_token_the_page_is_open_and_what_it_asks_for_is_not() -> None:
    with served(api_token=TOKEN) as server:
        page = root(server, BROWSER)
        assert page.status_code == 200
        assert "api_token" not in page.text
        assert TOKEN not in page.text
        assert root(server, "*/*").status_code == 401
        assert root(server, "application/json").status_code == 401
        told = root(server, "*/*", Authorization=f"Bearer {TOKEN}")
        assert told.json()["links"]["runs"] == "/runs"
        for path in ("/runs", "/runs/x", "/runs/x/trace.html", "/runs/x/trace.json"):
            guarded = server.http.get(path, headers={"Accept": BROWSER})
            assert guarded.status_code == 401, path


def test_the_page_is_given_to_this_server_s_own_visitors_only(server: Server) -> None:
    assert root(server, BROWSER, Host="evil.example").status_code == 421
    assert root(server, BROWSER, Origin="https://evil.example").status_code == 403
