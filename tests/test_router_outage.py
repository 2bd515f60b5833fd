"""Both providers out at once, over real sockets: what they count is what an outage costs them."""

from __future__ import annotations

import asyncio

import pytest

from hoptrail.errors import AllBackendsFailed
from hoptrail.providers.huggingface import HuggingFaceBackend
from hoptrail.providers.ollama import OllamaBackend
from hoptrail.router import RoutedChatModel
from hoptrail.testing import FakeClock
from tests.providers import Fault, LoopbackProvider

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.promise("retries-are-bounded"),
    pytest.mark.promise("recovery-is-noticed"),
]

CHATS = ("/v1/chat/completions", "/api/chat")
AT_ONCE = 4
SECONDS = 120


def chats(provider: LoopbackProvider) -> int:
    """Give how many questions have reached the providers."""
    return sum(provider.calls[path] for path in CHATS)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=500),
        Fault("status", status=503),
        Fault("status", status=429),
        Fault("bad_token"),
        Fault("close"),
        Fault("stream_reset", after=1),
    ],
    ids=lambda fault: f"{fault.kind} {fault.status}",
)
async def test_an_outage_of_both_costs_them_at_most_a_call_a_request_and_soon_far_less(
    provider: LoopbackProvider, fault: Fault
) -> None:
    """Four callers a second for two minutes; probes find both well all the time."""
    clock = FakeClock()
    backends = (
        HuggingFaceBackend("openai/gpt-oss-20b", "hf_x", provider.huggingface_url),
        OllamaBackend("qwen3:8b", provider.ollama_url),
    )
    model = RoutedChatModel(backends, clock=clock, sleep=lambda _: asyncio.sleep(0))
    for side in (provider.huggingface, provider.ollama):
        side.answer("one two three")
        side.fault = fault
    counted = [0]
    for _ in range(SECONDS):
        failed = await asyncio.gather(
            *(model.ainvoke("Q") for _ in range(AT_ONCE)), return_exceptions=True
        )
        assert {type(error) for error in failed} == {AllBackendsFailed}
        counted.append(chats(provider))
        clock.advance(1)
    assert counted[1] >= 2, "both were asked"
    # In any ten seconds, the first ones too.
    most = max(after - before for before, after in zip(counted, counted[10:], strict=False))
    assert most <= 10 * AT_ONCE
    assert counted[-1] <= 0.25 * SECONDS * AT_ONCE
    provider.reset()
    provider.huggingface.answer("well again")
    clock.advance(310)
    assert (await model.ainvoke("Q")).text == "well again"
