"""Clients that leave, or stop reading: what was done for them ends within a second."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from hoptrail import Hoptrail, load_settings
from hoptrail.server import event_stream, live_runs
from hoptrail.testing import ScriptedChatModel, script
from tests import two_hops
from tests.providers import ChatRequest, LoopbackProvider, Reply
from tests.raw import connected, post, reset, until_answered, until_seen
from tests.serving import Server, served

ASK = "/reasoning/multi-hop"
SECONDS = 30.0
"""What ends within one second is waited for longer: the machine may be busy.

What would end it without its client's leaving takes longer still, see `server`.
"""
FOR_EVER = 3600.0


def half_close(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


LEAVING: dict[str, Callable[[socket.socket], None]] = {
    "FIN": socket.socket.close,
    "RST": reset,
    "half-close": half_close,
}
PHASES = {"plan": "plan", "step": "Who wrote The Trial?", "synthesis": "synthesis"}


@pytest.fixture
def server(
    provider: LoopbackProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """A server at which nothing ends because it takes long, or because nobody came to follow."""
    monkeypatch.setattr(live_runs, "UNFOLLOWED_SECONDS", FOR_EVER)
    two_hops.serve(provider)
    docs = two_hops.write_documents(tmp_path / "docs")
    patient: dict[str, Any] = {
        "idle_timeout": FOR_EVER,
        "call_timeout": FOR_EVER,
        "deadline": FOR_EVER,
    }
    with served(provider, docs=docs, **patient) as it:
        yield it


def hang_in(provider: LoopbackProvider, phase: str) -> None:
    """Let the call of one phase begin to answer, and never end."""

    def respond(request: ChatRequest) -> Reply:
        reply = two_hops.respond(request)
        if two_hops.kind_of(request) != phase:
            return reply
        return Reply(reply.text, first_token_delay=0.2, token_delay=FOR_EVER)

    provider.ollama.respond = respond


def wait_for(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait until something holds."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it did not come about"
        time.sleep(0.005)


def in_phase(provider: LoopbackProvider, phase: str) -> bool:
    """Say whether a call of this phase is being answered now."""
    chats = provider.ollama.chats
    # An answered call is in flight for a moment longer than it takes to read its answer.
    under_way = provider.in_flight and chats and chats[-1].ended_at is None
    return bool(under_way and two_hops.kind_of(chats[-1]) == phase)


def assert_nothing_is_left(server: Server, provider: LoopbackProvider) -> None:
    wait_for(lambda: not server.live and not provider.in_flight)
    # Free to be worked on: whoever is not says running, and alive.
    wait_for(lambda: {row["status"] for row in rows(server)} <= {"interrupted"})


def rows(server: Server) -> list[dict[str, object]]:
    found: list[dict[str, object]] = server.http.get("/runs?limit=500").json()["runs"]
    return found


@pytest.mark.parametrize("stream", [True, False], ids=["events", "JSON"])
@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
@pytest.mark.parametrize("leave", LEAVING.values(), ids=LEAVING)
def test_a_client_that_leaves_takes_its_run_with_it(
    server: Server,
    provider: LoopbackProvider,
    leave: Callable[[socket.socket], None],
    phase: str,
    stream: bool,
) -> None:
    hang_in(provider, phase)
    client = connected(server.port)
    client.sendall(post(ASK, {"question": two_hops.QUESTION, "stream": stream}))
    wait_for(lambda: in_phase(provider, phase))
    leave(client)
    assert_nothing_is_left(server, provider)
    client.close()


@pytest.mark.parametrize("leave", LEAVING.values(), ids=LEAVING)
def test_clients_that_leave_at_once_leave_nothing(
    server: Server, provider: LoopbackProvider, leave: Callable[[socket.socket], None]
) -> None:
    hang_in(provider, "plan")
    clients = []
    for number in range(20):
        client = connected(server.port)
        client.sendall(post(ASK, {"question": f"{two_hops.QUESTION} {number}", "stream": True}))
        time.sleep(0.002 * number)
        leave(client)
        clients.append(client)
    assert_nothing_is_left(server, provider)
    for client in clients:
        client.close()


def test_the_run_of_one_who_left_is_finished_by_its_id(
    server: Server, provider: LoopbackProvider
) -> None:
    hang_in(provider, "synthesis")
    body = {"question": two_hops.QUESTION, "run_id": "mine", "stream": True}
    with connected(server.port) as client:
        client.sendall(post(ASK, body))
        wait_for(lambda: in_phase(provider, "synthesis"))
    assert_nothing_is_left(server, provider)
    provider.ollama.respond = two_hops.respond
    asked = len(provider.ollama.chats)
    answer = server.http.post(ASK, json={**body, "stream": False}).json()
    assert answer["short_answer"] == "Prague"
    assert len(provider.ollama.chats) == asked + 1


def test_a_detached_run_goes_on_without_its_client(
    server: Server, provider: LoopbackProvider
) -> None:
    left = Event()

    def respond(request: ChatRequest) -> Reply:
        return Reply(two_hops.respond(request).text, hold=left.is_set)

    provider.ollama.respond = respond
    body = {"question": two_hops.QUESTION, "run_id": "alone", "detach": True, "stream": True}
    with connected(server.port) as client:
        client.sendall(post(ASK, body))
        until_seen(client, b"RUN_STARTED")
    time.sleep(0.3)  # for the server to learn it; in less, the run would go on all the same
    assert server.live == 1
    left.set()
    wait_for(lambda: not server.live)
    assert server.http.get("/runs/alone").json()["status"] == "answered"


def test_the_run_goes_on_while_one_of_two_followers_is_left(
    server: Server, provider: LoopbackProvider
) -> None:
    hang_in(provider, "synthesis")
    first, second = connected(server.port), connected(server.port)
    first.sendall(post(ASK, {"question": two_hops.QUESTION, "run_id": "both", "stream": True}))
    until_seen(first, b"RUN_STARTED")
    second.sendall(b"GET /runs/both/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    until_seen(second, b"RUN_STARTED")
    wait_for(lambda: in_phase(provider, "synthesis"))
    first.close()
    time.sleep(0.3)
    assert server.live == 1
    second.close()
    assert_nothing_is_left(server, provider)


def test_a_client_that_does_not_read_is_cut_and_its_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events are more than the buffers between the two hold, and more keep coming."""
    monkeypatch.setattr(event_stream, "SEND_SECONDS", 0.2)
    long = "x" * 4000 + " "

    def build() -> Hoptrail:
        model = ScriptedChatModel(
            respond=script(["a?", "b?"], {"a?": "1", "b?": "2"}, long * 5000), token_delay=0.0002
        )
        return Hoptrail(model=model, settings=load_settings(home=tmp_path, embedders="hash"))

    with served(build=build) as server:
        client = connected(server.port, receive_buffer=4096)
        client.sendall(post(ASK, {"question": "c?", "stream": True}))
        # It may be over before it is seen going on; its row stays.
        wait_for(lambda: bool(rows(server)) and not server.live)
        seen = bytearray()
        with suppress(ConnectionError):
            while part := client.recv(1 << 20):
                seen += part
        client.close()
        assert not seen.endswith(b"0\r\n\r\n")
        assert [row["status"] for row in rows(server)] == ["interrupted"]


def test_a_client_that_reads_slowly_gets_all_of_it(
    server: Server, provider: LoopbackProvider
) -> None:
    client = connected(server.port, receive_buffer=4096)
    client.sendall(post(ASK, {"question": two_hops.QUESTION, "stream": True}))
    seen = b""
    while b"RUN_FINISHED" not in seen or not seen.endswith(b"0\r\n\r\n"):
        part = client.recv(200)
        assert part
        seen += part
    client.close()


def test_a_failure_before_the_first_event_is_a_status_not_a_stream(
    server: Server, provider: LoopbackProvider
) -> None:
    body = {"question": "Another one?", "run_id": "taken"}
    assert server.http.post(ASK, json={**body, "question": two_hops.QUESTION}).status_code == 200
    for stream in (True, False):
        answer = server.http.post(ASK, json={**body, "stream": stream})
        assert answer.status_code == 409
        assert answer.json()["error"]["type"] == "run_of_another"
    # The run of that id is still told as it was.
    assert "RUN_FINISHED" in server.http.get("/runs/taken/events").text


def test_a_failure_in_the_middle_is_the_last_event(
    server: Server, provider: LoopbackProvider
) -> None:
    def respond(request: ChatRequest) -> Reply:
        if two_hops.kind_of(request) == "synthesis":
            raise RuntimeError("scripted failure")
        return two_hops.respond(request)

    provider.ollama.respond = respond
    told = server.http.post(ASK, json={"question": two_hops.QUESTION, "stream": True})
    assert told.status_code == 200
    assert told.text.split("event: ")[-1].startswith(("RUN_ERROR", "RUN_FINISHED"))
    provider.ollama.unexpected.clear()


def test_a_keep_alive_connection_asks_twice(server: Server) -> None:
    with connected(server.port) as client:
        for _ in range(2):
            client.sendall(post(ASK, {"question": two_hops.QUESTION}))
            assert b"Prague" in until_answered(client)
