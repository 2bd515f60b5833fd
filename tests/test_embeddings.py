"""The embedders one by one: what they send, what they take, and how they fail."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from hoptrail.embeddings import (
    ExternalEmbedder,
    HuggingFaceEmbedder,
    LocalEmbedder,
    OllamaEmbedder,
)
from hoptrail.errors import (
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    InvalidResponse,
    RequestRefused,
    RequestTooLarge,
    SettingsError,
)
from hoptrail.space import CANARY_TEXTS, Vectors, canaries_agree
from tests.providers import (
    BODY,
    CONNECTION,
    EMBEDDING,
    TRANSFER,
    Fault,
    LoopbackProvider,
    unit_vector,
)

pytestmark = pytest.mark.anyio

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
REAL_MODEL = Path(__file__).resolve().parent.parent / ".models" / "all-MiniLM-L6-v2"
Clients = Callable[[], httpx.AsyncClient]
Remote = HuggingFaceEmbedder | OllamaEmbedder


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """The HTTP client of the test's event loop, closed after it."""
    async with httpx.AsyncClient(verify=False) as client:  # certificates cost 40 ms a test
        yield lambda: client


@pytest.fixture(params=["huggingface", "ollama"])
def remote(request: pytest.FixtureRequest, provider: LoopbackProvider, clients: Clients) -> Remote:
    """An embedder of either backend against the loopback server."""
    if request.param == "ollama":
        return OllamaEmbedder(host=provider.ollama_url, client=clients)
    return HuggingFaceEmbedder(base_url=provider.huggingface_url, client=clients)


def with_patience(remote: Remote, seconds: float) -> Remote:
    """The same embedder, which gives up after so many seconds."""
    return dataclasses.replace(remote, timeout=seconds)


def fail(provider: LoopbackProvider, fault: Fault | None) -> None:
    """Let every embedding call of both servers go wrong in one way."""
    provider.huggingface.embed_fault = provider.ollama.embed_fault = fault


def expected(texts: list[str]) -> Vectors:
    """What the loopback all-MiniLM gives."""
    return np.array([unit_vector(text, MINILM) for text in texts], dtype=np.float32)


async def test_texts_come_back_in_order_from_batches_of_32(
    remote: Remote, provider: LoopbackProvider
) -> None:
    texts = [f"passage number {number} about rivers" for number in range(100)]
    rows = await remote.embed(texts, "passage")
    calls = provider.huggingface.embeddings + provider.ollama.embeddings
    assert sorted(len(call.texts) for call in calls) == [4, 32, 32, 32]
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected(texts), atol=1e-6)


async def test_no_text_is_no_row(remote: Remote) -> None:
    assert (await remote.embed([], "passage")).shape == (0, 384)


async def test_concurrency_is_bounded(provider: LoopbackProvider, clients: Clients) -> None:
    provider.ollama.embed_fault = Fault("hang")
    embedder = OllamaEmbedder(host=provider.ollama_url, client=clients, batch_size=1)
    asking = asyncio.ensure_future(embedder.embed(["a", "b", "c", "d", "e"], "passage"))
    async with asyncio.timeout(30):
        while provider.ollama.in_flight < 2:  # noqa: ASYNC110 # its loop is another
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)  # for one too many to come
    assert provider.ollama.peak == 2
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_prefixes_are_put_before_the_text(
    provider: LoopbackProvider, clients: Clients
) -> None:
    embedder = OllamaEmbedder(
        host=provider.ollama_url, client=clients, query_prefix="q: ", passage_prefix="p: "
    )
    await embedder.embed(["river"], "query")
    await embedder.embed(["river"], "passage")
    assert [call.texts for call in provider.ollama.embeddings] == [["q: river"], ["p: river"]]
    plain = OllamaEmbedder(host=provider.ollama_url, client=clients)
    asymmetric = OllamaEmbedder(host=provider.ollama_url, client=clients, query_prefix="q: ")
    assert not canaries_agree(await plain.canaries(), await embedder.canaries())
    assert not canaries_agree(await plain.canaries(), await asymmetric.canaries())


async def test_a_lone_surrogate_does_not_break_a_batch(remote: Remote) -> None:
    rows = await remote.embed(["broken \ud800 pdf", "fine"], "passage")
    assert rows.shape == (2, 384)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("{}", "/embed"),
        ("{}/", "/embed"),
        ("{}/embed", "/embed"),
        ("{}/v1", "/v1/embeddings"),
        ("{}/v1/embeddings", "/v1/embeddings"),
    ],
)
async def test_an_own_endpoint_is_asked_where_it_listens(
    provider: LoopbackProvider, clients: Clients, url: str, path: str
) -> None:
    provider.huggingface.openai_embeddings = True
    embedder = HuggingFaceEmbedder(
        embedding_url=url.format(provider.huggingface_url), client=clients
    )
    rows = await embedder.embed(["one", "two"], "passage")
    assert [call.path for call in provider.huggingface.embeddings] == [path]
    np.testing.assert_allclose(rows, expected(["one", "two"]), atol=1e-6)


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_the_serverless_path_and_the_token(
    provider: LoopbackProvider, clients: Clients, suffix: str
) -> None:
    provider.huggingface.token = "hf_secret"
    embedder = HuggingFaceEmbedder(
        MINILM, "hf_secret", provider.huggingface_url + suffix, client=clients
    )
    await embedder.embed(["one"], "query")
    (call,) = provider.huggingface.embeddings
    assert call.path == f"/hf-inference/models/{MINILM}/pipeline/feature-extraction"
    assert call.body == {"inputs": ["one"], "normalize": True, "truncate": True}
    assert "hf_secret" not in repr(embedder)


async def test_a_flat_vector_is_taken_and_token_vectors_are_refused(
    provider: LoopbackProvider, clients: Clients
) -> None:
    embedder = HuggingFaceEmbedder(base_url=provider.huggingface_url, client=clients)
    provider.huggingface.embedding_shape = "pooled"
    assert (await embedder.embed(["one"], "query")).shape == (1, 384)
    provider.huggingface.embedding_shape = "unpooled"
    with pytest.raises(BackendRefused, match="vector per token"):
        await embedder.embed(["one", "two"], "passage")


async def test_without_a_token_the_router_is_not_asked(
    clients: Clients, outside_connections: list[str]
) -> None:
    with pytest.raises(BackendRefused, match="HF_TOKEN"):
        await HuggingFaceEmbedder(client=clients).embed(["one"], "query")
    assert outside_connections == []


def test_a_token_that_no_header_may_hold_is_refused_unsaid() -> None:
    with pytest.raises(SettingsError) as caught:
        HuggingFaceEmbedder(token="hf_secret\n", client=httpx.AsyncClient)
    assert "hf_secret" not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(set(EMBEDDING) - {"shuffled"}))
async def test_vectors_that_must_not_be_used_are_refused(
    remote: Remote, provider: LoopbackProvider, kind: str
) -> None:
    await remote.embed(["learn", "the width"], "passage")
    fail(provider, Fault(kind))
    with pytest.raises(BackendError) as caught:
        await remote.embed(["one river", "two rivers", "three"], "passage")
    assert isinstance(caught.value, InvalidResponse | BackendUnavailable)


async def test_a_backend_that_mixes_up_the_order_is_found_by_its_canaries(
    remote: Remote, provider: LoopbackProvider
) -> None:
    fail(provider, Fault("shuffled"))
    with pytest.raises(InvalidResponse, match="order"):
        await remote.canaries()


@pytest.mark.parametrize("kind", sorted(BODY.keys() | TRANSFER | CONNECTION))
async def test_a_broken_answer_raises_or_is_the_answer(
    remote: Remote, provider: LoopbackProvider, kind: str
) -> None:
    """No fault of transport or body gives wrong vectors, hangs, or raises a foreign error."""
    fail(provider, Fault(kind, seconds=3600, size=30_000_000))
    started = time.monotonic()
    with contextlib.suppress(BackendError):
        rows = await with_patience(remote, 0.5).embed(["one river"], "query")
        np.testing.assert_allclose(rows, expected(["one river"]), atol=1e-6)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("fault", "error", "retry_after"),
    [
        (Fault("bad_token"), BackendRefused, None),
        (Fault("unauthorized_empty"), BackendRefused, None),
        (Fault("out_of_credit"), BackendRefused, None),
        (Fault("no_permission"), BackendRefused, None),
        (Fault("model_missing"), BackendRefused, None),
        (Fault("gone"), BackendRefused, None),
        (Fault("model_not_supported"), BackendRefused, None),
        (Fault("redirect_off_host"), BackendRefused, None),
        (Fault("redirect_loop"), BackendRefused, None),
        (Fault("rate_limit", headers={"Retry-After": "7"}), BackendBusy, 7.0),
        (Fault("rate_limit", headers={"Retry-After": "soon"}), BackendBusy, None),
        (Fault("rate_limit", headers={"Retry-After": "99999"}), BackendBusy, 120.0),
        (Fault("hub_rate_limit"), BackendBusy, 55.0),
        (Fault("overloaded"), BackendBusy, None),
        (Fault("loading"), BackendBusy, 20.0),
        (Fault("scaled_to_zero"), BackendUnavailable, None),
        (Fault("server_error_html"), BackendUnavailable, None),
        (Fault("bad_gateway"), BackendUnavailable, None),
        (Fault("generation"), BackendUnavailable, None),
        (Fault("too_large"), RequestTooLarge, None),
        (Fault("detail"), RequestRefused, None),
        (Fault("status", status=405), RequestRefused, None),
        (Fault("no_content"), InvalidResponse, None),
        (Fault("error_body"), InvalidResponse, None),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
async def test_a_status_says_what_to_do_next(
    provider: LoopbackProvider,
    clients: Clients,
    fault: Fault,
    error: type[BackendError],
    retry_after: float | None,
) -> None:
    fail(provider, fault)
    embedder = HuggingFaceEmbedder(base_url=provider.huggingface_url, client=clients)
    with pytest.raises(BackendError) as caught:
        await embedder.embed(["one"], "query")
    assert (error, retry_after) == (type(caught.value), caught.value.retry_after)


async def test_a_batch_is_asked_once_more_when_that_can_help(
    remote: Remote, provider: LoopbackProvider
) -> None:
    for side in (provider.huggingface, provider.ollama):
        side.embed_faults.extend([Fault("reset"), None])
    assert (await remote.embed(["one"], "query")).shape == (1, 384)
    fail(provider, Fault("bad_token"))
    asked = len(provider.huggingface.embeddings + provider.ollama.embeddings)
    with pytest.raises(BackendRefused):
        await remote.embed(["one"], "query")
    assert len(provider.huggingface.embeddings + provider.ollama.embeddings) == asked + 1


async def test_who_waited_once_does_not_wait_again(
    remote: Remote, provider: LoopbackProvider
) -> None:
    fail(provider, Fault("hang"))
    with pytest.raises(BackendUnavailable, match=r"within 0\.5 s"):
        await with_patience(remote, 0.5).embed(["one"], "query")
    async with asyncio.timeout(30):  # it may have given up before it was heard
        while not provider.huggingface.embeddings + provider.ollama.embeddings:  # noqa: ASYNC110 # its loop is another
            await asyncio.sleep(0.005)
    assert len(provider.huggingface.embeddings + provider.ollama.embeddings) == 1


async def test_ingestion_waits_for_a_busy_server_and_a_query_does_not(
    provider: LoopbackProvider, clients: Clients
) -> None:
    busy = Fault("rate_limit", headers={"Retry-After": "1"})
    embedder = HuggingFaceEmbedder(base_url=provider.huggingface_url, client=clients)
    provider.huggingface.embed_faults.append(busy)
    with pytest.raises(BackendBusy):
        await embedder.embed(["one"], "query")
    provider.huggingface.embed_faults.append(busy)
    assert (await embedder.embed(["one"], "passage")).shape == (1, 384)


async def test_cancelling_leaves_no_call_behind(remote: Remote, provider: LoopbackProvider) -> None:
    fail(provider, Fault("hang"))
    asking = asyncio.ensure_future(remote.embed(["one", "two"] * 40, "passage"))
    async with asyncio.timeout(30):
        while not provider.in_flight:  # noqa: ASYNC110 # its loop is another
            await asyncio.sleep(0.005)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.to_thread(provider.settle)


async def test_ollama_names_the_digest_and_the_model_it_lacks(
    provider: LoopbackProvider, clients: Clients
) -> None:
    embedder = OllamaEmbedder(host=provider.ollama_url, client=clients)
    tags = (await clients().get(f"{provider.ollama_url}/api/tags")).json()["models"]
    digests = {model["name"]: model["digest"] for model in tags}
    assert (await embedder.space()).revision == digests["all-minilm:latest"]
    provider.ollama.models = ["qwen3:8b"]
    with pytest.raises(BackendRefused, match="ollama pull all-minilm") as caught:
        await embedder.embed(["one"], "query")
    assert caught.value.status == 404


async def test_ollamas_400_is_not_the_requests_fault(
    provider: LoopbackProvider, clients: Clients
) -> None:
    provider.ollama.embed_fault = Fault("status", status=400)
    embedder = OllamaEmbedder(host=provider.ollama_url, client=clients)
    with pytest.raises(BackendUnavailable):
        await embedder.embed(["one"], "query")


class Letters(Embeddings):
    """A user's own embeddings: how often each letter occurs."""

    model = "letters"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(text.lower().count(chr(97 + i))) for i in range(26)] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        if "!" in text:
            raise RuntimeError("no shouting")
        return self.embed_documents([text])[0]


async def test_any_langchain_embeddings_are_checked_and_normalised() -> None:
    embedder = ExternalEmbedder(Letters())
    rows = await embedder.embed(["abba", "zebra"], "passage")
    np.testing.assert_allclose(rows[0, :2], [math.sqrt(0.5)] * 2)
    space = await embedder.space()
    assert (space.backend, space.model, space.dimensions) == ("external", "letters", 26)
    with pytest.raises(InvalidResponse, match="length"):
        await embedder.embed(["123"], "passage")
    with pytest.raises(BackendUnavailable, match="no shouting"):
        await embedder.embed(["hey!"], "query")


async def test_without_fastembed_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "fastembed", None)
    with pytest.raises(BackendRefused, match=r"pip install 'hoptrail\[local\]'"):
        await LocalEmbedder().embed(["one"], "query")


async def test_a_folder_without_the_model_is_named(tmp_path: Path) -> None:
    pytest.importorskip("fastembed")
    with pytest.raises(BackendRefused, match=r"model\.onnx.*tokenizer\.json"):
        await LocalEmbedder(path=tmp_path).embed(["one"], "query")


async def test_local_files_only_fetches_nothing(
    tmp_path: Path, outside_connections: list[str]
) -> None:
    pytest.importorskip("fastembed")
    embedder = LocalEmbedder(cache_dir=tmp_path, local_files_only=True)
    with pytest.raises(BackendRefused, match="cannot be loaded"):
        await embedder.embed(["one"], "query")
    assert outside_connections == []


@pytest.mark.model
@pytest.mark.skipif(not REAL_MODEL.exists(), reason="no real weights here: run `make model`")
async def test_the_real_minilm() -> None:
    """fp32 and int8 are one space; meaning beats words; a passage is read beyond 128 tokens."""
    pytest.importorskip("fastembed")
    full = LocalEmbedder(path=REAL_MODEL)
    small = LocalEmbedder(path=REAL_MODEL, model_file="model_int8.onnx")
    assert canaries_agree(await full.canaries(), await small.canaries())
    assert (await full.space()).id != (await small.space()).id
    question, near, far = await full.embed(
        ["Which river flows through the Czech capital?", CANARY_TEXTS[0], CANARY_TEXTS[2]], "query"
    )
    assert question @ near > 0.5 > 0.2 > question @ far
    filler = "The castle was built in stone. " * 22
    ends = await full.embed([filler + "Bread needs yeast.", filler + "Atoms decay."], "passage")
    assert ends[0] @ ends[1] < 0.999
    np.testing.assert_allclose(np.linalg.norm(ends, axis=1), 1, rtol=1e-5)
