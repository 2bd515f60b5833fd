"""A run ends by its deadline, whatever its backend does, at whatever stage, beside many others."""

import time
from pathlib import Path
from typing import Any

import pytest

from hoptrail import Hoptrail
from hoptrail.errors import BudgetExceeded
from hoptrail.run import Purpose, Run
from tests.late import (
    FAULTS,
    SLACK,
    STAGES,
    Ask,
    Ended,
    a_trail,
    all_at_once,
    check_in_time,
    deaf_port,
    hold_up,
)
from tests.providers import Fault, LoopbackProvider
from tests.two_hops import write_documents

pytestmark = [pytest.mark.anyio, pytest.mark.promise("deadlines-hold")]

MANY = 50
TO_GET_THERE = 8.0
"""A deadline in seconds that leaves a slow machine time to reach the stage."""
FIRST = [(graph, stages[0]) for graph, stages in STAGES.items()]
LATER = [(graph, stage) for graph, stages in STAGES.items() for stage in stages[1:]]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return write_documents(tmp_path / "docs")


async def ready(trail: Hoptrail) -> None:
    """Have the documents read, and the libraries of the backend, before the clock runs."""
    await trail.prepare()
    await trail.assembly.router.ainvoke("hello")


async def held_up(
    provider: LoopbackProvider, docs: Path, graph: str, stage: str, runs: int, deadline: float
) -> list[Ended]:
    """Give how runs ended of which each is held up at a stage, in all the ways in turn."""
    ask = Ask(graph=graph, deadline=deadline, parts={"docs": docs})
    trail = a_trail(provider, ask)
    try:
        await ready(trail)
        hold_up(provider, stage, *FAULTS.values())
        return await all_at_once(trail, ask, runs)
    finally:
        trail.close()


@pytest.mark.parametrize(("graph", "stage"), FIRST)
async def test_fifty_runs_that_are_held_up_at_once(
    provider: LoopbackProvider, docs: Path, graph: str, stage: str
) -> None:
    check_in_time(await held_up(provider, docs, graph, stage, MANY, 1.5))


@pytest.mark.parametrize(("graph", "stage"), LATER)
async def test_a_run_that_is_held_up_later(
    provider: LoopbackProvider, docs: Path, graph: str, stage: str
) -> None:
    check_in_time(await held_up(provider, docs, graph, stage, len(FAULTS), TO_GET_THERE))
    assert any(chat.fault for chat in provider.ollama.chats)


async def test_a_server_that_takes_no_connection(docs: Path) -> None:
    with deaf_port() as port:
        address = f"http://127.0.0.1:{port}"
        ask = Ask(
            deadline=1.5,
            parts={"docs": docs},
            flags={"ollama_host": address, "huggingface_base_url": address},
        )
        trail = a_trail(None, ask)
        try:
            ended = await all_at_once(trail, ask, MANY)
        finally:
            trail.close()
    assert max(each.overshoot for each in ended) < SLACK
    assert all(each.error for each in ended)


async def test_the_time_to_begin_is_the_runs_own(
    provider: LoopbackProvider, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many runs that begin at once wait for the disk: their deadline goes on meanwhile."""
    ask = Ask(deadline=1.0, parts={"docs": docs})
    trail = a_trail(provider, ask)
    await ready(trail)
    hold_up(provider, "plan", Fault("hang"))
    journal = trail.assembly.journal
    admit = journal.admit

    def slowly(*given: Any) -> Any:
        time.sleep(0.7)
        return admit(*given)

    monkeypatch.setattr(journal, "admit", slowly)
    limits: list[float] = []
    until_deadline = Run.until_deadline

    def noting(run: Run, purpose: Purpose) -> Any:
        limits.append(run.ledger.seconds_left() or 0.0)
        return until_deadline(run, purpose)

    monkeypatch.setattr(Run, "until_deadline", noting)
    try:
        (ended,) = await all_at_once(trail, ask, 1)
    finally:
        trail.close()
    assert isinstance(ended.error, BudgetExceeded)
    assert max(limits) <= ask.deadline - 0.7
