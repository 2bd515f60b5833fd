"""Which embedder may be used now: failover, recovery, and never two spaces in one place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from hoptrail.embeddings import (
    EmbedderChain,
    ExternalEmbedder,
    HashEmbedder,
    HuggingFaceEmbedder,
    OllamaEmbedder,
    as_langchain,
)
from hoptrail.errors import (
    AllBackendsFailed,
    BackendBusy,
    BackendUnavailable,
    IndexDamaged,
    RequestRefused,
    SpaceMismatch,
)
from hoptrail.space import Embedder, EmbeddingSpace, TextKind, Vectors
from tests.clock import Clock
from tests.providers import EMBEDDING, Fault, LoopbackProvider, unit_vector

pytestmark = pytest.mark.anyio

Clients = Callable[[], httpx.AsyncClient]


@dataclass(eq=False)
class Scripted(Embedder):
    """An embedder in memory: ``weights`` names its space, ``failure`` is raised when set."""

    weights: str = "all-minilm"
    failure: Exception | None = None
    delay: float = 0.0
    asked: list[str] = field(default_factory=list)
    backend = "external"

    async def space(self) -> EmbeddingSpace:
        return EmbeddingSpace(backend=self.backend, model="scripted", dimensions=384)

    async def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        self.asked.extend(texts)
        await asyncio.sleep(self.delay)
        if self.failure:
            raise self.failure
        return np.array([unit_vector(text, self.weights) for text in texts], dtype=np.float32)


def down(retry_after: float | None = None) -> BackendUnavailable:
    return BackendUnavailable("it is down", backend="external", retry_after=retry_after)


@dataclass
class Servers:
    """Both loopback embedders in one chain, and its clock."""

    provider: LoopbackProvider
    chain: EmbedderChain
    clock: Clock
    clients: Clients

    def ollama(self, model: str) -> EmbedderChain:
        """A chain with nothing but this model of Ollama's."""
        embedder = OllamaEmbedder(model, self.provider.ollama_url, client=self.clients)
        return EmbedderChain([embedder])


@pytest.fixture
async def servers(provider: LoopbackProvider) -> AsyncIterator[Servers]:
    async with httpx.AsyncClient(verify=False) as client:  # certificates cost 40 ms a test
        clock = Clock()
        embedders = [
            HuggingFaceEmbedder(base_url=provider.huggingface_url, client=lambda: client),
            OllamaEmbedder(host=provider.ollama_url, client=lambda: client),
        ]
        yield Servers(provider, EmbedderChain(embedders, clock=clock), clock, lambda: client)


async def test_a_dead_host_is_passed_over_then_left_alone_then_taken_back(
    servers: Servers,
) -> None:
    servers.provider.huggingface.embed_fault = Fault("bad_gateway")
    assert (await servers.chain.first()).backend == "ollama"
    (reason,) = servers.chain.reasons
    assert reason.startswith("huggingface:sentence-transformers/all-MiniLM-L6-v2: HTTP 502")

    asked = len(servers.provider.huggingface.embeddings)
    servers.provider.huggingface.embed_fault = None
    servers.clock.now += 29
    assert (await servers.chain.first()).backend == "ollama"
    assert len(servers.provider.huggingface.embeddings) == asked
    servers.clock.now += 2
    assert (await servers.chain.first()).backend == "huggingface"
    assert servers.chain.reasons == []


@pytest.mark.parametrize("kind", sorted(set(EMBEDDING) - {"wrong_width"}))
async def test_a_backend_with_bad_vectors_is_not_up(servers: Servers, kind: str) -> None:
    servers.provider.huggingface.embed_fault = Fault(kind)
    assert (await servers.chain.first()).backend == "ollama"


async def test_a_backend_of_another_width_is_passed_over_for_the_index(servers: Servers) -> None:
    built = await servers.ollama("all-minilm").first()
    servers.provider.huggingface.embed_fault = Fault("wrong_width")
    found = await servers.chain.matching((await built.space()).id, await built.canaries())
    assert found is not None
    assert found.backend == "ollama"
    assert "383 wide, the index 384" in servers.chain.reasons[0]


async def test_a_failing_call_stays_with_its_backend_and_benches_it(servers: Servers) -> None:
    """A batch that fails in the middle is never finished by another backend."""
    embedder = await servers.chain.first()
    servers.provider.huggingface.embed_faults.extend([None, None, *[Fault("reset")] * 8])
    with pytest.raises(BackendUnavailable):
        await embedder.embed([f"passage {number}" for number in range(100)], "passage")
    assert servers.provider.ollama.embeddings == []
    assert (await servers.chain.first()).backend == "ollama"


async def test_the_same_model_behind_another_backend_may_query_the_index(
    servers: Servers,
) -> None:
    built = await servers.ollama("all-minilm").first()
    space_id, canaries = (await built.space()).id, await built.canaries()
    found = await servers.chain.matching(space_id, canaries)
    assert found is not None
    assert found.backend == "huggingface"
    assert (await found.space()).id != space_id


@pytest.mark.parametrize(
    ("model", "why"), [("bge-small-384", "canary's cosine is"), ("nomic-embed-text", "384 wide")]
)
async def test_another_model_may_not_query_the_index_whatever_its_width(
    servers: Servers, model: str, why: str
) -> None:
    servers.provider.ollama.models = [model, "all-minilm"]
    built = await servers.ollama(model).first()
    found = await servers.chain.matching((await built.space()).id, await built.canaries())
    assert found is None
    assert len(servers.chain.reasons) == 2
    assert all(why in reason for reason in servers.chain.reasons)


async def test_a_model_that_changes_behind_its_name_is_noticed() -> None:
    clock, scripted = Clock(), Scripted()
    chain = EmbedderChain([scripted], clock=clock)
    built = await chain.first()
    space_id, canaries = (await built.space()).id, await built.canaries()
    assert await chain.matching(space_id, canaries) is built
    scripted.weights = "another-384"
    clock.now += 301
    assert await chain.matching(space_id, canaries) is None
    scripted.weights = "all-minilm"
    clock.now += 301
    assert await chain.matching(space_id, canaries) is built


async def test_vectors_that_nobody_normalised_are_in_the_same_space() -> None:
    class Long(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[7 * x for x in unit_vector(text, "all-minilm")] for text in texts]

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    scripted = Scripted()
    chain = EmbedderChain([ExternalEmbedder(Long())])
    assert await chain.matching("any:id", await scripted.canaries()) is not None


async def test_a_corpus_embedder_is_restored_and_only_for_its_own_corpus() -> None:
    one = HashEmbedder(512).fitted(["The Vltava is a river", "Bread needs yeast"])
    other = HashEmbedder(512).fitted(["The Vltava is a river", "Bread needs salt"])
    space_id, canaries = (await one.space()).id, await one.canaries()
    chain = EmbedderChain([Scripted(), HashEmbedder()])

    found = await chain.matching(space_id, canaries, one.dump())
    assert found is not None
    assert await found.space() == await one.space()
    assert await chain.matching(space_id, canaries, one.dump()) is found
    assert await chain.matching((await other.space()).id, canaries, one.dump()) is None
    assert await chain.matching(space_id, canaries) is None
    assert "corpus" in chain.reasons[1]
    with pytest.raises(IndexDamaged):
        await chain.matching("another:id", canaries, b"not a table")


async def test_hashing_never_queries_a_models_index() -> None:
    built = Scripted()
    chain = EmbedderChain([HashEmbedder(384)])
    assert await chain.matching((await built.space()).id, await built.canaries()) is None


async def test_hashing_is_always_up() -> None:
    chain = EmbedderChain([Scripted(failure=down()), HashEmbedder()])
    assert (await chain.first()).backend == "hash"


async def test_when_none_is_up_each_reason_is_told() -> None:
    busy = BackendBusy("come back", backend="external", retry_after=90.0)
    clock = Clock()
    chain = EmbedderChain([Scripted(failure=down()), Scripted(failure=busy)], clock=clock)
    for _ in range(3):
        with pytest.raises(AllBackendsFailed) as caught:
            await chain.first()
        assert [type(cause) for cause in caught.value.causes] == [BackendUnavailable, BackendBusy]
    assert await chain.matching("any:id", np.ones((5, 3), np.float32)) is None
    assert len(chain.reasons) == 2


async def test_a_busy_server_is_left_alone_as_long_as_it_asked() -> None:
    clock = Clock()
    busy = Scripted(failure=BackendBusy("come back", backend="external", retry_after=90.0))
    chain = EmbedderChain([busy, HashEmbedder()], clock=clock)
    await chain.first()
    clock.now += 60
    await chain.first()
    assert len(busy.asked) == 1
    clock.now += 31
    await chain.first()
    assert len(busy.asked) == 2


async def test_a_refused_text_does_not_bench_the_embedder() -> None:
    scripted = Scripted()
    chain = EmbedderChain([scripted, HashEmbedder()])
    embedder = await chain.first()
    scripted.failure = RequestRefused("this text is too long", backend="external")
    with pytest.raises(RequestRefused):
        await embedder.embed(["long"], "query")
    assert await chain.first() is embedder


async def test_many_searches_at_once_probe_once() -> None:
    scripted = Scripted(delay=0.005)
    chain = EmbedderChain([scripted])
    await asyncio.gather(*(chain.first() for _ in range(20)))
    assert len(scripted.asked) == 5


async def test_a_server_that_hangs_costs_one_probe() -> None:
    hanging = Scripted(delay=3600)
    chain = EmbedderChain([hanging, HashEmbedder()], probe_seconds=0.02)
    for _ in range(3):
        assert (await chain.first()).backend == "hash"
    assert len(hanging.asked) == 1
    assert "longer than 0.02 s" in chain.reasons[0]


def test_one_chain_serves_several_event_loops() -> None:
    chain = EmbedderChain([Scripted(delay=0.001)], clock=Clock())

    async def two_at_once() -> set[str]:
        chosen = await asyncio.gather(chain.first(), chain.first())
        return {embedder.backend for embedder in chosen}

    assert [asyncio.run(two_at_once()) for _ in range(2)] == [{"external"}] * 2


async def test_status_asks_everyone_afresh(servers: Servers) -> None:
    servers.provider.huggingface.embed_fault = Fault("bad_token")
    servers.provider.ollama.models = ["qwen3:8b"]
    states = [(row.backend, row.state) for row in await servers.chain.status()]
    assert states == [("huggingface", "misconfigured"), ("ollama", "model_missing")]
    servers.provider.huggingface.embed_fault = Fault("loading")
    servers.provider.ollama.models = ["all-minilm"]
    loading, up = await servers.chain.status()
    assert (loading.state, up.state) == ("loading", "up")
    assert "384 dimensions" in up.detail


async def test_langchain_gets_one_space_and_no_other() -> None:
    clock, best, spare = Clock(), Scripted(), Scripted()
    face = as_langchain(EmbedderChain([best, spare], clock=clock))
    rows = await face.aembed_documents(["one", "two"])
    assert np.allclose(rows, [unit_vector(text, "all-minilm") for text in ("one", "two")])

    best.failure = down()
    with pytest.raises(BackendUnavailable):
        await face.aembed_query("one")
    assert np.allclose(await face.aembed_query("one"), unit_vector("one", "all-minilm"))

    spare.weights = "another-384"
    clock.now += 301
    with pytest.raises(SpaceMismatch, match=r"it is down.*another embedding space"):
        await face.aembed_query("one")
    fresh = as_langchain(EmbedderChain([Scripted("another-384")]), pin=face.pin)
    with pytest.raises(SpaceMismatch):
        await fresh.aembed_query("one")


def test_langchain_may_wait_instead() -> None:
    face = as_langchain(HashEmbedder(64))
    assert face.embed_documents(["one"])[0] == face.embed_query("one")


async def test_langchain_may_wait_inside_a_running_loop() -> None:
    assert len(as_langchain(HashEmbedder(64)).embed_query("one")) == 64
