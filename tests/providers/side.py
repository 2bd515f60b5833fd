"""What both loopback providers are made of: a port, records, a script and faults."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from time import monotonic
from typing import Any, ClassVar

from tests.providers.emission import fail_early, send_document
from tests.providers.fault import Fault
from tests.providers.script import (
    Call,
    ChatRequest,
    EmbeddingRequest,
    Reply,
    Respond,
    Script,
    as_respond,
    echo,
)
from tests.providers.stream import packed
from tests.providers.wire import JSON, Exchange, Listener

Route = Callable[[Exchange], Awaitable[None]]


class Side(ABC):
    """One provider on one port. Attributes may be set from any thread at any time.

    ``fault``, ``embed_fault`` and ``probe_fault`` hold until they are cleared; ``faults``,
    ``embed_faults`` and ``probe_faults`` are used up first, one per call, None = healthy.
    """

    name: ClassVar[str]
    routes: dict[tuple[str, str], Route]

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self._loop = loop
        self._listener = Listener(self._handle, port)
        self.reset()

    @property
    def url(self) -> str:
        """The base URL, without a path."""
        return f"http://127.0.0.1:{self._listener.port}"

    @property
    def connections(self) -> int:
        """How many clients are connected, idle ones too."""
        return self._listener.connections

    def reset(self) -> None:
        """Forget all records, faults, models and scripts."""
        self.chats: list[ChatRequest] = []
        self.embeddings: list[EmbeddingRequest] = []
        self.probes: list[str] = []
        self.unexpected: list[str] = []
        self.calls: Counter[str] = Counter()
        self.respond: Respond = echo
        self.fault: Fault | None = None
        self.embed_fault: Fault | None = None
        self.probe_fault: Fault | None = None
        self.faults: deque[Fault | None] = deque()
        self.embed_faults: deque[Fault | None] = deque()
        self.probe_faults: deque[Fault | None] = deque()
        self.in_flight = 0
        self.peak = 0
        self.routes = self._routes()

    def answer(self, script: Script) -> None:
        """Answer chats by a text, a Reply, a mapping, a sequence in turn, or a function.

        A function runs on the provider's event loop: it must not block (a Reply has delays).
        """
        self.respond = as_respond(script)

    def stop(self) -> None:
        """Refuse connections and drop the present ones."""
        self._run(self._listener.close())

    def start(self) -> None:
        """Let clients in (again), on the same port."""
        self._run(self._listener.open())

    def drop(self) -> None:
        """Cut every connection, so that no request of before is still being served."""
        self._run(self._listener.drop())

    def release(self) -> None:
        """Give the port back; the side cannot be started again."""
        self._listener.release()

    def _run(self, work: Any) -> None:
        future: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.result(30)

    @abstractmethod
    def _routes(self) -> dict[tuple[str, str], Route]: ...

    @abstractmethod
    async def _elsewhere(self, exchange: Exchange) -> None:
        """Answer a path that is not in the table."""

    async def _refuse(self, exchange: Exchange, status: int, message: str) -> None:
        """Answer an error in the provider's own envelope."""
        await exchange.send(status, packed({"error": message}), JSON)

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        self.calls[request.path] += 1
        route = self.routes.get((request.method, request.path), self._elsewhere)
        try:
            await route(exchange)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001  # a failing script must reach the test
            self.unexpected.append(f"{self.name} {request.path}: {error!r}")
            if exchange.status is None:
                await self._refuse(exchange, 500, f"loopback: {error}")

    async def _describe(
        self, exchange: Exchange, status: int, body: bytes, content_type: str | None = JSON
    ) -> None:
        """Record a probe and answer it, or fail as told."""
        self.probes.append(exchange.request.path)
        fault = self.probe_faults.popleft() if self.probe_faults else self.probe_fault
        if await fail_early(exchange, fault):
            return
        if fault is None or status != 200:
            await exchange.send(status, body, content_type)
        else:
            await send_document(exchange, body, fault, content_type or JSON)

    @contextmanager
    def _recorded(self, call: Call, exchange: Exchange) -> Iterator[Fault | None]:
        """Keep the record of a call up to date while it is served; gives its fault."""
        if isinstance(call, ChatRequest):
            self.chats.append(call)
            call.fault = self.faults.popleft() if self.faults else self.fault
        elif isinstance(call, EmbeddingRequest):
            self.embeddings.append(call)
            call.fault = self.embed_faults.popleft() if self.embed_faults else self.embed_fault
        exchange.on_complete = lambda: _note(call, exchange)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            yield call.fault
        except (asyncio.CancelledError, ConnectionError):
            call.cancelled = True
            raise
        finally:
            _note(call, exchange)
            self.in_flight -= 1

    def _reply(self, chat: ChatRequest) -> Reply:
        answer = self.respond(chat)
        return Reply(answer) if isinstance(answer, str) else answer


def _note(call: Call, exchange: Exchange) -> None:
    call.status = exchange.status
    call.finished = exchange.complete and not call.cancelled
    call.ended_at = monotonic()
