"""Every fault of the wire on both embedders: no vector of another space, none that is damaged."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import traceback
from collections.abc import Iterable

import pytest

from hoptrail.assembly import make_embedder
from hoptrail.embeddings import EmbedderChain
from hoptrail.embeddings.batches import BatchedEmbedder
from hoptrail.errors import AllBackendsFailed, BackendError
from hoptrail.testing import FakeClock
from tests.canaries import leaks
from tests.providers import Fault, LoopbackProvider
from tests.wire_cells import (
    LONG,
    SHORT,
    SLACK,
    Cell,
    Work,
    in_flight_no_more,
    run_all,
    settings,
    side,
)
from tests.wire_faults import CHATS, EMBEDDERS, EMBEDDING_GROUPS, GROUPS, Row

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.promise("every-fault-ends-well"),
    pytest.mark.timeout(300),
]

TEXTS = ["one river", "two bridges"]
SHUFFLED = Fault("shuffled")


def embedder(name: str, provider: LoopbackProvider) -> BatchedEmbedder:
    """Build an embedder as the product does."""
    made = make_embedder(name, settings(provider))
    assert isinstance(made, BatchedEmbedder)
    give_time(made, LONG)
    return made


def give_time(embedder: BatchedEmbedder, seconds: float) -> None:
    """Let an embedder wait so long for an answer."""
    embedder._endpoint = dataclasses.replace(embedder._endpoint, seconds=seconds)  # type: ignore[attr-defined]  # both that are built here have one


class Embeddings(Cell):
    """One fault on one embedder; the other stands by, and hashing behind it."""

    def __init__(self, row: Row, path: str, provider: LoopbackProvider) -> None:
        name = path.partition(" ")[0]
        super().__init__(row, name, provider)
        self.verdict = row.on(path)
        self.clock = FakeClock()
        self.embedders = {each: embedder(each, provider) for each in (name, self.other)}
        self.chain = EmbedderChain(
            [*self.embedders.values(), make_embedder("hash", settings(provider))],
            clock=self.clock,
            probe_seconds=LONG,
        )

    def break_down(self, path: str) -> None:
        """Let an embedder fail; one that hangs gets little time, as long as it does."""
        side(self.provider, path).embed_fault = self.row.fault
        give_time(self.embedders[path], SHORT if self.row.hangs else LONG)

    def mend(self, path: str) -> None:
        """Let an embedder be well again."""
        side(self.provider, path).embed_fault = None
        give_time(self.embedders[path], LONG)

    def asked(self, name: str) -> int:
        return len(side(self.provider, name).embeddings)

    async def call_fails(self) -> None:
        """A call of an embedder that was well fails, stays with it, and benches it."""
        preferred = await self.chain.first()
        self.expect("who is well", preferred.backend, self.path)
        before, others = self.asked(self.path), self.asked(self.other)
        self.break_down(self.path)
        error = await self.error_of(preferred.embed(TEXTS, "query"))
        self.expect("error", type(error) if error else None, self.verdict.error)
        self.expect("calls", self.asked(self.path) - before, self.verdict.asks)
        self.expect("calls to the other", self.asked(self.other) - others, 0)
        if self.verdict.breaker or self.verdict.bench:
            await self.benched()

    async def benched(self) -> None:
        """Nothing is asked of it until its bench ends, and then it proves itself anew."""
        asked = self.asked(self.path)
        self.expect("who stands in", (await self.chain.first()).backend, self.other)
        self.expect("calls while it is benched", self.asked(self.path), asked)
        self.mend(self.path)
        self.clock.advance(max(30.0, self.verdict.bench if self.row.bench else 30.0) + 1)
        self.expect("who is preferred", (await self.chain.first()).backend, self.path)

    async def all_fail(self) -> None:
        """Both servers fail alike: hashing stands in, and says that it does."""
        for name in CHATS:
            self.break_down(name)
        chosen = await self.chain.first()
        passed = [name for name in (self.path, self.other) if self.fails(name)]
        expected = (
            "hash" if len(passed) == 2 else self.path if not self.fails(self.path) else self.other
        )
        self.expect("who stands in", chosen.backend, expected)
        told = [reason.partition(":")[0] for reason in self.chain.reasons]
        self.expect("who is told of", told, passed if expected == "hash" else passed[:1])
        self.expect("keys that got out", leaks("".join(self.chain.reasons)), [])
        # All canaries of one proof, each asked once more at the most.
        self.expect("calls are bounded", self.asked(self.path) <= 12, True)

    async def nobody_left(self) -> None:
        """With no other embedder the error is typed, and no other is contacted."""
        self.break_down(self.path)
        alone = EmbedderChain(self.chain.members[:1], clock=self.clock, probe_seconds=LONG)
        error = await self.error_of(alone.first())
        expected = AllBackendsFailed if self.fails(self.path) else None
        self.expect("error", type(error) if error else None, expected)
        self.expect("contacts of the other", sum(side(self.provider, self.other).calls.values()), 0)

    def fails(self, name: str) -> bool:
        return self.row.on(f"{name} embedder").error is not None

    async def error_of(self, work: object) -> BackendError | AllBackendsFailed | None:
        began = asyncio.get_running_loop().time()
        try:
            await work  # type: ignore[misc]  # a coroutine of either kind
        except (BackendError, AllBackendsFailed) as error:
            told = "".join(traceback.format_exception(error)) + repr(error)
            self.expect("keys that got out", leaks(told), [])
            return error
        finally:
            seconds = asyncio.get_running_loop().time() - began
            self.expect("it ended in time", seconds < SLACK, True)
        return None


def work(row: Row, path: str, mode: str) -> Work:
    async def run(provider: LoopbackProvider) -> Iterable[str]:
        cell = Embeddings(row, path, provider)
        await getattr(cell, mode)()
        cell.expect("the provider is left in peace", await in_flight_no_more(provider), True)
        return [f"{mode}: {complaint}" for complaint in cell.complaints]

    return run


@pytest.mark.parametrize("path", EMBEDDERS)
@pytest.mark.parametrize("group", EMBEDDING_GROUPS)
async def test_every_fault_ends_as_the_table_says(
    group: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cells = [
        work(row, path, mode)
        for row in GROUPS[group]
        for mode in ("call_fails", "all_fail", "nobody_left")
        if row.concerns(path)
        # Who answers in another width from the start is another space, and not broken.
        if mode == "call_fails" or row.name != "wrong_width"
    ]
    complaints = await run_all(cells)
    assert not complaints, "\n".join(complaints)
    assert not leaks(caplog.text)


async def test_vectors_out_of_order_are_put_in_order_by_their_index_or_refused(
    provider: LoopbackProvider,
) -> None:
    """OpenAI's form numbers its rows; where nothing does, the canaries tell."""
    provider.huggingface.openai_embeddings = True
    plain, shuffled = [embedder(name, provider) for name in CHATS]
    numbered = make_embedder(
        "huggingface",
        settings(provider).model_copy(
            update={"huggingface_embedding_url": f"{provider.huggingface_url}/v1"}
        ),
    )
    expected = await numbered.embed(TEXTS, "query")
    for each in (provider.huggingface, provider.ollama):
        each.embed_fault = SHUFFLED
    assert (await numbered.embed(TEXTS, "query") == expected).all()
    for unnumbered in (plain, shuffled):
        with pytest.raises(BackendError, match="order"):
            await unnumbered.canaries()
