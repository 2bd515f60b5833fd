"""Whoever gives up tells nothing of the backend, at whatever moment: nobody is benched for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hoptrail.backend import Backend
from hoptrail.errors import BackendBusy, BackendUnavailable, InvalidResponse
from hoptrail.providers.huggingface import HuggingFaceBackend
from hoptrail.providers.ollama import OllamaBackend
from hoptrail.router import RoutedChatModel
from hoptrail.testing import Reply, ScriptedBackend
from tests.providers import LoopbackProvider
from tests.virtual_time import run_virtually

pytestmark = [pytest.mark.promise("cancelling-benches-nobody"), pytest.mark.timeout(300)]

MOMENTS = [at / 10 + 0.05 for at in range(40)]


def scripted() -> list[ScriptedBackend]:
    """Give two backends between which a call probes, tries, waits, tries again and streams."""
    refused = Reply(error=BackendUnavailable("refused", backend="one"), token_delay=0.1)
    broken = Reply("a b c", error=InvalidResponse("cut", backend="one"), token_delay=0.15)
    busy = BackendBusy("later", backend="two", retry_after=1.5)
    words = Reply("a b c d e", token_delay=0.1)
    return [
        ScriptedBackend("one", [refused, broken], delay=0.3, probe_delay=0.3),
        ScriptedBackend("two", [busy, words], delay=0.3, probe_delay=0.4),
    ]


@pytest.mark.parametrize("reading", ["ainvoke", "astream"])
def test_at_forty_moments_of_a_call(reading: str) -> None:
    """While probing, asking, backing off, waiting and streaming: out it comes, and that is all."""
    seen: set[tuple[int, int]] = set()

    async def cancelled_at(moment: float) -> None:
        backends = scripted()
        loop = asyncio.get_running_loop()
        model = RoutedChatModel(backends, clock=loop.time)

        async def ask() -> None:
            if reading == "ainvoke":
                await model.ainvoke("Q", deadline=60.0)
            else:
                async for _ in model.astream("Q", deadline=60.0):
                    pass

        async with asyncio.TaskGroup() as group:
            task = group.create_task(ask())
            await asyncio.sleep(moment)
            assert not task.done(), "the moments lie within the call"
            calls = [len(backend.calls) for backend in backends]
            stood = [_stands(model, at) for at in (0, 1)]
            began = loop.time()
            task.cancel()
        assert task.cancelled()
        assert loop.time() == began
        assert [_stands(model, at) for at in (0, 1)] == stood
        await asyncio.sleep(120)
        assert [len(backend.calls) for backend in backends] == calls
        assert all(call.ended for backend in backends for call in backend.calls)
        seen.add((calls[0], calls[1]))

    for moment in MOMENTS:
        run_virtually(cancelled_at(moment))
    assert {(0, 0), (1, 0), (2, 0), (2, 1), (2, 2)} <= seen


def _stands(model: RoutedChatModel, at: int) -> dict[str, Any]:
    standing = model._standings[at]
    breaker = dict(standing._breaker.__dict__)
    breaker["_results"] = list(breaker["_results"])
    return {"breaker": breaker, "benched": standing._benched_until, "retries": model._retries.left}


@pytest.fixture
def real(provider: LoopbackProvider) -> tuple[LoopbackProvider, list[Backend]]:
    return (
        provider,
        [
            HuggingFaceBackend("openai/gpt-oss-20b", "hf_x", provider.huggingface_url),
            OllamaBackend("qwen3:8b", provider.ollama_url),
        ],
    )


@pytest.mark.anyio
@pytest.mark.parametrize("which", [0, 1], ids=["huggingface", "ollama"])
async def test_a_call_that_ends_as_it_is_cancelled_is_one_or_the_other(
    real: tuple[LoopbackProvider, list[Backend]], which: int
) -> None:
    """Three hundred times on either client: cancelled, or answered in whole; never asked again."""
    provider, backends = real
    side = (provider.huggingface, provider.ollama)[which]
    side.answer("The answer.")
    model = RoutedChatModel([backends[which]])
    await model.ainvoke("Q")
    ends: list[str] = []
    for turn in range(300):
        asking = asyncio.ensure_future(model.ainvoke("Q"))
        for _ in range(turn % 50):
            await asyncio.sleep(0)
        chats = len(side.chats)
        while turn % 2 and len(side.chats) == chats and not asking.done():  # noqa: ASYNC110 # its loop is another
            await asyncio.sleep(0)  # the provider is in another thread
        was_done = asking.done()
        asking.cancel()
        try:
            message = await asking
            assert message.text == "The answer."
            assert was_done, "a cancellation is not swallowed"
            ends.append("answered")
        except asyncio.CancelledError:
            ends.append("cancelled")
    assert ends.count("cancelled") > 60
    assert model._standings[0].pause() is None
    assert not model._standings[0]._breaker._in_a_row
    assert (await model.ainvoke("Q")).text == "The answer."
    assert len(side.chats) <= 302


@pytest.mark.promise("one-probe")
def test_a_reader_who_leaves_at_the_news_of_a_restart_gives_the_trial_back() -> None:
    """The trial is taken before the news is told: who leaves there must not keep it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        refused = BackendUnavailable("refused", backend="one")
        one = ScriptedBackend("one", [*[refused] * 5, "from one"])
        broken = Reply("a b", error=BackendBusy("later", backend="two", retry_after=60))
        broken.error_after = 1
        two = ScriptedBackend("two", ["well"] * 3 + [broken], delay=0.01)
        model = RoutedChatModel([one, two], clock=loop.time)
        while len(one.calls) < 5:
            await model.ainvoke("Q")
        stream = model._astream([], deadline=200.0)
        await anext(stream)
        news = await anext(stream)
        assert news.message.response_metadata["attempt_restarted"]["to"] == "one:scripted"
        await stream.aclose()
        assert model._standings[0].pause() is None, "the trial is free again"
        assert len(one.calls) == 5

    run_virtually(main())
