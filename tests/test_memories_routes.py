"""What is remembered, over HTTP: added, recalled, and forgotten for good."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hoptrail import Hoptrail, load_settings
from hoptrail.settings import Settings
from tests.serving import Server, served

CAT = "My cat is called Ofelie."
BOAT = "I keep a wooden boat on the Vltava."


def settings_of(home: Path) -> Settings:
    return load_settings(backends="extractive", embedders="hash", home=home)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    settings = settings_of(tmp_path / "home")
    with served(build=lambda: Hoptrail(settings=settings)) as server:
        yield server


def ask(server: Server, method: str, path: str, **given: Any) -> httpx.Response:
    return httpx.request(method, f"{server.url}{path}", timeout=30, **given)


def remember(server: Server, text: str, user: str = "anna") -> dict[str, Any]:
    response = ask(server, "POST", "/memory", json={"text": text, "user": user})
    assert response.status_code == 201
    fact: dict[str, Any] = response.json()
    return fact


def texts_of(server: Server, user: str = "anna") -> list[str]:
    response = ask(server, "GET", "/memory", params={"user": user})
    assert response.status_code == 200
    told = response.json()
    assert told["user"] == user
    return [fact["text"] for fact in told["facts"]]


def test_what_is_remembered_can_be_looked_at_newest_first(server: Server) -> None:
    fact = remember(server, CAT)
    assert fact["id"]
    assert fact["said_at"].startswith("20")
    remember(server, BOAT)
    assert texts_of(server) == [BOAT, CAT]


def test_each_user_has_a_memory_of_their_own(server: Server) -> None:
    remember(server, CAT, "anna")
    remember(server, BOAT, "Jiří/../anna")
    assert texts_of(server, "anna") == [CAT]
    assert texts_of(server, "Jiří/../anna") == [BOAT]
    assert texts_of(server, "default") == []


def test_the_nearest_fact_is_recalled(server: Server) -> None:
    remember(server, CAT)
    remember(server, BOAT)
    body = {"text": "What is my cat called?", "k": 1, "user": "anna"}
    (fact,) = ask(server, "POST", "/memory/recall", json=body).json()["facts"]
    assert fact["text"] == CAT
    assert 0 < fact["similarity"] <= 1


def test_a_forgotten_fact_is_neither_listed_nor_recalled(server: Server) -> None:
    fact = remember(server, CAT)
    path = f"/memory/{fact['id']}"
    response = ask(server, "DELETE", path, params={"user": "anna"})
    assert (response.status_code, response.json()["text"]) == (200, CAT)
    assert texts_of(server) == []
    body = {"text": CAT, "user": "anna"}
    assert ask(server, "POST", "/memory/recall", json=body).json()["facts"] == []
    again = ask(server, "DELETE", path, params={"user": "anna"})
    assert (again.status_code, again.json()["error"]["type"]) == (404, "fact_not_found")


def test_a_fact_of_somebody_else_cannot_be_forgotten(server: Server) -> None:
    fact = remember(server, CAT, "anna")
    response = ask(server, "DELETE", f"/memory/{fact['id']}", params={"user": "bob"})
    assert response.status_code == 404
    assert texts_of(server, "anna") == [CAT]


def test_facts_are_forgotten_by_their_words(server: Server) -> None:
    remember(server, CAT)
    remember(server, BOAT)
    body = {"text": "my cat", "user": "anna"}
    told = ask(server, "POST", "/memory/forget", json=body).json()
    assert [fact["text"] for fact in told["facts"]] == [CAT]
    assert texts_of(server) == [BOAT]


def test_everything_of_one_user_is_forgotten_when_the_user_is_named(server: Server) -> None:
    remember(server, CAT, "anna")
    remember(server, BOAT, "anna")
    remember(server, BOAT, "bob")
    assert ask(server, "DELETE", "/memory").status_code == 422
    told = ask(server, "DELETE", "/memory", params={"user": "anna"}).json()
    assert told == {"user": "anna", "forgotten": 2}
    assert texts_of(server, "anna") == []
    assert texts_of(server, "bob") == [BOAT]


def test_memory_outlives_the_server(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "kept")
    with served(build=lambda: Hoptrail(settings=settings)) as server:
        remember(server, "Mám kočku 🐈.")
    with served(build=lambda: Hoptrail(settings=settings)) as server:
        assert texts_of(server) == ["Mám kočku 🐈."]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/memory", {}),
        ("POST", "/memory", {"text": ""}),
        ("POST", "/memory", {"text": " \n"}),
        ("POST", "/memory", {"text": "\x1c"}),
        ("POST", "/memory", {"text": "a", "user": ""}),
        ("POST", "/memory", {"text": "a", "user": "\x1c"}),
        ("POST", "/memory", {"text": "x" * 10_001}),
        ("POST", "/memory/recall", {"text": "a", "k": 0}),
        ("POST", "/memory/recall", {"text": "a", "k": 101}),
        ("POST", "/memory/forget", {"text": ""}),
        ("GET", "/memory?user=", None),
        ("DELETE", "/memory?user=%1C", None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_used_is_refused(
    server: Server, method: str, path: str, body: dict[str, Any] | None
) -> None:
    response = ask(server, method, path, **({} if body is None else {"json": body}))
    assert response.status_code == 422
    assert response.json()["error"]["message"]
    assert texts_of(server, "default") == []


def test_every_route_declares_its_statuses_and_shows_an_example(server: Server) -> None:
    document = server.app.openapi()
    paths = document["paths"]
    assert set(paths["/memory"]) == {"get", "post", "delete"}
    assert "404" in paths["/memory/{fact_id}"]["delete"]["responses"]
    assert {"502", "503"} <= set(paths["/memory/recall"]["post"]["responses"])
    assert "201" in paths["/memory"]["post"]["responses"]
    assert document["components"]["schemas"]["RememberedFact"]["examples"]
