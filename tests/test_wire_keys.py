"""A key goes to the server it is for: over no redirect, through no proxy of the environment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from langchain_core.messages import HumanMessage

from hoptrail.assembly import make_embedder
from hoptrail.backend import CallOptions
from hoptrail.connections import aclose_all
from hoptrail.errors import BackendRefused
from tests.canaries import leaks
from tests.providers import Fault, LoopbackProvider
from tests.wire_cells import backend, settings, side
from tests.wire_faults import CHATS

pytestmark = [pytest.mark.anyio, pytest.mark.promise("a-key-stays-with-its-server")]

Asking = Callable[[str, LoopbackProvider], Awaitable[object]]


async def chat(name: str, provider: LoopbackProvider) -> object:
    return await backend(name, provider).generate([HumanMessage("Q")], CallOptions())


async def embed(name: str, provider: LoopbackProvider) -> object:
    return await make_embedder(name, settings(provider)).embed(["a text"], "query")


async def probe(name: str, provider: LoopbackProvider) -> object:
    found = await backend(name, provider).probe()
    if found.state == "misconfigured":
        raise BackendRefused(found.detail, backend=name)
    return found


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("asking", [chat, embed, probe])
async def test_no_redirect_is_followed(
    asking: Asking, name: str, status: int, provider: LoopbackProvider
) -> None:
    """Neither to another server nor to another path of the same."""
    with LoopbackProvider() as elsewhere:
        for other in (elsewhere, provider):
            fault = Fault("status", status=status, headers={"location": side(other, name).url})
            asked = side(provider, name)
            asked.fault = asked.embed_fault = asked.probe_fault = fault
            before = sum(asked.calls.values())
            with pytest.raises(BackendRefused) as refused:
                await asking(name, provider)
            assert sum(asked.calls.values()) == before + 1
            assert not leaks(repr(refused.value))
        assert not elsewhere.calls
    await aclose_all()


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("asking", [chat, embed, probe])
async def test_no_proxy_of_the_environment_is_used(
    asking: Asking, name: str, provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackProvider() as proxy:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(variable, proxy.huggingface_url)
            monkeypatch.setenv(variable.lower(), proxy.huggingface_url)
        await asking(name, provider)
        assert not proxy.calls
        assert proxy.huggingface.connections == 0
    await aclose_all()
