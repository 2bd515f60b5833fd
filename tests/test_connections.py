"""The shared connections, and the loop on which the synchronous doors run."""

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator

import httpx
import pytest

from hoptrail.background import background
from hoptrail.connections import (
    MAX_BODY,
    MAX_REFUSAL,
    HttpRefusal,
    TooLarge,
    aclose_all,
    refuse,
    shared_client,
)
from tests.providers import Fault, LoopbackProvider

pytestmark = pytest.mark.anyio


async def test_one_client_per_loop() -> None:
    """The same within a loop, another one in another."""
    assert shared_client() is shared_client()

    async def other() -> httpx.AsyncClient:
        return shared_client()

    elsewhere = await asyncio.to_thread(lambda: asyncio.run(other()))
    assert elsewhere is not shared_client()
    assert elsewhere.is_closed
    await aclose_all()


def test_the_end_of_the_loop_closes_it(provider: LoopbackProvider) -> None:
    """Without anybody's help, and without a ResourceWarning."""

    async def use() -> httpx.AsyncClient:
        await shared_client().get(f"{provider.ollama_url}/api/version")
        return shared_client()

    assert asyncio.run(use()).is_closed
    gc.collect()


@pytest.mark.parametrize("kind", ["infinite_body", "giant_line"])
async def test_sizes_have_an_end(provider: LoopbackProvider, kind: str) -> None:
    """No server can fill the memory."""
    provider.ollama.fault = Fault(kind)
    body = {"model": "qwen3:8b", "messages": [{"role": "user", "content": "Q"}]}
    read = []
    async with shared_client().stream(
        "POST", f"{provider.ollama_url}/api/chat", json=body
    ) as response:
        parts = response.aiter_raw()
        with pytest.raises(TooLarge):
            read += [len(part) async for part in parts]
    assert sum(read) <= MAX_BODY


async def test_a_refusal_keeps_what_a_verdict_needs(provider: LoopbackProvider) -> None:
    """Status, headers and what the server said."""
    provider.ollama.probe_fault = Fault("status", status=429, headers={"retry-after": "7"})
    with pytest.raises(HttpRefusal) as refused:
        async with shared_client().stream("GET", f"{provider.ollama_url}/api/tags") as response:
            await refuse(response)
    assert (refused.value.status, refused.value.headers["retry-after"]) == (429, "7")
    assert "told to fail" in refused.value.text


async def count(ends: list[str]) -> AsyncGenerator[int, None]:
    try:
        for number in range(1000):
            await asyncio.sleep(0)
            yield number
    finally:
        ends.append(threading.current_thread().name)


def test_the_background_loop_runs_and_iterates() -> None:
    """Results, exceptions and streams come back; leaving a stream early closes it there."""

    async def double(number: int) -> int:
        if number < 0:
            raise ValueError("negative")
        return 2 * number

    assert background().run(double(4)) == 8
    with pytest.raises(ValueError, match="negative"):
        background().run(double(-1))
    ends: list[str] = []
    stream = background().iterate(count(ends))
    assert [next(stream), next(stream)] == [0, 1]
    del stream
    background().run(asyncio.sleep(0.01))
    assert ends == ["hoptrail"]
    assert list(background().iterate(count(ends))) == list(range(1000))


def test_the_background_loop_refuses_to_wait_for_itself() -> None:
    """That would never end."""

    async def nested() -> None:
        background().run(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="await it"):
        background().run(nested())


@pytest.mark.parametrize("filler", [b" ", b"x"])
async def test_a_refusal_that_is_cut_ends_in_no_half_key(filler: bytes) -> None:
    body = filler * (MAX_REFUSAL - 6) + b"secret-key"
    with pytest.raises(HttpRefusal) as refused:
        await refuse(httpx.Response(500, stream=httpx.ByteStream(body)))
    assert "s" not in refused.value.text
    assert len(refused.value.text) > MAX_REFUSAL // 2
