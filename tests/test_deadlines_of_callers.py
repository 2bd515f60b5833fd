"""A run ends by its deadline whatever a caller's own parts do: tools, retriever, embeddings."""

import asyncio
import re
import threading
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, tool
from langgraph.store.memory import InMemoryStore
from mcp import Client

from hoptrail import Hoptrail, get_huggingface_client, load_settings
from hoptrail.embeddings import EmbedderChain, ExternalEmbedder, OllamaEmbedder
from hoptrail.errors import BackendUnavailable, BudgetExceeded
from hoptrail.mcp_server import build_mcp_server
from hoptrail.request import StepRequest
from hoptrail.testing import Asked, ScriptedChatModel, script, tool_call
from hoptrail.threads import in_own_thread
from tests import two_hops
from tests.late import (
    SLACK,
    Ask,
    SlowAsyncRetriever,
    SlowRetriever,
    a_trail,
    all_at_once,
    check_in_time,
    deaf_port,
    hold_up,
)
from tests.providers import Fault, LoopbackProvider
from tests.serving import served

pytestmark = [pytest.mark.anyio, pytest.mark.promise("deadlines-hold")]

T = TypeVar("T")

DEADLINE = 1.5
TO_GET_THERE = 5.0
"""A deadline that leaves a slow machine time to come to what hangs."""
RUNS = 12
"""More than the threads that asyncio has for all, on a machine of two cores."""


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What blocks in a test waits for this, so that no thread outlives it."""
    event = threading.Event()
    yield event
    event.set()


async def in_time(work: Awaitable[T]) -> T:
    async with asyncio.timeout(20):
        return await work


def slow_tools(release: threading.Event) -> dict[str, BaseTool]:
    @tool
    def blocking() -> str:
        """Take long, in a thread."""
        release.wait(60)
        return "late"

    @tool
    async def awaiting() -> str:
        """Take long, on the loop."""
        await asyncio.sleep(3600)
        return "late"

    class Old(BaseTool):
        name: str = "old"
        description: str = "Take long, written as a class."

        def _run(self) -> str:
            release.wait(60)
            return "late"

    return {"blocking": blocking, "awaiting": awaiting, "old": Old()}


def wants(name: str) -> ScriptedChatModel:
    told = script(["a?"])

    def respond(asked: Asked) -> str | AIMessage | BaseException:
        return tool_call(name) if isinstance(asked.request, StepRequest) else told(asked)

    return ScriptedChatModel(respond=respond)


@pytest.mark.parametrize("name", ["blocking", "awaiting", "old"])
async def test_a_slow_tool(release: threading.Event, name: str) -> None:
    tools = slow_tools(release)
    ask = Ask(deadline=DEADLINE, parts={"model": wants(name), "tools": [tools[name]]})
    trail = a_trail(None, ask)
    try:
        ended = await all_at_once(trail, ask, RUNS)
    finally:
        trail.close()
    check_in_time(ended)
    # The threads that everybody shares are still there for others.
    assert await in_time(asyncio.to_thread(lambda: "free")) == "free"


def test_the_end_of_the_program_does_not_wait_for_a_slow_tool(release: threading.Event) -> None:
    tools = slow_tools(release)
    trail = Hoptrail(
        model=wants("blocking"),
        tools=[tools["blocking"]],
        settings=load_settings(deadline=TO_GET_THERE),
    )
    began = time.monotonic()
    answer = asyncio.run(trail.aask("Q"))
    assert time.monotonic() - began < TO_GET_THERE + SLACK
    assert answer.trace.stop_reason == "budget:deadline"
    trail.close()


@pytest.mark.parametrize("kind", [SlowRetriever, SlowAsyncRetriever])
async def test_a_slow_retriever(
    provider: LoopbackProvider, release: threading.Event, kind: type[SlowRetriever]
) -> None:
    two_hops.serve(provider)
    retriever = kind(wait=lambda: release.wait(60))
    ask = Ask(deadline=DEADLINE, parts={"retriever": retriever})
    trail = a_trail(provider, ask)
    try:
        ended = await all_at_once(trail, ask, RUNS)
    finally:
        trail.close()
    check_in_time(ended)


async def test_an_embedder_that_hangs_at_the_question(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    """The index was built with it, and it was well then."""
    two_hops.serve(provider)
    provider.ollama.models = ["qwen3:8b", "all-minilm:latest"]
    docs = two_hops.write_documents(tmp_path / "docs")
    ask = Ask(deadline=TO_GET_THERE, parts={"docs": docs}, flags={"embedders": "ollama"})
    trail = a_trail(provider, ask)
    try:
        await trail.prepare()
        provider.ollama.embed_fault = Fault("dribble")
        ended = await all_at_once(trail, ask, RUNS)
    finally:
        trail.close()
    check_in_time(ended)
    assert provider.ollama.embeddings[-1].fault


class HangingStore(InMemoryStore):
    """A caller's store whose database has gone away."""

    async def abatch(self, ops: object) -> list[object]:  # type: ignore[override]  # it never does
        await asyncio.sleep(3600)
        return []


@pytest.mark.parametrize(
    "message", ["My name is Anna and I live in Brno.", "Forget that I live in Brno."]
)
async def test_a_memory_that_hangs(message: str) -> None:
    model = ScriptedChatModel(respond=script(chat="hello"))
    settings = load_settings(deadline=DEADLINE, embedders="hash")
    trail = Hoptrail(model=model, store=HangingStore(), settings=settings)
    began = time.monotonic()
    try:
        with pytest.raises(BudgetExceeded, match="deadline"):
            await trail.achat(message)
    finally:
        trail.close()
    assert time.monotonic() - began < DEADLINE + SLACK


class SlowEmbeddings(Embeddings):
    """A caller's embeddings with nothing but blocking methods."""

    def __init__(self, release: threading.Event) -> None:
        self.release = release

    def embed_query(self, text: str) -> list[float]:
        self.release.wait(60)
        return [1.0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.release.wait(60)
        return [[1.0] for _ in texts]


async def test_embeddings_that_block_are_given_up(release: threading.Event) -> None:
    chain = EmbedderChain([ExternalEmbedder(SlowEmbeddings(release))], probe_seconds=0.3)
    with pytest.raises(Exception, match=r"longer than 0\.3 s"):
        await in_time(chain.first())
    assert await in_time(asyncio.to_thread(lambda: "free")) == "free"


async def test_an_embedding_server_that_drips_is_given_up(provider: LoopbackProvider) -> None:
    provider.ollama.embed_fault = Fault("dribble")
    async with httpx.AsyncClient() as client:
        url = provider.ollama_url
        embedder = OllamaEmbedder("all-minilm", url, client=lambda: client, timeout=0.5)
        with pytest.raises(BackendUnavailable, match=r"0\.5 s"):
            await in_time(embedder.embed(["a"], "query"))


async def test_what_blocks_hands_its_error_back() -> None:
    def fails() -> None:
        raise OSError("no")

    def stops() -> None:
        raise StopIteration

    with pytest.raises(OSError, match="no"):
        await in_own_thread(fails)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await in_own_thread(stops)
    assert await in_own_thread(lambda: 1) == 1


# The client of services


@pytest.mark.parametrize("fault", [Fault("dribble"), Fault("endless_comments"), Fault("hang")])
async def test_the_huggingface_client_ends_a_chat(provider: LoopbackProvider, fault: Fault) -> None:
    """However often it is tried anew: the time of a call is that of all its attempts."""
    provider.huggingface.fault = fault
    settings = load_settings(
        huggingface_base_url=provider.huggingface_url,
        token="hf_x",
        call_timeout=1.0,
        first_byte_timeout=0.7,
    )
    client = get_huggingface_client(settings)
    began = time.monotonic()
    with pytest.raises(BackendUnavailable, match="no whole answer within 1 s"):
        await client.chat("hello")
    assert time.monotonic() - began < 1.0 + SLACK
    await client.aclose()


async def test_the_huggingface_client_ends_what_cannot_connect() -> None:
    with deaf_port() as port:
        settings = load_settings(
            huggingface_base_url=f"http://127.0.0.1:{port}", token="hf_x", call_timeout=1.0
        )
        client = get_huggingface_client(settings)
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="no whole answer within 1 s"):
            await client.chat("hello")
        assert time.monotonic() - began < 1.0 + SLACK
        await client.aclose()


# The doors


def test_the_doors_say_that_the_time_is_over(provider: LoopbackProvider) -> None:
    hold_up(provider, "plan", Fault("hang"))
    with served(provider, deadline=0.5, first_byte_timeout=60.0) as server:
        asked = {"question": two_hops.QUESTION}
        reasoned = server.http.post("/reasoning/multi-hop", json=asked)
        talk = [{"role": "user", "content": two_hops.QUESTION}]
        completed = server.http.post(
            "/v1/chat/completions", json={"model": "hoptrail/multi-hop", "messages": talk}
        )
        assert server.live == 0
    for response in (reasoned, completed):
        assert response.status_code == 504
        assert response.json()["error"]["type"] == "budget_exceeded"
        assert response.headers["x-should-retry"] == "false"


async def test_over_mcp_it_is_an_error_of_the_tool(provider: LoopbackProvider) -> None:
    hold_up(provider, "plan", Fault("hang"))
    trail = a_trail(provider, Ask(deadline=0.5))
    try:
        async with Client(build_mcp_server(trail)) as client:
            told = await client.call_tool("ask", {"question": two_hops.QUESTION})
    finally:
        trail.close()
    assert told.is_error
    assert re.search(r"the deadline of 0\.5 s (has )?passed", str(told.content))
