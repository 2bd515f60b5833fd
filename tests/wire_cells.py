"""One cell of the wire's matrix: a fault, a path, the real clients over sockets, and the oracle.

`Cell` asks as the product does and keeps book; what is not as `tests.wire_faults` says ends up in
``complaints``, so that one run tells of every cell that failed.
"""

from __future__ import annotations

import asyncio
import math
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from hoptrail.assembly import make_backend
from hoptrail.backend import Backend
from hoptrail.connections import aclose_all, load_certificates
from hoptrail.errors import AllBackendsFailed, HoptrailError
from hoptrail.providers.ollama import OllamaBackend
from hoptrail.routed import RESTARTED
from hoptrail.router import RoutedChatModel
from hoptrail.settings import Settings
from hoptrail.testing import FakeClock
from hoptrail.trace import Attempt
from tests.canaries import CANARIES, leaks
from tests.providers import LoopbackProvider, Reply
from tests.providers.side import Side
from tests.wire_faults import CHATS, SAID, Row, Verdict

SHORT, LONG = 0.4, 30.0
"""Seconds of patience: with a backend that hangs, and with one that need only be slow."""
ONCE = 3.0
"""With one that hangs only once: the same limit has to do for its answer."""
AT_ONCE = 6
SLACK = 20.0
"""Seconds that a call may take on a machine that has other things to do."""
JUMP = 1e9


class Impatient(FakeClock):
    """Time for a router: it never waits for a backend, because the deadline passes first."""

    async def sleep(self, seconds: float) -> None:
        """Sleep; whoever would wait for a bench to end sleeps beyond all deadlines."""
        await super().sleep(JUMP if seconds >= 1.0 else seconds)


def settings(provider: LoopbackProvider, *, patience: float = LONG) -> Settings:
    """Give the settings of a cell, with keys that must not get out."""
    return Settings(
        token=SecretStr(CANARIES["token"]),
        huggingface_base_url=provider.huggingface_url,
        ollama_host=provider.ollama_url,
        ollama_model="qwen3:8b",
        connect_timeout=LONG,
        first_byte_timeout=patience,
        idle_timeout=patience,
    )


def backend(name: str, provider: LoopbackProvider, *, patience: float = LONG) -> Backend:
    """Build a backend as the product does; Ollama's has a key besides, as one behind a proxy."""
    made = make_backend(name, settings(provider, patience=patience))
    if isinstance(made, OllamaBackend):
        made._token = CANARIES["ollama_token"]
    return made


def side(provider: LoopbackProvider, path: str) -> Side:
    """Give the side of the provider that a path asks."""
    found: Side = getattr(provider, path.partition(" ")[0])
    return found


@dataclass
class Outcome:
    """How one call ended."""

    text: str = ""
    by: str = ""
    restarts: int = 0
    shown: str = ""
    """All that was shown, also what became void."""
    void: list[str] = field(default_factory=list)
    """What was shown before each restart."""
    error: HoptrailError | None = None
    attempts: list[Attempt] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def sinks(self) -> str:
        """Everything that somebody may read of it."""
        trace = "".join(traceback.format_exception(self.error)) if self.error else ""
        told = "".join(attempt.model_dump_json() for attempt in self.attempts)
        return "".join([trace, repr(self.error), told, self.shown])


async def ask(router: RoutedChatModel, *, streamed: bool, deadline: float = 1e6) -> Outcome:
    """Ask the router, and say how that ended."""
    outcome = Outcome()
    began = asyncio.get_running_loop().time()
    options: dict[str, Any] = {"attempts": outcome.attempts, "deadline": deadline}
    try:
        if streamed:
            await _follow(router, options, outcome)
        else:
            message = await router.ainvoke("Q", **options)
            outcome.text = outcome.shown = str(message.text)
            outcome.by = message.response_metadata["hoptrail"]["backend"]
    except HoptrailError as error:
        outcome.error = error
    outcome.seconds = asyncio.get_running_loop().time() - began
    return outcome


async def _follow(router: RoutedChatModel, options: dict[str, Any], outcome: Outcome) -> None:
    async for chunk in router.astream("Q", **options):
        if RESTARTED in chunk.response_metadata:
            outcome.void.append(outcome.text)
            outcome.restarts, outcome.text = outcome.restarts + 1, ""
        outcome.text += str(chunk.text)
        outcome.shown += str(chunk.text)
        if told := chunk.response_metadata.get("hoptrail"):
            outcome.by = told["backend"]


def said_by(name: str) -> str:
    """Give the answer of a healthy provider."""
    return f"{SAID} by {name}"


class Cell:
    """One fault on one chat path; the other backend stands by, and is well unless told."""

    def __init__(self, row: Row, path: str, provider: LoopbackProvider) -> None:
        self.row, self.path, self.provider = row, path, provider
        self.other = CHATS[1 - CHATS.index(path)]
        self.complaints: list[str] = []
        for name in CHATS:
            # Its connections stay: one that is cut looks to a client like one more fault.
            side(provider, name).reset()
            side(provider, name).answer(said_by(name))

    def break_down(self, path: str) -> None:
        """Let a side fail, always."""
        broken = side(self.provider, path)
        broken.fault = self.row.fault
        broken.answer(Reply(SAID, input_tokens=self.row.input_tokens))

    def mend(self, path: str) -> None:
        """Let a side be well again."""
        mended = side(self.provider, path)
        mended.fault = None
        mended.answer(said_by(path))

    def router(self, *paths: str, clock: FakeClock, patience: float = SHORT) -> RoutedChatModel:
        """Build a router; who hangs in this cell is given little time, who is well a lot."""
        backends = [
            backend(
                name,
                self.provider,
                patience=patience if self.row.hangs and self._is_broken(name) else LONG,
            )
            for name in paths
        ]
        return RoutedChatModel(backends, clock=clock, sleep=clock.sleep)

    def expect(self, what: str, found: object, expected: object) -> None:
        """Complain unless what was found is what was expected."""
        if found != expected:
            self.complaints.append(
                f"{self.row.name} on {self.path}: {what}: {found!r}, not {expected!r}"
            )

    def calls(self, path: str) -> int:
        """Give how many chats a side was asked for."""
        return len(side(self.provider, path).chats)

    def check(self, outcome: Outcome, tried: Sequence[tuple[str, Verdict]]) -> None:
        """Hold a call to what holds for all: typed, told of, in time, and without a key.

        ``tried`` are the backends that were asked, in order, and what each one's fault means.
        """
        expected = [
            (name, verdict.error.__name__ if verdict.error else "ok")
            for name, verdict in tried
            for _ in range(verdict.asks)
        ]
        self.expect("attempts", [(a.backend, a.outcome) for a in outcome.attempts], expected)
        timed = all(math.isfinite(a.ms) and a.ms >= 0 for a in outcome.attempts)
        self.expect("each attempt has its time", timed, True)
        self.expect("it ended in time", outcome.seconds < SLACK, True)
        self.expect("keys that got out", leaks(outcome.sinks), [])
        if outcome.error is None:
            void = [
                a for a in outcome.attempts if a.outcome != "ok" and a.first_token_ms is not None
            ]
            streamed = outcome.shown != outcome.text or outcome.restarts
            self.expect("restarts", outcome.restarts, len(void) if streamed else 0)
            return
        error = outcome.error
        causes = error.causes if isinstance(error, AllBackendsFailed) else (error,)
        told = [(getattr(cause, "backend", ""), type(cause).__name__) for cause in causes]
        self.expect("causes", told, expected)
        self.expect("the error tells of the attempts", len(error.attempts), len(expected))

    def _is_broken(self, path: str) -> bool:
        return side(self.provider, path).fault is not None


async def outage(cell: Cell, *, streamed: bool) -> None:
    """The preferred backend fails six times over, while the other is well; then it is mended."""
    verdict, path, other = cell.row.on(cell.path), cell.path, cell.other
    clock = Impatient()
    cell.break_down(path)
    router = cell.router(path, other, clock=clock)
    outcome = await ask(router, streamed=streamed)
    cell.check(outcome, _tried(cell, verdict))
    if verdict.error is None:
        cell.expect("text", (outcome.by, outcome.text), (path, cell.row.text))
        return
    if verdict.next:
        cell.expect("text", (outcome.by, outcome.text), (other, said_by(other)))
    else:
        cell.expect("error", type(outcome.error), verdict.error)
    for _ in range(5):
        await ask(router, streamed=False)
    await _bench_ends(cell, router, clock, verdict)


def _tried(cell: Cell, verdict: Verdict) -> list[tuple[str, Verdict]]:
    tried = [(cell.path, verdict)]
    if verdict.error is not None and verdict.next:
        tried.append((cell.other, Verdict(None)))
    return tried


async def _bench_ends(
    cell: Cell, router: RoutedChatModel, clock: FakeClock, verdict: Verdict
) -> None:
    path, other = cell.path, cell.other
    asked = 5 if verdict.breaker else 1 if verdict.bench else 6 * verdict.asks
    asked *= cell.row.sends(path)
    cell.expect("calls of six requests", cell.calls(path), asked)
    cell.expect("calls to the other", cell.calls(other), 6 if verdict.next else 0)
    cell.mend(path)
    pause = 30.0 if verdict.breaker else verdict.bench
    if pause:
        clock.advance(pause - 0.5)
        early = await ask(router, streamed=False)
        cell.expect("who answers before its pause ends", early.by, other)
    clock.advance(1.0)
    late = await ask(router, streamed=False)
    cell.expect("who answers after it", (late.by, late.text), (path, said_by(path)))


async def both(cell: Cell, *, streamed: bool) -> None:
    """Both backends fail in the same way."""
    first, second = cell.row.on(cell.path), cell.row.on(cell.other)
    cell.break_down(cell.path)
    cell.break_down(cell.other)
    router = cell.router(cell.path, cell.other, clock=Impatient())
    outcome = await ask(router, streamed=streamed)
    tried = [(cell.path, first)]
    if first.error is not None and first.next:
        tried.append((cell.other, second))
    cell.check(outcome, tried)
    verdict = tried[-1][1]
    if verdict.error is None:
        cell.expect("who answers", outcome.by, tried[-1][0])
    else:
        kind = AllBackendsFailed if verdict.next else verdict.error
        cell.expect("error", type(outcome.error), kind)


async def once(cell: Cell, *, streamed: bool) -> None:
    """The preferred backend fails once and is well at once: who may be asked again answers."""
    verdict, path, other = cell.row.on(cell.path), cell.path, cell.other
    cell.break_down(path)
    router = cell.router(path, other, clock=Impatient(), patience=ONCE)
    failing = side(cell.provider, path)
    failing.faults.append(failing.fault)
    failing.fault = None
    outcome = await ask(router, streamed=streamed)
    calls = verdict.asks * cell.row.sends(path)
    by = path if calls > 1 or verdict.error is None else other if verdict.next else ""
    cell.expect("who answers", outcome.by, by)
    cell.expect("calls", cell.calls(path), calls)
    cell.expect("calls to the other", cell.calls(other), int(by == other))
    cell.expect("keys that got out", leaks(outcome.sinks), [])


async def alone(cell: Cell, *, streamed: bool) -> None:
    """No other backend is configured: then none is ever contacted."""
    verdict, path = cell.row.on(cell.path), cell.path
    cell.break_down(path)
    outcome = await ask(cell.router(path, clock=Impatient()), streamed=streamed)
    cell.check(outcome, [(path, verdict)])
    cell.expect("calls", cell.calls(path), verdict.asks * cell.row.sends(path))
    cell.expect("contacts of the other", sum(side(cell.provider, cell.other).calls.values()), 0)
    if verdict.error is not None:
        kind = AllBackendsFailed if verdict.next else verdict.error
        cell.expect("error", type(outcome.error), kind)


MODES: dict[str, Callable[..., Awaitable[None]]] = {
    "outage": outage,
    "both": both,
    "once": once,
    "alone": alone,
}

Work = Callable[[LoopbackProvider], Awaitable[Iterable[str]]]
"""Runs one cell on a provider of its own, and gives its complaints."""


async def run_all(work: Sequence[Work]) -> list[str]:
    """Run cells, some at a time, each on a provider of its own; give all complaints.

    After the last one nothing may be left: no task, no connection, no file.
    """
    complaints: list[str] = []
    left = list(reversed(work))

    async def worker() -> None:
        while left:
            cell = left.pop()
            # What a cell cancelled may still arrive: it must not be counted to the next one.
            with LoopbackProvider() as provider:
                complaints.extend(await cell(provider))
                complaints.extend(f"unscripted: {each}" for each in provider.unexpected)

    async with nothing_left(complaints), asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, len(work))):
            group.create_task(worker())
    return complaints


@asynccontextmanager
async def nothing_left(complaints: list[str]) -> AsyncIterator[None]:
    """Complain of tasks and open files that were not there before the block."""
    await load_certificates()
    await asyncio.to_thread(int)
    tasks, files = len(asyncio.all_tasks()), _open_files()
    yield
    await aclose_all()
    for _ in range(1500):
        if (left := _open_files()) <= files:
            break
        await asyncio.sleep(0.02)
    else:
        complaints.append(f"{left - files} files or sockets are left open")
    if more := len(asyncio.all_tasks()) - tasks:
        complaints.append(f"{more} tasks are left")


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def in_flight_no_more(provider: LoopbackProvider) -> bool:
    """Say whether the provider has noticed that all its clients left."""
    for _ in range(3000):
        if not provider.in_flight:
            return True
        await asyncio.sleep(0.01)
    return False
