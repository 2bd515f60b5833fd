"""Whatever goes wrong with a provider that repeats the key it was sent, no key gets out."""

import asyncio
import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest

from hoptrail import Hoptrail, load_settings
from hoptrail.connections import aclose_all
from hoptrail.doctor import check_up
from hoptrail.errors import HoptrailError
from hoptrail.events import Event
from tests import two_hops
from tests.canaries import CANARIES
from tests.providers import (
    BODY,
    CONNECTION,
    EMBEDDING,
    ERRORS,
    STREAM,
    TRANSFER,
    VARIATION,
    ChatRequest,
    Fault,
    LoopbackProvider,
    Reply,
)
from tests.sinks import Sinks, keys

pytestmark = [pytest.mark.anyio, pytest.mark.promise("secrets-stay-in")]

KEY = CANARIES["token"]
ECHO = {"X-Echo": f"Bearer {KEY}", "Location": f"http://127.0.0.1:9/?key={quote(KEY)}"}
SAID = {
    "as it is": f"bad key {KEY}",
    "quoted": f"the header 'Bearer {KEY}' is wrong",
    "url-encoded": f"GET /?token={quote(KEY, safe='')} failed",
    "in base64": "Basic " + base64.b64encode(f"user:{KEY}".encode()).decode(),
    "cut at our limit": " " * 65_526 + KEY,
    "cut for a reader": "x" * 290 + " " + KEY,
    "twice as long": f"{KEY}{KEY}",
}
GROUPS: dict[str, Sequence[Fault]] = {
    "connection": [Fault(kind, seconds=2, echo=True) for kind in sorted(CONNECTION)],
    "error": [Fault(kind, headers=ECHO, echo=True) for kind in sorted(ERRORS)],
    "body": [Fault(kind, echo=True) for kind in sorted(BODY)],
    "transfer": [Fault(kind, seconds=0.02, size=2**20, echo=True) for kind in sorted(TRANSFER)],
    "stream": [
        Fault(kind, seconds=0.02, size=2**21, after=1, echo=True) for kind in sorted(STREAM)
    ],
    # A few of those in which no word of a provider's is read: oddly written answers, bad vectors.
    "no words": [Fault(kind, echo=True) for kind in sorted({*VARIATION, *EMBEDDING})][::4],
    "words": [
        Fault("status", status=status, message=said, envelope=envelope, headers=ECHO)
        for said in SAID.values()
        for status, envelope in zip(
            (400, 401, 403, 429, 500),
            ("string", "object", "text", "detail", "message"),
            strict=True,
        )
    ],
}


def telling(request: ChatRequest) -> Reply:
    """Answer rightly, and with the key: in the plan's prose, in each answer, in its reasons."""
    right = two_hops.respond(request)
    said = right.text.replace("Prague", f"Prague {KEY}").replace("scripted", f"by {KEY}")
    return Reply(said, reasoning=f"The key is {KEY}.")


@pytest.fixture
def trail(provider: LoopbackProvider, tmp_path: Path) -> Hoptrail:
    saved = Path.home() / ".cache" / "huggingface"
    saved.mkdir(parents=True)
    (saved / "token").write_text(CANARIES["login"], encoding="utf-8")
    docs = two_hops.write_documents(tmp_path / "docs")
    return Hoptrail(docs, settings=load_settings(**_flags(provider)))


def _flags(provider: LoopbackProvider) -> dict[str, object]:
    return {
        **keys(),
        "huggingface_base_url": provider.huggingface_url,
        "ollama_host": provider.ollama_url,
        "backends": "huggingface",
        "embedders": "huggingface,hash",
        "deadline": 0.8,
        "idle_timeout": 0.2,
        "first_byte_timeout": 0.2,
        "call_timeout": 0.4,
    }


async def used(trail: Hoptrail, sinks: Sinks, probed: Callable[[], None]) -> None:
    """Ask, embed, then probe and check up; look at what comes of each."""
    events: list[Event] = []
    try:
        async for event in trail.astream(two_hops.QUESTION):
            events.append(event)
    except HoptrailError as error:
        sinks.take_error(error)
    sinks.take_events(events, trail)
    probed()
    sinks.take("told", repr(await check_up(trail.assembly)))


async def swept(trail: Hoptrail, sinks: Sinks, probed: Callable[[], None]) -> None:
    """Use a trail, and close its connections."""
    try:
        await used(trail, sinks, probed)
    finally:
        await aclose_all()


def wrong(provider: LoopbackProvider, fault: Fault | None) -> Callable[[], None]:
    """Let chats and embeddings of the provider fail so; gives what lets the probes fail, too."""
    provider.reset()
    side = provider.huggingface
    side.fault = side.embed_fault = fault
    side.respond = telling

    def probed() -> None:
        side.probe_fault = fault

    return probed


@pytest.mark.timeout(300)
@pytest.mark.parametrize("group", GROUPS)
def test_no_key_is_in_any_sink_whatever_a_provider_does(
    provider: LoopbackProvider, trail: Hoptrail, tmp_path: Path, group: str
) -> None:
    found = {}
    for fault in GROUPS[group]:
        probed, sinks = wrong(provider, fault), Sinks()
        each = Hoptrail(trail.assembly.docs, settings=trail.assembly.settings)
        with sinks.logs():
            asyncio.run(swept(each, sinks, probed), debug=group == "connection")
        each.close()
        sinks.take_files(tmp_path / "home")
        if sinks.found:
            found[f"{fault.kind} {fault.status} {fault.message[:20]} {fault.envelope}"] = (
                sinks.found
            )
        assert {"log", "event", "told", "files journal.db"} <= set(sinks.seen)
    provider.reset()
    assert not found, "\n".join(f"{fault}: {sinks}" for fault, sinks in found.items())
