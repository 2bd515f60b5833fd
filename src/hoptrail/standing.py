"""What the router knows of one backend: whether it is up, benched, or failing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hoptrail.backend import Availability, Backend
from hoptrail.breaker import Breaker, Ticket
from hoptrail.connections import PerLoop
from hoptrail.errors import BackendBusy, BackendError, BackendUnavailable
from hoptrail.time_limit import TimeLimit

UP_FOR = 15.0
DOWN_FOR = 5.0
PROBE_SECONDS = 1.5

_TURNS = threading.RLock()
"""One for all, so that whoever holds a standing can be copied."""


@dataclass(frozen=True, slots=True)
class Pause:
    """How long a backend is left alone, and why."""

    seconds: float
    why: str
    kind: type[BackendError] = BackendUnavailable
    """What it failed with."""
    status: int | None = None
    fix: str = ""

    @property
    def soon(self) -> bool:
        """Whether it is over, or the backend itself asked for it and will be back."""
        return self.seconds <= 0 or issubclass(self.kind, BackendBusy)

    def __str__(self) -> str:
        return f"benched for {max(self.seconds, 1):.0f} s {self.why}"


class Standing:
    """The standing of one backend.

    A probe's finding holds 15 s when it is up and 5 s when not; a backend whose last call was
    answered needs no probe, and one that is to be left alone gets none. One probe runs at a
    time, whoever waits for it.
    """

    def __init__(self, backend: Backend, clock: Callable[[], float]) -> None:
        self.backend = backend
        self._clock = clock
        self._breaker = Breaker(clock)
        self._benched_until = 0.0
        self._bench = Pause(0.0, "")
        self._found: Availability | None = None
        self._found_until = 0.0
        self._proven = False
        self._was_up = False
        self._probing = PerLoop(asyncio.Lock)

    def pause(self) -> Pause | None:
        """Give why and how long the backend must not be asked, or None."""
        benched = self._benched_until - self._clock()
        broken = self._breaker.wait()
        if max(benched, broken) <= 0:
            return None
        if benched >= broken:
            return replace(self._bench, seconds=benched)
        return Pause(broken, "after repeated failures")

    def comes_back(self) -> Pause | None:
        """Give how long it takes until it is worth looking at, or None when nobody knows.

        That is so for one that was never up. One that may be up now takes no time.
        """
        if pause := self.pause():
            return pause
        known = self.known()
        if known is None or known.up:
            return Pause(0.0, "")
        seconds = self._found_until - self._clock()
        will_be_up = self._was_up or known.state == "loading"
        return Pause(seconds, "because it is not up") if will_be_up else None

    def known(self) -> Availability | None:
        """Give what is known without asking, or None when it is too old."""
        if self._proven or self._clock() < self._found_until:
            return self._found
        return None

    async def availability(self) -> Availability:
        """Give what is known, or ask."""
        async with self._probing.get():
            return self._left_alone() or self.known() or await self._probe()

    def admit(self) -> Ticket | None:
        """Take the right to make one call now."""
        return None if self.pause() else self._breaker.admit()

    def succeeded(self, ticket: Ticket) -> None:
        """Note that a call was answered: the best proof that the backend is up."""
        self._breaker.succeeded(ticket)
        if self.pause():
            # The call began before it: that it ends well says nothing of what came since.
            return
        found = self._found
        if found is None or not found.up:
            found = self._availability("up", "answered")
        self._found, self._proven, self._was_up = found, True, True

    def failed(self, ticket: Ticket, error: BackendError) -> None:
        """Note that a call failed, and how long the backend is to be left alone."""
        seconds = error.bench_seconds
        if error.counts_for_breaker:
            self._breaker.failed(ticket)
        else:
            self._breaker.release(ticket)
        if error.counts_for_breaker or seconds:
            self._forget()
        if seconds and error.retry_after is not None:
            seconds = error.retry_after
        if seconds:
            self._bench_for(seconds, error)

    def _bench_for(self, seconds: float, error: BackendError) -> None:
        kind = type(error)
        bench = Pause(seconds, f"after {kind.__name__} ({error})", kind, error.status, error.fix)
        with _TURNS:
            until = self._clock() + seconds
            # Whoever fails next must not shorten a pause that was asked for.
            if until > self._benched_until:
                self._benched_until, self._bench = until, bench

    def release(self, ticket: Ticket) -> None:
        """Note that a call ended without a verdict (cancelled)."""
        self._breaker.release(ticket)

    def _forget(self) -> None:
        self._proven = False
        self._found = None
        self._found_until = 0.0

    def _left_alone(self) -> Availability | None:
        pause = self.pause()
        return self._availability("down", str(pause), pause.fix) if pause else None

    async def _probe(self) -> Availability:
        try:
            async with TimeLimit(PROBE_SECONDS):
                found = await self.backend.probe()
        except TimeoutError:
            found = self._availability("down", f"no answer within {PROBE_SECONDS:g} s")
        except BackendError as error:
            found = self._availability("down", str(error))
        if self._proven and self._found:
            # A call was answered meanwhile, and that is the better proof.
            return self._found
        self._found = found
        self._found_until = self._clock() + (UP_FOR if found.up else DOWN_FOR)
        self._was_up = self._was_up or found.up
        return found

    def _availability(
        self, state: Literal["up", "down"], detail: str, fix: str = ""
    ) -> Availability:
        backend = self.backend
        return Availability(
            backend=backend.name, model=backend.model, state=state, detail=detail, fix=fix
        )


async def first_up(standings: Sequence[Standing]) -> Standing | None:
    """Give the first in order that is up, asking all that are not known at once."""
    for at, standing in enumerate(standings):
        known = standing.known()
        if known is None:
            return await _first_found(standings[at:])
        if known.up:
            return standing
    return None


async def _first_found(standings: Sequence[Standing]) -> Standing | None:
    async with asyncio.TaskGroup() as group:
        probes = [group.create_task(standing.availability()) for standing in standings]
        try:
            for standing, probe in zip(standings, probes, strict=True):
                if (await probe).up:
                    return standing
            return None
        finally:
            for probe in probes:
                probe.cancel()
