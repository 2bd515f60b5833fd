"""Runs that somebody holds up, each in another way; and by how much they miss their deadline."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from hoptrail import Answer, Hoptrail, load_settings
from hoptrail.errors import BudgetExceeded, HoptrailError
from tests.providers import ChatRequest, Fault, LoopbackProvider, Reply
from tests.providers.side import Side
from tests.two_hops import QUESTION, kind_of, respond

FOR_EVER = 3600.0
SLACK = 20.0
"""Seconds by which a test may be late: its machine may have much else to do."""

FAULTS = {
    "never answers": Fault("hang"),
    "half a header": Fault("half_header"),
    "a byte a second": Fault("dribble"),
    "signs of life without a token": Fault("endless_comments"),
    "a stream that stalls": Fault("stream_stall", after=3),
}
STAGES = {
    "multi-hop": ("plan", "step", "revision", "synthesis"),
    "iterative": ("next", "step", "synthesis"),
    "chat": ("chat",),
}


def stage_of(request: ChatRequest) -> str:
    """Say which part of a run a call belongs to: all steps are one, and so are all choices."""
    kind = kind_of(request)
    if "found nothing. Write new ones" in request.prompt:
        return "revision"
    if "helpful assistant in a conversation" in request.prompt:
        return "chat"
    if kind in ("plan", "synthesis"):
        return kind
    return "next" if kind.startswith("next ") else "step"


class AtStage(deque[Fault | None]):
    """The faults, in turn, of calls that belong to one stage of a run; the others are healthy."""

    def __init__(self, side: Side, stage: str, *faults: Fault) -> None:
        super().__init__()
        self._side, self._stage, self._faults = side, stage, cycle(faults)

    def __bool__(self) -> bool:
        return True

    def popleft(self) -> Fault | None:
        """Give the fault of the call that was recorded last."""
        return next(self._faults) if stage_of(self._side.chats[-1]) == self._stage else None


def nothing_found(request: ChatRequest) -> Reply:
    """Answer so that there is something to be asked differently."""
    healthy = respond(request)
    if stage_of(request) == "step" and "Where was" in request.question:
        return Reply('{"reasoning": "-", "found": false, "answer": "", "passages": []}')
    return healthy


class SlowRetriever(BaseRetriever):
    """A retriever of a caller's that has only a blocking method, which waits."""

    wait: Callable[[], object]

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        self.wait()
        return []


class SlowAsyncRetriever(SlowRetriever):
    """The same, awaiting."""

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        await asyncio.sleep(FOR_EVER)
        return []


@contextmanager
def deaf_port() -> Iterator[int]:
    """Give a port at which connecting hangs: its queue is full, and nobody takes from it."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port: int = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        try:
            yield port
        finally:
            for each in waiting:
                each.close()


@dataclass
class Ended:
    """How one run ended: how many seconds after its deadline, and with what."""

    overshoot: float
    answer: Answer | None = None
    error: HoptrailError | None = None


@dataclass
class Ask:
    """How the runs of a scenario are asked."""

    graph: str = "multi-hop"
    deadline: float = 1.0
    parts: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, Any] = field(default_factory=dict)


def a_trail(provider: LoopbackProvider | None, ask: Ask) -> Hoptrail:
    """Give a trail over the loopback Ollama alone, or over the addresses of ``ask``."""
    addresses = provider and {
        "ollama_host": provider.ollama_url,
        "huggingface_base_url": provider.huggingface_url,
    }
    flags = {
        **(addresses or {}),
        "backends": "ollama",
        "embedders": "hash",
        "deadline": ask.deadline,
        # What is promised here is the run's deadline; a call's own limits must not help.
        "first_byte_timeout": FOR_EVER,
        "idle_timeout": FOR_EVER,
        "call_timeout": FOR_EVER,
    }
    return Hoptrail(settings=load_settings(**(flags | ask.flags)), **ask.parts)


async def all_at_once(trail: Hoptrail, ask: Ask, runs: int) -> list[Ended]:
    """Ask so many runs at once, and give how each ended."""
    return await asyncio.gather(*(_timed(trail, ask) for _ in range(runs)))


def check_in_time(ended: list[Ended]) -> None:
    """Each ended in time, with an answer that says so or a typed error.

    What holds them up takes an hour; what is asserted leaves room for a machine that has many
    other things to do. How exact it is on an idle one is measured by `benchmarks.deadlines`.
    """
    assert max(each.overshoot for each in ended) < SLACK
    for each in ended:
        if each.answer is None:
            assert isinstance(each.error, BudgetExceeded)
        else:
            assert each.answer.trace.stop_reason == "budget:deadline"


async def _timed(trail: Hoptrail, ask: Ask) -> Ended:
    began = time.perf_counter()
    ended = Ended(0.0)
    try:
        ended.answer = await _asked(trail, ask.graph)
    except HoptrailError as error:
        ended.error = error
    ended.overshoot = time.perf_counter() - began - ask.deadline
    return ended


def _asked(trail: Hoptrail, graph: str) -> Awaitable[Answer]:
    match graph:
        case "chat":
            return trail.achat(QUESTION)
        case "iterative":
            return trail.aask(QUESTION, graph="iterative")
        case _:
            return trail.aask(QUESTION)


def hold_up(provider: LoopbackProvider, stage: str, *faults: Fault) -> None:
    """Let the loopback Ollama fail at one stage of each run, and answer well at the others."""
    provider.ollama.respond = nothing_found if stage == "revision" else respond
    provider.ollama.faults = AtStage(provider.ollama, stage, *faults)
