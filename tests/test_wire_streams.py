"""Streams that break off, calls that fail in any order: two attempts' text is never joined."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoptrail import standing
from hoptrail.connections import aclose_all
from hoptrail.errors import HoptrailError
from hoptrail.providers import huggingface, ollama
from hoptrail.testing import FakeClock
from tests.canaries import leaks
from tests.providers import Fault, LoopbackProvider
from tests.wire_cells import (
    LONG,
    Cell,
    Impatient,
    Outcome,
    Work,
    ask,
    in_flight_no_more,
    run_all,
    said_by,
    side,
)
from tests.wire_faults import CHATS, GROUPS, STREAM, Row

pytestmark = [pytest.mark.anyio]

CUTS = tuple(
    Row(f"{kind} after {after}", Fault(kind, after=after), verdict, but=but)
    for kind, verdict, but in (
        ("stream_reset", "broken", {}),
        ("stream_close", "broken", {}),
        ("stream_stall", "slow", {}),
        ("error_event", "broken", {"ollama": "invalid"}),
    )
    for after in (0, 1, 5)
)
BIG = [
    row
    for row in (*GROUPS["size"], *STREAM)
    if row.name in {"gzip_bomb", "infinite_body", "giant_line", "endless_tokens"}
]
MOST_MEMORY = 64 * 2**20
PROMPT = [
    Fault(kind, after=after, echo=True)
    for kind, after in [
        ("reset", 0), ("close", 0), ("garbage", 0), ("stream_reset", 1), ("stream_close", 5),
        ("stream_end", 3), ("error_event", 1), ("bad_line", 2), ("truncated_json", 0),
        ("deep_json", 0), ("bad_utf8", 0), ("empty_stream", 0), ("rate_limit", 0), ("loading", 0),
        ("bad_token", 0), ("too_large", 0), ("bad_gateway", 0), ("validation", 0),
        ("redirect_loop", 0), ("no_content", 0), ("lc_envelope", 0),
    ]
]  # fmt: skip
"""Faults that nobody has to wait for."""


@pytest.fixture(autouse=True)
def patient_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here no probe fails, however slow the machine is."""
    for module in (huggingface, ollama):
        monkeypatch.setattr(module, "_PROBE_SECONDS", LONG)
    monkeypatch.setattr(standing, "PROBE_SECONDS", LONG)


def cut(row: Row, path: str, restarts: list[int]) -> Work:
    async def run(provider: LoopbackProvider) -> Iterable[str]:
        cell = Cell(row, path, provider)
        cell.break_down(path)
        # What its tokens would say is not what the other's do: a joined text shows.
        side(provider, path).answer(said_by(path))
        outcome = await ask(cell.router(path, cell.other, clock=Impatient()), streamed=True)
        restarts.append(outcome.restarts)
        # A machine that is slow may see the end before the last tokens: never more than were sent.
        sent = " ".join(said_by(path).split(" ")[: row.fault.after])
        whole = all(void and sent.startswith(void) for void in outcome.void)
        cell.expect("text", outcome.text, said_by(cell.other))
        cell.expect("void is only what was sent", whole, True)
        cell.expect("each void text is announced", outcome.restarts, len(outcome.void))
        cell.expect("nothing else was shown", outcome.shown, "".join([*outcome.void, outcome.text]))
        return cell.complaints

    return run


@pytest.mark.promise("attempts-are-never-joined")
@pytest.mark.parametrize("path", CHATS)
async def test_the_text_of_two_attempts_is_never_joined(path: str) -> None:
    restarts: list[int] = []
    complaints = await run_all([cut(row, path, restarts) for row in CUTS])
    assert not complaints, "\n".join(complaints)
    assert max(restarts) == 2


@pytest.mark.promise("every-fault-ends-well")
@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("row", BIG, ids=lambda row: row.name)
async def test_no_server_fills_the_memory(row: Row, path: str, provider: LoopbackProvider) -> None:
    """What the provider holds of it counts too: it sends a little at a time."""
    cell = Cell(row, path, provider)
    router = cell.router(path, cell.other, clock=Impatient())
    await ask(router, streamed=True)
    cell.break_down(path)
    tracemalloc.start()
    try:
        outcome = await ask(router, streamed=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcome.text == said_by(cell.other)
    assert peak < MOST_MEMORY
    await aclose_all()


faults = st.none() | st.sampled_from(PROMPT)
scripts = st.lists(faults, min_size=1, max_size=30)


def check(outcome: Outcome) -> None:
    """What holds whatever happened: one attempt's text or a typed error, told of, without a key."""
    assert not leaks(outcome.sinks)
    assert all(attempt.outcome != "running" for attempt in outcome.attempts)
    assert len(outcome.attempts) <= 4
    if outcome.error is None:
        assert outcome.text == said_by(outcome.by)
        assert outcome.attempts[-1].outcome == "ok"
        assert outcome.attempts[-1].backend == outcome.by
    else:
        assert isinstance(outcome.error, HoptrailError)


@pytest.mark.promise("every-fault-ends-well", "attempts-are-never-joined")
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=scripts, second=scripts, streamed=st.booleans(), pause=st.sampled_from([0.0, 40.0]))
def test_any_order_of_faults_ends_well(
    provider: LoopbackProvider,
    first: Sequence[Fault | None],
    second: Sequence[Fault | None],
    *,
    streamed: bool,
    pause: float,
) -> None:
    """Two servers fail as they like; each question still ends as it should."""

    async def run() -> None:
        cell = Cell(GROUPS["control"][0], "huggingface", provider)
        clock = Impatient()
        router = cell.router(*CHATS, clock=clock)
        for path, script in zip(CHATS, (first, second), strict=True):
            side(provider, path).faults.extend(script)
        asked = 0
        for _ in range(6):
            outcome = await ask(router, streamed=streamed)
            check(outcome)
            asked += len(outcome.attempts)
            clock.advance(pause)
        # One attempt of Ollama's may be two requests: see `Row.sends`.
        assert asked <= len(provider.huggingface.chats) + len(provider.ollama.chats) <= 2 * asked
        assert await in_flight_no_more(provider)
        await aclose_all()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


@pytest.mark.promise("retry-after-is-honoured-within-limits")
@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize(
    "row", [row for row in GROUPS["rate"] if row.bench], ids=lambda row: row.name
)
async def test_a_server_is_asked_again_when_it_said_and_not_before(
    row: Row, path: str, provider: LoopbackProvider
) -> None:
    """With a deadline that allows it the call waits, once and for exactly that long."""
    cell = Cell(row, path, provider)
    bench = row.on(path).bench
    side(provider, path).faults.append(row.fault)
    clock = FakeClock()
    router = cell.router(path, clock=clock)
    outcome = await ask(router, streamed=True, deadline=bench + LONG)
    assert outcome.text == said_by(path)
    assert sum(clock.slept) == pytest.approx(bench, abs=0.01)
    assert cell.calls(path) == 2
    side(provider, path).faults.append(row.fault)
    hurried = await ask(router, streamed=True, deadline=bench * 0.9 if bench > LONG else bench)
    assert hurried.error is not None
    assert cell.calls(path) == 3
    await aclose_all()
