"""Whoever leaves takes everything with them: runs, tasks, calls, connections, locks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hoptrail.server import event_stream
from tests import two_hops
from tests.providers import LoopbackProvider
from tests.serving import Server, served
from tests.storm import Books, by_door, cases, let_loose
from tests.test_server_clients import wait_for

SPARE_DESCRIPTORS = 12
"""Threads that read the journal open it, each once."""


@pytest.fixture
def server(
    provider: LoopbackProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    monkeypatch.setattr(event_stream, "FIRST_SECONDS", 0.1)
    monkeypatch.setattr(event_stream, "PING_SECONDS", 0.1)
    two_hops.serve(provider)
    docs = two_hops.write_documents(tmp_path / "docs")
    with served(provider, docs=docs, token="hf_x") as it:
        yield it


@pytest.mark.timeout(900)
def test_whoever_leaves_in_any_way_at_any_moment_by_any_door_leaves_nothing(
    server: Server, provider: LoopbackProvider, pytestconfig: pytest.Config
) -> None:
    asked = server.http.post("/reasoning/multi-hop", json={"question": two_hops.QUESTION})
    assert asked.json()["short_answer"] == "Prague"
    books, storm = Books(server, provider), cases(pytestconfig.getoption("--disconnects"))
    for row in (*let_loose(books, storm), *by_door(storm)):
        print(row)  # noqa: T201 # `make storm` shows it
    spare = {"descriptors": SPARE_DESCRIPTORS}
    wait_for(lambda: all(left <= spare.get(what, 0) for what, left in books.left().items()), 60)
    for case in storm:
        assert case.reached or case.moment == "start", case
        # The last call of each was broken off, not waited for.
        assert case.calls or case.moment == "start", case
        assert all(call.finished for call in case.calls[:-1]), case
        assert not case.calls or case.calls[-1].cancelled or case.moment == "start", case
