"""Moments of a run that a test waits for or brings about, however slow the machine is."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from hoptrail import run
from hoptrail.budget import Budget, Ledger
from hoptrail.journal import Journal

FOR_EVER = 3600.0
LONG = 30.0
"""Seconds for what takes none: its machine may have much else to do."""


async def until_kept(journal: Journal, run_id: str, *kinds: str) -> None:
    """Wait until so much finished work of a run is in the journal: a ``plan``, a ``step`` …"""
    wanted = Counter(kinds)
    async with asyncio.timeout(LONG):
        kept = Counter[str]()
        while not wanted <= kept:
            await asyncio.sleep(0.005)
            kept = Counter(
                key.partition(":")[0] for key in await journal.off_loop(journal.entries, run_id)
            )


def passing_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Give what lets so many seconds pass at once for this event loop, and for its runs' budgets.

    Threads, sockets and files take the time they take: where a deadline is far enough away, it
    passes when a test says so and not before.
    """
    loop, ahead = asyncio.get_running_loop(), 0.0
    time = loop.time

    def let_pass(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    def ledger(budget: Budget, *_: object) -> Ledger:
        return Ledger(budget, loop.time)

    monkeypatch.setattr(loop, "time", lambda: time() + ahead)
    monkeypatch.setattr(run, "Ledger", ledger)
    return let_pass


def done_meanwhile(loop: asyncio.AbstractEventLoop, act: Callable[[], object]) -> None:
    """Have a loop do something, and all that comes of it, while the caller's thread waits."""

    async def done() -> None:
        act()
        for _ in range(100):
            await asyncio.sleep(0)

    asyncio.run_coroutine_threadsafe(done(), loop).result(LONG)
