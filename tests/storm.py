"""Clients that leave in every way, at every moment, by every door; and what is left of them.

A client leaves with a FIN, a reset or a half-close (it shuts its sending side down and still
reads), or it vanishes: it stays connected and reads nothing more. The last is noticed when there
is more to say than the buffers between the two hold, so only streams can tell it, and what they
are given to say is long.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from hoptrail.server import event_stream
from hoptrail.testing import step_reply
from tests import two_hops
from tests.providers import ChatRequest, LoopbackProvider, Reply
from tests.raw import connected, post, reset, until_seen
from tests.serving import Server

AT_ONCE = 16
VANISHED = "vanish"
WAYS: dict[str, Callable[[socket.socket], None]] = {
    "FIN": socket.socket.close,
    "reset": reset,
    "half-close": lambda client: client.shutdown(socket.SHUT_WR),
    VANISHED: lambda _: None,
}
MOMENTS = ("start", "silence", "step", "answer")
"""Before anything came, in a silence with pings, while a step is answered, in the answer."""

_NUMBER = re.compile(r"case (\d+)")
_LONG = Reply(("x" * 16_000 + " ") * 200, token_delay=0.03)
_NEVER = 3600.0
_DESCRIPTORS = "/proc/self/fd"
_MCP = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "ask",
}
_MCP_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass(frozen=True)
class Door:
    """A way in: how a question is put, whether it is answered as a stream, and in steps."""

    name: str
    path: str
    body: Callable[[str], dict[str, object]]
    stream: bool = True
    steps: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


def _talk(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def _of_completions(model: str, *, stream: bool) -> Door:
    return Door(
        f"completions {model}" + (" (stream)" if stream else ""),
        "/v1/chat/completions",
        lambda text: {"model": f"hoptrail/{model}", "messages": _talk(text), "stream": stream},
        stream=stream,
        steps=model != "chat",
    )


def _called(question: str) -> dict[str, object]:
    parameters = {"name": "ask", "arguments": {"question": question}, "_meta": _MCP_META}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": parameters}


DOORS = (
    Door(
        "multi-hop (stream)",
        "/reasoning/multi-hop",
        lambda text: {"question": text, "stream": True},
        steps=True,
    ),
    Door("multi-hop", "/reasoning/multi-hop", lambda text: {"question": text}, False, True),
    _of_completions("multi-hop", stream=True),
    _of_completions("multi-hop", stream=False),
    _of_completions("chat", stream=True),
    Door("redix (stream)", "/redix/ask", lambda text: {"message": text}),
    Door("redix", "/redix/ask", lambda text: {"message": text, "stream": False}, False),
    Door("Hugging Face (stream)", "/huggingface/chat", lambda text: {"messages": _talk(text)}),
    Door(
        "Hugging Face",
        "/huggingface/chat",
        lambda text: {"messages": _talk(text), "stream": False},
        False,
    ),
    Door("MCP ask", "/mcp", _called, False, True, _MCP),
)


@dataclass
class Case:
    """One client: its door, when and how it leaves; and the calls that were made for it."""

    number: int
    door: Door
    way: str
    moment: str
    calls: list[ChatRequest] = field(default_factory=list, repr=False)
    reached: bool = False
    left_at: float = 0.0

    @property
    def question(self) -> str:
        """What it asks."""
        return f"Who wrote The Trial, case {self.number}?"

    @property
    def freed_after(self) -> float:
        """How many seconds after it had left its last call was ended; 0, there was none left."""
        ends = [call.ended_at or float("inf") for call in self.calls]
        return max(0.0, max(ends, default=0.0) - self.left_at)

    def reply(self, call: ChatRequest) -> Reply:
        """Answer a call made for it, so that its moment comes about."""
        self.calls.append(call)
        place = {"plan": "silence", "synthesis": "answer"}.get(two_hops.kind_of(call), "step")
        here = place == self.moment or not self.door.steps
        self.reached = self.reached or here
        reply = self._answer(call, place)
        if not here or self.moment in ("start", "answer"):
            return reply
        if self.way == VANISHED:  # it is noticed when there is something to say again
            return Reply(reply.text, token_delay=reply.token_delay, hold=lambda: self.left_at > 0)
        return Reply(reply.text, delay=_NEVER, token_delay=reply.token_delay)

    def _answer(self, call: ChatRequest, place: str) -> Reply:
        if not self.door.steps or place == "answer":
            return _LONG
        if place == "silence":
            return Reply(json.dumps({"steps": [self.question, f"Who is #1, case {self.number}?"]}))
        return Reply(step_reply("Franz Kafka", (1,)))

    def happen(self, port: int) -> socket.socket:
        """Ask, wait for the moment, leave; gives what is to be closed in the end."""
        client = connected(port, receive_buffer=4096)
        client.sendall(post(self.door.path, self.door.body(self.question), **self.door.headers))
        self._wait(client)
        self.left_at = time.monotonic()
        WAYS[self.way](client)
        return client

    def _wait(self, client: socket.socket) -> None:
        if self.moment == "start":
            time.sleep(self.number % 10 * 0.003)
            return
        if self.door.stream and self.moment != "step":
            until_seen(client, b": ping" if self.moment == "silence" else b"xxxx")
        until = time.monotonic() + 120
        while not self.reached:
            assert time.monotonic() < until, self
            time.sleep(0.002)


def cases(count: int) -> list[Case]:
    """Give so many cases, spread over all that can be."""
    kinds = [
        (door, way, moment)
        for moment, door, way in itertools.product(MOMENTS, DOORS, WAYS)
        if door.stream or way != VANISHED
    ]
    # A step that has no common divisor with their number meets each before any comes again.
    stride = 37
    assert len(kinds) % stride
    chosen = (kinds[number * stride % len(kinds)] for number in range(count))
    return [Case(number, *kind) for number, kind in enumerate(chosen)]


def respond_to(all_cases: Sequence[Case]) -> Callable[[ChatRequest], Reply]:
    """Give the model that answers each case as it is to be answered."""

    def respond(call: ChatRequest) -> Reply:
        number = _NUMBER.search(call.question)
        assert number is not None, call.question
        return all_cases[int(number[1])].reply(call)

    return respond


@dataclass
class Books:
    """What a server holds for its clients, over what it held when these books were opened."""

    server: Server
    provider: LoopbackProvider
    clients: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tasks, self._descriptors = self.server.run(_tasks()), self._open()

    def left(self) -> dict[str, int]:
        """Count runs, tasks, calls under way, open descriptors, and locks."""
        journal = self.server.trail.assembly.journal
        return {
            "runs": self.server.live,
            "tasks": self.server.run(_tasks()) - self._tasks,
            "calls": self.provider.in_flight,
            "descriptors": self._open() - self._descriptors,
            "locks": sum(journal.alive(row.run_id) for row in journal.runs(100_000)),
        }

    def _open(self) -> int:
        """Count descriptors, without those of clients and of idle connections to the provider."""
        kept = 2 * (self.provider.huggingface.connections + self.provider.ollama.connections)
        own = sum(client.fileno() >= 0 for client in self.clients)
        return len(os.listdir(_DESCRIPTORS)) - kept - own if os.path.isdir(_DESCRIPTORS) else 0


async def _tasks() -> int:
    return len(asyncio.all_tasks())


def let_loose(books: Books, all_cases: Sequence[Case]) -> Iterator[str]:
    """Let the clients come and leave, one way after the other; give the rows of a table.

    Each way's clients stay connected, where they do, until its row is told.
    """
    books.provider.ollama.respond = respond_to(all_cases)
    books.provider.huggingface.respond = respond_to(all_cases)
    yield f"{'':12}clients  upstream ended after, ms: p50    max  left one second later"
    for way in WAYS:
        chosen = [case for case in all_cases if case.way == way]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            books.clients = list(pool.map(lambda case: case.happen(books.server.port), chosen))
        # Where nobody says goodbye, the buffers have to fill, and one write has to time out.
        time.sleep(1 if way != VANISHED else 2 + event_stream.SEND_SECONDS)
        left = ", ".join(f"{number} {what}" for what, number in books.left().items())
        yield f"{way:12}{len(chosen):7}{_milliseconds(chosen)}  {left}"
        for client in books.clients:
            client.close()
        books.clients.clear()


def by_door(all_cases: Sequence[Case]) -> Iterator[str]:
    """Give the rows of a table of doors: how long the last call of each client went on."""
    for door in DOORS:
        chosen = [case for case in all_cases if case.door is door and case.way != VANISHED]
        yield f"{door.name:32}{len(chosen):7}{_milliseconds(chosen)}"


def _milliseconds(chosen: Sequence[Case]) -> str:
    ends = [case.freed_after * 1000 for case in chosen]
    return f"{statistics.median(ends):31.0f}{max(ends):7.0f}"
