"""What the router may do to a backend, said as plainly as possible: every call is held to it."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from hoptrail.backend import Availability, Backend, CallLimits, CallOptions
from hoptrail.errors import (
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    HoptrailError,
    InvalidResponse,
)
from hoptrail.router import RoutedChatModel

PAUSES = (30.0, 60.0, 120.0, 240.0, 300.0)
TRIAL = 60.0
NEXT_LOOK = 5.0
PROBE = 1.5
CLOSE = 1e-6


@dataclass(eq=False)
class Asked:
    """One request to the router, and what became of it."""

    number: int
    began: float
    deadline: float | None = None
    slow_reader: bool = False
    cancelled: bool = False
    ended: float | None = None
    answer: str | None = None
    error: HoptrailError | None = None
    calls: list[Called] = field(default_factory=list)

    @property
    def ends(self) -> float:
        """The time by which it has to end."""
        return float("inf") if self.deadline is None else self.began + self.deadline


@dataclass(eq=False)
class Called:
    """One call to a backend."""

    backend: WatchedBackend
    asked: Asked
    era: int
    is_trial: bool
    began: float
    waits_since: float
    waited: float = 0.0
    spoke: bool = False
    text: str = ""
    over: str = ""


class Rules:
    """The rules for one backend: closed, open, or open with one trial out."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.era = 0
        self.openings = 0
        self.open_until = 0.0
        self.told_off_until = 0.0
        self.verdicts: list[tuple[float, bool]] = []
        self.trial: Called | None = None
        self.trial_left = 0.0

    def wait(self) -> float:
        """Give the seconds for which no call may begin."""
        now = self.clock()
        waits = [0.0, self.told_off_until - now]
        if self.openings:
            under_trial = self.trial is not None and now < self.trial.began + TRIAL
            waits += [self.open_until - now, 1.0 if under_trial else 0.0]
        return max(waits)

    def answered(self, call: Called) -> None:
        if call is self.trial:
            self.openings = 0
            self._new_era()
        elif self._heard(call):
            self.verdicts.append((self.clock(), True))

    def failed(self, call: Called, error: BackendError) -> None:
        if isinstance(error, BackendBusy | BackendRefused):
            seconds = 300.0 if isinstance(error, BackendRefused) else 10.0
            if error.retry_after is not None:
                seconds = error.retry_after
            self.told_off_until = max(self.told_off_until, self.clock() + seconds)
        if not isinstance(error, BackendUnavailable | InvalidResponse):
            self.left(call)
        elif call is self.trial:
            self._open()
        elif self._heard(call):
            self.verdicts.append((self.clock(), False))
            if self._too_bad():
                self._open()

    def left(self, call: Called) -> None:
        """Note that a call ended without a verdict."""
        if call is self.trial:
            self._end_trial()

    def _heard(self, call: Called) -> bool:
        return not call.is_trial and call.era == self.era

    def _too_bad(self) -> bool:
        lately = [ok for when, ok in self.verdicts if when >= self.clock() - 60]
        in_a_row = [ok for _, ok in self.verdicts[-5:]] == [False] * 5
        return in_a_row or (len(lately) >= 10 and lately.count(False) * 2 >= len(lately))

    def _open(self) -> None:
        self.open_until = self.clock() + PAUSES[min(self.openings, 4)]
        self.openings += 1
        self._new_era()

    def _new_era(self) -> None:
        self.era += 1
        self.verdicts = []
        self._end_trial()

    def _end_trial(self) -> None:
        self.trial, self.trial_left = None, self.clock()


class World:
    """Several backends behind one router, and every request ever made to it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.backends: list[WatchedBackend] = []
        self.asked: list[Asked] = []
        self.retries = 0

    def router(self) -> RoutedChatModel:
        """Give the router over the backends."""
        self.model = RoutedChatModel(self.backends, clock=self.clock)
        return self.model

    async def ask(self, deadline: float | None = None, *, slow_reader: bool = False) -> Asked:
        """Put a request to the router, and check how it ends."""
        asked = Asked(len(self.asked), self.clock(), deadline, slow_reader)
        self.asked.append(asked)
        text = ""
        try:
            async with aclosing(
                self.model._astream([AIMessageChunk(content=str(asked.number))], deadline=deadline)
            ) as stream:
                async for chunk in stream:
                    message = chunk.message
                    restarted = "attempt_restarted" in message.response_metadata
                    text = "" if restarted else text + str(message.text)
                    if slow_reader and message.text:
                        await asyncio.sleep(3)
            asked.answer = text
        except HoptrailError as error:
            asked.error = error
        except asyncio.CancelledError:
            asked.cancelled = True
            raise
        finally:
            asked.ended = self.clock()
            self._check_end(asked)
        return asked

    def _check_end(self, asked: Asked) -> None:
        assert all(call.over for call in asked.calls), "a call outlives its request"
        if asked.cancelled:
            return
        assert asked.ended is not None
        # A reader who holds a piece when the time is over gives it back later.
        late = 6 if asked.slow_reader else 0
        assert asked.ended <= asked.ends + 0.01 + late, "a request ends by its deadline"
        if asked.answer is not None:
            assert asked.calls[-1].over == "answered"
            assert asked.answer == asked.calls[-1].text, "texts of two calls are never joined"
        elif not (asked.calls and asked.calls[-1].over == "RequestRefused"):
            self._check_failure(asked)

    def _check_failure(self, asked: Asked) -> None:
        now = self.clock()
        if now >= asked.ends - CLOSE:
            return
        for backend in self.backends:
            if any(call.backend is backend for call in asked.calls):
                continue
            assert not backend.could_be_asked(), f"{backend.name} was not asked"
            if asked.deadline is not None and (back := backend.comes_back()):
                assert back >= asked.ends - CLOSE, f"{backend.name} was not waited for: {asked}"

    def begins(self, backend: WatchedBackend, asked: Asked) -> Called:
        """Check that a call may begin, and note it."""
        rules, now = backend.rules, self.clock()
        assert now < asked.ends, "no call begins after the deadline"
        assert rules.wait() == 0, f"{backend.name} is to be left alone for {rules.wait():.3f} s"
        if any(call.backend is backend for call in asked.calls):
            self.retries += 1
        assert self.retries <= 10 + len(self.asked) / 10, "retries are a tenth of the requests"
        for earlier in self.backends[: self.backends.index(backend)]:
            tried = any(call.backend is earlier for call in asked.calls)
            assert tried or not earlier.could_be_asked(), f"{earlier.name} was passed over"
        call = Called(backend, asked, rules.era, rules.openings > 0, now, now)
        if call.is_trial:
            rules.trial = call
        asked.calls.append(call)
        return call


class WatchedBackend(Backend):
    """A backend that holds the router to the rules; what it answers is up to ``behave``."""

    model = None
    limits = CallLimits(first_token=30.0, idle=20.0, total=120.0)

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.clock = world.clock
        self.rules = Rules(world.clock)
        self.calls: list[Called] = []
        self.probes: list[float] = []
        self.found = "up"
        self.looked = self.answered = float("-inf")
        self.was_up = False
        world.backends.append(self)

    @abstractmethod
    async def state(self) -> str:
        """Say what a probe finds."""

    @abstractmethod
    def behave(self, call: Called) -> AsyncGenerator[str, None]:
        """Give the words of an answer, or raise."""

    def could_be_asked(self) -> bool:
        """Whether nobody has had a reason to pass it over, for longer than a choice takes."""
        rules = self.rules
        found_again = self.looked if self.found == "up" else self.looked + NEXT_LOOK
        free = max(rules.told_off_until, rules.open_until, rules.trial_left, found_again)
        return rules.wait() == 0 and self.clock() > free + PROBE + CLOSE

    def comes_back(self) -> float | None:
        """Give when it is to be asked or looked at again, if anybody knows that it will be."""
        if wait := self.rules.wait():
            return self.clock() + wait
        looked_for = self.found == "loading" or (self.found == "down" and self.was_up)
        return self.looked + NEXT_LOOK if looked_for else None

    async def probe(self) -> Availability:
        assert self.rules.wait() == 0, "nobody looks at who is to be left alone"
        began = self.clock()
        self.probes.append(began)
        try:
            state = await self.state()
        except asyncio.CancelledError:
            if self.clock() >= began + PROBE - CLOSE:
                self._found("down", since=began)
            raise
        self._found(state, since=began)
        return Availability.model_validate({"backend": self.name, "state": state})

    def _found(self, state: str, since: float) -> None:
        answered_meanwhile = self.answered >= since
        self.found = "up" if answered_meanwhile else state
        self.looked = self.clock()
        self.was_up = self.was_up or self.found == "up"

    async def stream(
        self, messages: Sequence[BaseMessage], options: CallOptions
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        call = self.world.begins(self, self.world.asked[int(str(messages[-1].content))])
        self.calls.append(call)
        try:
            async with aclosing(self.behave(call)) as words:
                async for word in words:
                    call.spoke = True
                    call.waited += self.clock() - call.waits_since
                    call.text += word
                    yield ChatGenerationChunk(message=AIMessageChunk(content=word))
                    call.waits_since = self.clock()
        except BackendError as error:
            call.over = type(error).__name__
            self._failed(call, error)
            raise
        except asyncio.CancelledError:
            call.over = "cut"
            self._was_cut(call)
            raise
        except GeneratorExit:
            call.over = "left"
            self.rules.left(call)
            raise
        else:
            call.over = "answered"
            self.rules.answered(call)
            if self.rules.wait() == 0:
                self.answered = self.clock()
                self._found("up", since=self.clock())

    async def generate(self, messages: Sequence[BaseMessage], options: CallOptions) -> ChatResult:
        raise AssertionError("the router only streams")

    def _failed(self, call: Called, error: BackendError) -> None:
        self.answered = float("-inf")
        self.rules.failed(call, error)

    def _was_cut(self, call: Called) -> None:
        """Tell a caller who left from a call that took too long."""
        silence = self.clock() - call.waits_since
        allowed = self.limits.idle if call.spoke else self.limits.first_token
        too_long = call.waited + silence >= self.limits.total - CLOSE
        by_deadline = self.clock() >= call.asked.ends - CLOSE
        if too_long or silence >= allowed - CLOSE or (by_deadline and silence >= 2.0 - CLOSE):
            self._failed(call, BackendUnavailable("silent", backend=self.name))
        else:
            self.rules.left(call)
