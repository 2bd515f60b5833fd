"""One call on its way through the backends: whom to ask next, and what came of it."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import TracebackType

import httpx
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk

from hoptrail.backend import Backend, CallOptions
from hoptrail.breaker import RetryBudget, Ticket
from hoptrail.errors import (
    AllBackendsFailed,
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    HoptrailError,
    NoBackend,
)
from hoptrail.expense import RUNNING
from hoptrail.routed import RoutedMessageChunk
from hoptrail.standing import Standing, first_up
from hoptrail.time_limit import TimeLimit
from hoptrail.tokens import WEIGHT_OF_TOKEN, estimated_tokens, weight
from hoptrail.trace import Attempt

JITTER_SECONDS = 0.2
"""A second try on the same backend comes after half of this, and up to as much again."""
QUICK_SECONDS = 2.0
"""A failure that came sooner is worth a second try at once; a later one only as a last resort.
A backend that a call's own deadline left less than this to speak is not blamed for its silence."""
PATIENCE_SECONDS = 10.0
"""What a call without a deadline waits for a backend that asked to come back later."""

TOLD_SECONDS = 1.0
"""A wait that is at least so long is told of in the log, once a call."""

_FIRST = "first in order and up"
_log = logging.getLogger("hoptrail.router")


class Call:
    """One question to the router: keeps the attempts, and finds who is asked next."""

    def __init__(
        self,
        standings: Sequence[Standing],
        retries: RetryBudget,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        deadline: float | None = None,
    ) -> None:
        self.attempts: list[Attempt] = []
        self.may_restart = True
        self._standings = standings
        self._retries = retries
        self._clock = clock
        self._sleep = sleep
        self._started = clock()
        self._ends = math.inf if deadline is None else self._started + deadline
        self._patience = PATIENCE_SECONDS if deadline is None else math.inf
        self._failures: dict[Standing, BackendError] = {}
        self._causes: list[BackendError] = []
        self._out: set[Standing] = set()
        self._again: Standing | None = None
        self._last_resort: list[Standing] = []
        self._void: Turn | None = None
        self._has_told = False

    def now_ms(self) -> float:
        """Give the milliseconds since the call began."""
        return round((self._clock() - self._started) * 1000, 3)

    def seconds_left(self) -> float:
        """Give what is left of the deadline."""
        return self._ends - self._clock()

    async def next_turn(self) -> Turn:
        """Find whom to ask next; may wait for it.

        Raises:
            AllBackendsFailed: nobody is left.
            NoBackend: nobody was configured to begin with.
        """
        if again := self._again:
            self._again = None
            jitter = JITTER_SECONDS * random.uniform(0.5, 1.0)
            await self._sleep(min(jitter, self.seconds_left()))
            if turn := self._turn(again):
                return turn
        while self.seconds_left() > 0:
            standing = await self._first_up() or self._next_last_resort()
            if standing is None:
                if not await self._waited():
                    break
            elif turn := self._turn(standing):
                return turn
        raise self._failed_for_good()

    def answered(self, turn: Turn) -> None:
        """Note that a turn gave the answer."""
        turn.standing.succeeded(turn.ticket)

    def failed(self, turn: Turn, error: BackendError) -> bool:
        """Note that a turn failed; say whether another may follow."""
        standing, backend = turn.standing, turn.standing.backend
        again = error.retry_same and not backend.degraded and standing not in self._failures
        self._failures[standing] = error
        self._causes.append(error)
        self._out.add(standing)
        if turn.shown:
            self._void = turn
        if backend.degraded or turn.cut_short:
            # The built-in refuses what it was not made for, and who had no time to answer may
            # be well: that says nothing of the next call.
            standing.release(turn.ticket)
        else:
            standing.failed(turn.ticket, error)
        may_follow = error.fail_over or backend.degraded
        if not may_follow or (turn.shown and not self.may_restart):
            error.attempts = self._dumped()
            return False
        if again and standing.pause() is None:
            self._plan_another_try(standing, turn)
        return True

    def told(self, turn: Turn) -> dict[str, object]:
        """Give what an answer says about the way it came."""
        return {
            "backend": turn.attempt.backend,
            "model": turn.attempt.model,
            "reason": turn.attempt.reason,
            "degraded": turn.standing.backend.degraded,
            "attempts": list(self._dumped()),
            "first_token_ms": turn.attempt.first_token_ms,
        }

    def _plan_another_try(self, standing: Standing, turn: Turn) -> None:
        if turn.attempt.ms > QUICK_SECONDS * 1000:
            self._last_resort.append(standing)
        elif self._retries.left:
            self._again = standing

    def _next_last_resort(self) -> Standing | None:
        return self._last_resort.pop(0) if self._last_resort else None

    async def _first_up(self) -> Standing | None:
        paused = {each for each in self._standings if each.pause()}
        # After its pause a backend may be asked anew.
        self._out -= paused
        fresh = [each for each in self._standings if each not in self._out | paused]
        left = self.seconds_left()
        try:
            async with asyncio.timeout(None if left == math.inf else left):
                return await first_up(fresh)
        except TimeoutError:
            raise self._failed_for_good() from None

    def _turn(self, standing: Standing) -> Turn | None:
        ticket = standing.admit() if self.seconds_left() > 0 else None
        if ticket is None:
            return None
        if standing in self._failures and not self._retries.spend():
            standing.release(ticket)
            self._out.add(standing)
            return None
        reason = self._reason(standing)
        return Turn(self, standing, ticket, reason, self._restart(standing))

    def _restart(self, standing: Standing) -> dict[str, str] | None:
        void, self._void = self._void, None
        if void is None:
            return None
        return {
            "from": _name(void.standing.backend),
            "to": _name(standing.backend),
            "why": str(self._failures[void.standing]),
        }

    async def _waited(self) -> bool:
        """Wait for the backend that is back first; say whether that was worth it."""
        has_deadline = self._ends < math.inf
        waits = {
            each: pause.seconds
            for each in self._standings
            if each not in self._out and (pause := each.comes_back())
            if has_deadline or pause.soon
        }
        first = min(waits, key=waits.__getitem__, default=None)
        if first is None:
            return False
        seconds = waits[first]
        if seconds >= self.seconds_left() or seconds > self._patience:
            return False
        self._patience -= seconds
        self._tell_of_wait(first, seconds)
        await self._sleep(seconds)
        return True

    def _tell_of_wait(self, standing: Standing, seconds: float) -> None:
        # Whoever sits at a shell would see nothing for minutes.
        if seconds >= TOLD_SECONDS and not self._has_told:
            self._has_told = True
            most = min(self.seconds_left(), self._patience + seconds)
            _log.warning("waiting up to %.0f s for %s", most, _name(standing.backend))

    def _reason(self, chosen: Standing) -> str:
        if failure := self._failures.get(chosen):
            return f"asked again after {type(failure).__name__}"
        earlier = self._standings[: self._standings.index(chosen)]
        whys = [f"{each.backend.name}: {self._why_not(each)}" for each in earlier]
        is_first = "the built-in is first in order" if chosen.backend.degraded else _FIRST
        return "; ".join(whys) or is_first

    def _why_not(self, standing: Standing) -> str:
        if failure := self._failures.get(standing):
            return f"failed with {type(failure).__name__} ({failure})"
        if pause := standing.pause():
            return str(pause)
        known = standing.known()
        return (known.detail or known.state) if known else "not known to be up"

    def _failed_for_good(self) -> HoptrailError:
        unasked = [each for each in self._standings if each not in self._failures]
        causes = [*self._causes, *map(self._unasked, unasked)]
        known = [each.known() for each in unasked]
        error: HoptrailError = AllBackendsFailed(causes)
        if not self._causes and all(found and found.state == "unconfigured" for found in known):
            error = NoBackend("; ".join(f"{cause.backend}: {cause}" for cause in causes))
        error.attempts = self._dumped()
        return error

    def _unasked(self, standing: Standing) -> BackendError:
        known, pause, backend = standing.known(), standing.pause(), standing.backend
        why = f"not asked: {self._why_not(standing)}"
        if pause is not None:
            return pause.kind(
                why,
                backend=backend.name,
                model=backend.model,
                status=pause.status,
                retry_after=None if pause.kind is BackendRefused else pause.seconds,
                fix=pause.fix,
            )
        kind = _KINDS.get(known.state if known else "down", BackendRefused)
        fix = known.fix if known else ""
        why += f" ({fix})" if fix else ""
        status = HTTPStatus.NOT_FOUND if known and known.state == "model_missing" else None
        return kind(why, backend=backend.name, model=backend.model, status=status, fix=fix)

    def _dumped(self) -> tuple[dict[str, object], ...]:
        return tuple(attempt.model_dump() for attempt in self.attempts)


class Turn:
    """One attempt: a ``with`` block around it settles what its end means.

    ``restart`` says, when text was shown before, whose text is void and why. ``cut_short`` says
    that the call's deadline left the backend no time: it is not to blame.
    """

    def __init__(
        self,
        call: Call,
        standing: Standing,
        ticket: Ticket,
        reason: str,
        restart: dict[str, str] | None,
    ) -> None:
        backend = standing.backend
        self.standing = standing
        self.ticket = ticket
        self.restart = restart
        self.shown = False
        self.cut_short = False
        self.attempt = Attempt(
            backend=backend.name,
            server=backend.server,
            model=backend.model,
            reason=reason,
            outcome=RUNNING,
            started_ms=call.now_ms(),
        )
        call.attempts.append(self.attempt)
        self._call = call
        self._told: dict[str, object] = {}
        self._usage: UsageMetadata | None = None
        self._heard = False
        self._asked: list[str] = []
        self._written = 0
        self._waited_ms = 0.0

    async def pieces(
        self, messages: Sequence[BaseMessage], options: CallOptions
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        """Give the pieces of the answer; what is not text is kept for `last`."""
        self._asked = [str(message.text) for message in messages]
        async with _closing(self.standing.backend.stream(messages, options)) as stream:
            while (chunk := await self._next(stream)) is not None:
                if self._shows(chunk):
                    self.shown = True
                    yield chunk

    def last(self) -> ChatGenerationChunk:
        """Give the chunk that ends a complete answer, and count it as answered."""
        told = self._told
        self._settle("ok", model=told.get("model_name"))
        self._call.answered(self)
        warnings = told.pop("warnings", [])
        hoptrail = self._call.told(self) | {"warnings": warnings}
        message = RoutedMessageChunk(
            content="",
            response_metadata=told | {"hoptrail": hoptrail},
            usage_metadata=self._usage,
            chunk_position="last",
        )
        return ChatGenerationChunk(message=message)

    def __enter__(self) -> Turn:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None or self.attempt.outcome != RUNNING:
            return False
        self._settle(type(error).__name__, detail=str(error))
        if self._asked and _may_have_cost(error):
            self.attempt.input_tokens = 1 + estimated_tokens(*self._asked)
            self.attempt.output_tokens = self._written // WEIGHT_OF_TOKEN
        if isinstance(error, BackendError):
            return self._call.failed(self, error)
        # Cancelled, or left early by the reader: no verdict on the backend.
        self.standing.release(self.ticket)
        return False

    async def _next(self, stream: AsyncIterator[ChatGenerationChunk]) -> ChatGenerationChunk | None:
        backend, limits = self.standing.backend, self.standing.backend.limits
        its_own = limits.idle if self._heard else limits.first_token
        allowed = min(its_own, limits.total - self._waited_ms / 1000)
        left = self._call.seconds_left()
        limit = max(min(allowed, left), 0.0)
        began = self._call.now_ms()
        try:
            if left <= 0 and not self._heard:
                raise TimeoutError  # a reader who took the time must not have a call begin
            # One limit per piece: a limit must not be open while the reader has the piece.
            async with TimeLimit(limit):
                chunk = await anext(stream, None)
        except TimeoutError as error:
            self.cut_short = left < min(allowed, QUICK_SECONDS)
            waited = "between two tokens" if self._heard else "for the first token"
            message = f"no answer in time: waited {limit:.1f} s {waited}"
            raise BackendUnavailable(message, backend=backend.name, model=backend.model) from error
        self._waited_ms += self._call.now_ms() - began
        self._heard = True
        return chunk

    def _shows(self, chunk: ChatGenerationChunk) -> bool:
        message = chunk.message
        assert isinstance(message, AIMessageChunk)
        if chunk.generation_info:
            self._told |= chunk.generation_info
            chunk.generation_info = None
        if message.response_metadata:
            self._told |= message.response_metadata
            message.response_metadata = {}
        if message.usage_metadata:
            self._usage = message.usage_metadata
            message.usage_metadata = None
        if message.chunk_position:
            message.chunk_position = None
        self._written += weight(str(message.content))
        shows = bool(message.content or message.tool_call_chunks or message.additional_kwargs)
        if shows and self.attempt.first_token_ms is None:
            self.attempt.first_token_ms = self._call.now_ms()
        return shows

    def _settle(self, outcome: str, *, detail: str = "", model: object = None) -> None:
        attempt = self.attempt
        attempt.outcome, attempt.detail = outcome, detail
        attempt.ms = round(self._call.now_ms() - attempt.started_ms, 3)
        attempt.model = str(model) if model else self.standing.backend.model


_KINDS: dict[str, type[BackendError]] = {"down": BackendUnavailable, "loading": BackendBusy}
"""What a backend failed with that a probe found in this state; in others it is refused."""


@asynccontextmanager
async def _closing(
    stream: AsyncIterator[ChatGenerationChunk],
) -> AsyncIterator[AsyncIterator[ChatGenerationChunk]]:
    """Close a stream that is left early, if it is one that can be closed."""
    try:
        yield stream
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


def _may_have_cost(error: BaseException) -> bool:
    """Say whether a model may have worked on what was asked, though the attempt failed so."""
    refused = isinstance(error, BackendError) and (error.status or 0) >= HTTPStatus.BAD_REQUEST
    return not (refused or isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout))


def _name(backend: Backend) -> str:
    return f"{backend.name}:{backend.model}" if backend.model else backend.name
