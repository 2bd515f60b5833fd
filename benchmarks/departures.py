"""Clients that leave in four ways: what is left of their runs one second later.

    python -m benchmarks.departures [--each 40]

A client asks over HTTP and leaves (FIN, RST, half-close) before the first event, while the plan
is written, in a step, or in the synthesis; each of those calls would go on for an hour. One that
stops reading does so in front of an answer that does not end: its connection is cut one second
after the buffers between the two are full. "left" are runs, and calls to the backend, that are
under way one second after the last client has left; the goal is 0.
"""

from __future__ import annotations

import argparse
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests import two_hops
from tests.providers import ChatRequest, LoopbackProvider, Reply
from tests.raw import connected, post, reset
from tests.serving import Server, served

PHASES = {"plan": "plan", "step": two_hops.STEPS[0], "synthesis": "synthesis"}
PATIENCE = 30.0
FLOOD = "x" * 20_000 + " "


def half_close(client: socket.socket) -> None:
    """Say that nothing more will be asked, as some clients do that wait for no answer."""
    client.shutdown(socket.SHUT_WR)


LEAVING: dict[str, Callable[[socket.socket], None]] = {
    "FIN": socket.socket.close,
    "RST": reset,
    "half-close": half_close,
}


def hang(phase: str) -> Callable[[ChatRequest], Reply]:
    """Let the calls of one phase begin, and go on for an hour."""

    def respond(request: ChatRequest) -> Reply:
        reply = two_hops.respond(request)
        if two_hops.kind_of(request) != phase:
            return reply
        return Reply(reply.text, first_token_delay=0.1, token_delay=3600)

    return respond


def flood(request: ChatRequest) -> Reply:
    """Answer as a good model would, and do not end."""
    if two_hops.kind_of(request) == "synthesis":
        return Reply(FLOOD * 300, token_delay=0.001)
    return two_hops.respond(request)


def wait_for(condition: Callable[[], bool]) -> bool:
    """Wait until something holds; say whether it came to hold."""
    until = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    return condition()


class Departures:
    """Clients of one server over one provider; each method gives the runs and the calls left."""

    def __init__(self, server: Server, provider: LoopbackProvider) -> None:
        self._server, self._provider = server, provider

    def at_once(self, leave: Callable[[socket.socket], None], count: int) -> tuple[int, int]:
        """Leave within milliseconds of asking."""
        clients = self._asking(hang("plan"), 0)
        for number in range(count):
            clients += self._asking(hang("plan"), 1)
            time.sleep(0.002 * (number % 8))
            leave(clients[-1])
        return self._left_after_a_second(clients)

    def in_phase(
        self, leave: Callable[[socket.socket], None], phase: str, count: int
    ) -> tuple[int, int]:
        """Leave while the calls of a phase are being answered."""
        clients = self._asking(hang(phase), count)
        wait_for(lambda: self._calls_in(phase) == count)
        for client in clients:
            leave(client)
        return self._left_after_a_second(clients)

    def unread(self, count: int) -> tuple[int, int]:
        """Stay, and read nothing of an answer that does not end."""
        clients = self._asking(flood, count, receive_buffer=4096)
        wait_for(lambda: len(self._server.app.state.served.runs) == count)
        wait_for(lambda: not (self._server.live or self._provider.in_flight))
        return self._left_after_a_second(clients)

    def _asking(
        self,
        respond: Callable[[ChatRequest], Reply],
        count: int,
        receive_buffer: int | None = None,
    ) -> list[socket.socket]:
        self._provider.ollama.respond = respond
        request = post("/reasoning/multi-hop", {"question": two_hops.QUESTION, "stream": True})
        clients = []
        for _ in range(count):
            clients.append(connected(self._server.port, receive_buffer=receive_buffer))
            clients[-1].sendall(request)
        return clients

    def _calls_in(self, phase: str) -> int:
        chats = self._provider.ollama.chats
        return sum(
            two_hops.kind_of(chat) == phase and chat.ended_at is None for chat in list(chats)
        )

    def _left_after_a_second(self, clients: list[socket.socket]) -> tuple[int, int]:
        time.sleep(1)
        left = self._server.live, self._provider.in_flight
        for client in clients:
            client.close()
        wait_for(lambda: not (self._server.live or self._provider.in_flight))
        return left


def told(count: int, left: tuple[int, int]) -> list[str]:
    """Give the figures of one row."""
    return [str(figure) for figure in (count, *left)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=40, help="clients per kind and phase")
    each = parser.parse_args().each
    table = Table("leaves by", "in", "clients", "runs left", "calls left")
    with tempfile.TemporaryDirectory() as home, LoopbackProvider() as provider:
        docs = two_hops.write_documents(Path(home) / "docs")
        two_hops.serve(provider)
        with served(provider, docs=docs, home=home, concurrency=64) as server:
            departures = Departures(server, provider)
            for kind, leave in LEAVING.items():
                table.add_row(kind, "no phase yet", *told(each, departures.at_once(leave, each)))
                for name, phase in PHASES.items():
                    left = departures.in_phase(leave, phase, each)
                    table.add_row(kind, name, *told(each, left))
            table.add_row("stops reading", "a flood", *told(each, departures.unread(each)))
            Console().print(table)


if __name__ == "__main__":
    main()
