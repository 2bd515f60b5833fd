"""The router to the second and to the word: limits hit exactly, and all that an error tells."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGenerationChunk

from hoptrail.backend import Backend, CallLimits, CallOptions
from hoptrail.breaker import Breaker, RetryBudget, Ticket
from hoptrail.errors import (
    AllBackendsFailed,
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    InvalidResponse,
    NoBackend,
    RequestTooLarge,
)
from hoptrail.request import REQUEST_KEY, PlanRequest
from hoptrail.router import RoutedChatModel
from hoptrail.standing import Pause, Standing, first_up
from hoptrail.testing import FakeClock, Reply, ScriptedBackend
from hoptrail.trace import Attempt
from tests.virtual_time import run_virtually

pytestmark = pytest.mark.anyio


class Turned(ScriptedBackend):
    """A backend that takes time off a `FakeClock`, as its script says."""

    clock: FakeClock
    takes: Sequence[float] = (0.0,)

    def _next_reply(self) -> Reply:
        self.clock.advance(self.takes[min(len(self.calls), len(self.takes) - 1)])
        return super()._next_reply()


def turned(name: str, clock: FakeClock, takes: Sequence[float], *replies: Any) -> Turned:
    backend = Turned(name, replies)
    backend.clock, backend.takes = clock, takes
    return backend


def routed(*backends: Backend, clock: FakeClock | None = None, **fields: Any) -> RoutedChatModel:
    clock = clock or FakeClock()
    return RoutedChatModel(backends, clock=clock, sleep=clock.sleep, **fields)


def down(backend: str = "one", **fields: Any) -> BackendUnavailable:
    return BackendUnavailable("refused", backend=backend, **fields)


def busy(seconds: float | None = None, **fields: Any) -> BackendBusy:
    return BackendBusy("later", backend="one", retry_after=seconds, **fields)


def told(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = message.response_metadata["hoptrail"]
    return found


def admitted(breaker: Breaker | Standing) -> Ticket:
    ticket = breaker.admit()
    assert ticket is not None
    return ticket


def stands(backend: Backend | None = None) -> tuple[FakeClock, Standing]:
    clock = FakeClock()
    return clock, Standing(backend or ScriptedBackend("one"), clock)


class TestBreaker:
    def test_four_of_ten_that_fail_are_not_half(self) -> None:
        breaker = Breaker(FakeClock())
        for ok in (True, False, True, False, True, False, True, False, True, True):
            (breaker.succeeded if ok else breaker.failed)(admitted(breaker))
        assert not breaker.is_open
        breaker.failed(admitted(breaker))
        assert not breaker.is_open, "five of eleven"
        breaker.failed(admitted(breaker))
        assert breaker.is_open, "six of twelve"

    def test_answers_alone_never_open_it(self) -> None:
        breaker = Breaker(FakeClock())
        for _ in range(30):
            breaker.succeeded(admitted(breaker))
        assert not breaker.is_open

    def test_what_is_a_minute_old_counts_and_no_longer(self) -> None:
        for later, opens in ((60.0, True), (60.5, False)):
            clock = FakeClock()
            breaker = Breaker(clock)
            for _ in range(4):
                breaker.failed(admitted(breaker))
            breaker.succeeded(admitted(breaker))
            clock.advance(later)
            for _ in range(4):
                breaker.succeeded(admitted(breaker))
            breaker.failed(admitted(breaker))
            assert breaker.is_open is opens, later

    def test_while_a_trial_is_out_it_is_looked_at_every_second(self) -> None:
        clock = FakeClock()
        breaker = Breaker(clock)
        for _ in range(5):
            breaker.failed(admitted(breaker))
        clock.advance(30)
        assert breaker.wait() == 0.0
        trial = admitted(breaker)
        assert breaker.wait() == 1.0
        clock.advance(59.5)
        assert breaker.wait() == 1.0
        clock.advance(0.5)
        assert breaker.wait() == 0.0, "it hangs"
        second = admitted(breaker)
        assert second.is_trial
        breaker.release(trial)
        assert breaker.admit() is None, "only the one who has the trial can give it back"
        breaker.succeeded(second)
        assert breaker.wait() == 0.0
        assert not admitted(breaker).is_trial

    def test_no_period_is_taken_for_another(self) -> None:
        clock = FakeClock()
        breaker = Breaker(clock)
        early: list[Ticket] = []
        for _ in range(3):
            early += [admitted(breaker) for _ in range(5)]
            for _ in range(5):
                breaker.failed(admitted(breaker))
            clock.advance(30)
            breaker.succeeded(admitted(breaker))
        for ticket in early:
            breaker.failed(ticket)
        assert not breaker.is_open

    def test_no_more_retries_are_saved_than_ten_and_none_is_given_before_it_is_earned(
        self,
    ) -> None:
        budget = RetryBudget()
        for _ in range(100):
            budget.earn()
        assert budget.left == 10
        assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
        for _ in range(9):
            budget.earn()
        assert not budget.spend()
        budget.earn()
        assert budget.spend()
        assert budget.left == 0


class TestStanding:
    def test_at_zero_of_the_clock_nobody_is_left_alone(self) -> None:
        clock = FakeClock()
        clock.now = 0.0
        standing = Standing(ScriptedBackend("one"), clock)
        assert standing.pause() is None
        assert standing.known() is None
        assert standing.comes_back() == Pause(0.0, "")

    def test_a_pause_lasts_to_its_last_moment(self) -> None:
        clock, standing = stands()
        standing.failed(admitted(standing), busy(8.0, status=429, fix="wait"))
        found = standing.pause()
        assert found == Pause(8.0, "after BackendBusy (later)", BackendBusy, 429, "wait")
        clock.advance(7.5)
        assert str(standing.pause()) == "benched for 1 s after BackendBusy (later)"
        clock.advance(0.5)
        assert standing.pause() is None

    def test_the_first_to_ask_for_a_pause_gives_its_reason(self) -> None:
        """Neither an equal nor a shorter one takes its place; a longer one does."""
        _, standing = stands()
        tickets = [admitted(standing) for _ in range(4)]
        for ticket, seconds, why in zip(
            tickets, (8.0, 8.0, 3.0, 9.0), ("first", "equal", "shorter", "longer"), strict=True
        ):
            standing.failed(ticket, BackendBusy(why, backend="one", retry_after=seconds))
            found = standing.pause()
            assert found is not None
            assert found.why == f"after BackendBusy ({'longer' if why == 'longer' else 'first'})"

    @pytest.mark.parametrize("seconds", [29.0, 30.0, 31.0])
    def test_of_two_pauses_the_longer_one_is_told(self, seconds: float) -> None:
        """Of two that are as long, the one that was asked for."""
        _, standing = stands()
        tickets = [admitted(standing) for _ in range(6)]
        standing.failed(tickets.pop(), busy(seconds))
        for ticket in tickets:
            standing.failed(ticket, down())
        asked_for = Pause(seconds, "after BackendBusy (later)", BackendBusy)
        broken = Pause(30.0, "after repeated failures")
        assert standing.pause() == (broken if seconds < 30 else asked_for)

    def test_a_failure_that_asks_for_no_pause_gets_none(self) -> None:
        _, standing = stands()
        standing.failed(admitted(standing), down(retry_after=20))
        assert standing.pause() is None
        standing.failed(admitted(standing), busy())
        assert standing.pause() == Pause(10.0, "after BackendBusy (later)", BackendBusy)

    def test_what_is_over_is_soon(self) -> None:
        assert Pause(0.0, "").soon
        assert not Pause(0.5, "").soon
        assert Pause(99.0, "", BackendBusy).soon
        assert not Pause(99.0, "", BackendRefused).soon

    async def test_a_finding_holds_to_its_last_moment(self) -> None:
        for state, seconds in (("up", 15.0), ("down", 5.0), ("loading", 5.0)):
            backend = ScriptedBackend("one", state=state)  # type: ignore[arg-type]  # of a loop
            clock, standing = stands(backend)
            await standing.availability()
            clock.advance(seconds - 0.5)
            assert standing.known() is not None
            clock.advance(0.5)
            assert standing.known() is None
            await standing.availability()
            assert backend.probes == 2

    async def test_only_who_was_up_or_loads_is_expected_back(self) -> None:
        for states, back in (
            (["down"], None),
            (["loading"], 3.0),
            (["up"], 0.0),
            (["up", "down"], 3.0),
        ):
            backend = ScriptedBackend("one")
            clock, standing = stands(backend)
            for state in states:
                clock.advance(20)
                backend.state = state  # type: ignore[assignment]  # of a loop
                await standing.availability()
            clock.advance(2)
            found = standing.comes_back()
            assert (None if found is None else found.seconds) == back, states
            assert back != 3.0 or (found and found.why == "because it is not up")

    async def test_one_that_answered_is_expected_back_though_no_probe_ever_found_it_up(
        self,
    ) -> None:
        backend = ScriptedBackend("one", state="down")
        _, standing = stands(backend)
        await standing.availability()
        standing.succeeded(admitted(standing))
        answered = standing.known()
        assert answered is not None
        assert (answered.backend, answered.model) == ("one", "scripted")
        assert (answered.state, answered.detail, answered.fix) == ("up", "answered", "")
        standing.failed(admitted(standing), down())
        assert standing.known() is None, "a failure is a reason to look again"
        await standing.availability()
        found = standing.comes_back()
        assert found is not None
        assert found.seconds == 5.0

    async def test_what_a_probe_found_stays_when_a_call_is_answered(self) -> None:
        _, standing = stands()
        found = await standing.availability()
        standing.succeeded(admitted(standing))
        assert standing.known() is found

    async def test_a_pause_is_no_reason_to_probe_and_tells_its_fix(self) -> None:
        backend = ScriptedBackend("one")
        _, standing = stands(backend)
        refused = BackendRefused("no key", backend="one", fix="set HF_TOKEN")
        standing.failed(admitted(standing), refused)
        found = await standing.availability()
        assert (found.state, found.fix) == ("down", "set HF_TOKEN")
        assert found.detail == "benched for 300 s after BackendRefused (no key)"
        assert backend.probes == 0

    def test_a_silent_probe_is_given_up_and_one_that_fails_is_a_finding(self) -> None:
        class Failing(ScriptedBackend):
            async def probe(self) -> Any:
                raise down()

        async def main() -> list[tuple[str, str, float]]:
            found: list[tuple[str, str, float]] = []
            for backend in (ScriptedBackend("one", probe_delay=3600), Failing("one")):
                loop = asyncio.get_running_loop()
                began = loop.time()
                seen = await Standing(backend, loop.time).availability()
                found.append((seen.state, seen.detail, round(loop.time() - began, 3)))
            return found

        silent = ("down", "no answer within 1.5 s", 1.5)
        assert run_virtually(main()) == [silent, ("down", "refused", 0.0)]

    async def test_those_after_the_first_that_is_known_to_be_up_are_not_asked(self) -> None:
        clock = FakeClock()
        backends = [ScriptedBackend(name) for name in ("one", "two", "three", "four")]
        backends[0].state = backends[2].state = "down"
        standings = [Standing(backend, clock) for backend in backends]
        await standings[0].availability()
        await standings[1].availability()
        assert await first_up(standings) is standings[1]
        assert [backend.probes for backend in backends] == [1, 1, 0, 0]
        assert await first_up([standings[0], *standings[2:]]) is standings[3]
        assert [backend.probes for backend in backends] == [1, 1, 1, 1]
        assert await first_up([standings[0], standings[2]]) is None
        assert await first_up([Standing(backends[2], clock)]) is None
        assert await first_up([]) is None

    def test_a_slow_probe_of_the_next_holds_up_nobody(self) -> None:
        async def main() -> float:
            loop = asyncio.get_running_loop()
            slow = ScriptedBackend("two", probe_delay=1.0)
            standings = [Standing(each, loop.time) for each in (ScriptedBackend("one"), slow)]
            assert await first_up(standings) is standings[0]
            return loop.time()

        assert run_virtually(main()) == 0.0


class TestWaiting:
    async def test_a_second_try_comes_after_a_short_and_random_while(self) -> None:
        random.seed(5)
        slept: list[float] = []
        for _ in range(60):
            clock = FakeClock()
            await routed(ScriptedBackend("one", [down(), "well"]), clock=clock).ainvoke("Q")
            slept += clock.slept
        assert len(slept) == 60
        assert 0.1 <= min(slept) < 0.12
        assert 0.18 < max(slept) <= 0.2

    def test_and_within_the_deadline(self) -> None:
        backend = ScriptedBackend("one", [down(), "well"])

        async def main() -> float:
            loop = asyncio.get_running_loop()
            with pytest.raises(AllBackendsFailed):
                await RoutedChatModel([backend], clock=loop.time).ainvoke("Q", deadline=0.05)
            return loop.time()

        assert run_virtually(main()) == pytest.approx(0.05)
        assert len(backend.calls) == 1

    def test_half_a_second_is_time_enough_to_ask(self) -> None:
        async def main() -> str:
            clock = asyncio.get_running_loop().time
            model = RoutedChatModel([ScriptedBackend("one")], clock=clock)
            return (await model.ainvoke("Q", deadline=0.5)).text

        assert run_virtually(main())

    @pytest.mark.parametrize(("took", "order"), [(2.0, "11"), (2.001, "121")])
    async def test_two_seconds_are_still_quick(self, took: float, order: str) -> None:
        clock = FakeClock()
        first = turned("one", clock, [took, 0.0], down(), "well")
        second = ScriptedBackend("two", [BackendRefused("no", backend="two")])
        message = await routed(first, second, clock=clock).ainvoke("Q")
        asked = [attempt["backend"] for attempt in told(message)["attempts"]]
        assert asked == [{"1": "one", "2": "two"}[each] for each in order]

    async def test_without_a_deadline_ten_seconds_are_waited_in_all(self) -> None:
        for seconds, waits in (((10.0, 1.0), [10.0]), ((6.0, 4.0, 1.0), [6.0, 4.0]), ((11.0,), [])):
            clock = FakeClock()
            backend = ScriptedBackend("one", [busy(each) for each in seconds])
            with pytest.raises(AllBackendsFailed):
                await routed(backend, clock=clock).ainvoke("Q")
            assert clock.slept == waits
            assert len(backend.calls) == len(waits) + 1

    async def test_with_one_it_is_waited_for_whoever_is_back_first_and_in_time(self) -> None:
        for deadline, waits in ((8.0, []), (8.5, [8.0])):
            clock = FakeClock()
            long = BackendBusy("later", backend="two", retry_after=100)
            backends = ScriptedBackend("one", [busy(8.0), "well"]), ScriptedBackend("two", [long])
            asking = routed(*backends, clock=clock).ainvoke("Q", deadline=deadline)
            if waits:
                assert told(await asking)["reason"] == "asked again after BackendBusy"
            else:
                with pytest.raises(AllBackendsFailed):
                    await asking
            assert clock.slept == waits

    async def test_one_that_failed_by_itself_is_only_waited_for_with_a_deadline(self) -> None:
        """Its pause is not what it asked for: without a deadline nobody waits for that."""
        for deadline in (None, 60.0):
            clock, backend = FakeClock(), ScriptedBackend("one", [*[down()] * 5, "well"])
            model = routed(backend, clock=clock)
            for _ in range(3):
                with pytest.raises(AllBackendsFailed):
                    await model.ainvoke("Q")
            clock.advance(25)
            clock.slept.clear()
            if deadline is None:
                with pytest.raises(AllBackendsFailed):
                    await model.ainvoke("Q")
            else:
                await model.ainvoke("Q", deadline=deadline)
            assert len(backend.calls) == (5 if deadline is None else 6)

    def test_a_probe_may_not_outlast_the_deadline(self) -> None:
        async def main() -> float:
            loop = asyncio.get_running_loop()
            model = RoutedChatModel([ScriptedBackend("one", probe_delay=1.0)], clock=loop.time)
            with pytest.raises(AllBackendsFailed) as failed:
                await model.ainvoke("Q", deadline=0.25)
            (cause,) = failed.value.causes
            assert type(cause) is BackendUnavailable
            assert str(cause) == "not asked: not known to be up"
            return loop.time()

        assert run_virtually(main()) == 0.25


class TestTold:
    async def test_an_attempt_has_its_times_to_the_microsecond(self) -> None:
        clock = FakeClock()
        first = turned("one", clock, [0.0123456], BackendRefused("no", backend="one"))
        first.server = "one:80"
        second = turned("two", clock, [0.5], "well")
        message = await routed(first, second, clock=clock).ainvoke("Q")
        lost, won = told(message)["attempts"]
        assert (lost["started_ms"], lost["ms"], lost["first_token_ms"]) == (0.0, 12.346, None)
        assert (won["started_ms"], won["ms"], won["first_token_ms"]) == (12.346, 500.0, 512.346)
        assert (lost["outcome"], lost["detail"]) == ("BackendRefused", "no")
        assert (won["outcome"], won["detail"]) == ("ok", "")
        assert (lost["server"], lost["model"], lost["reason"]) == (
            "one:80",
            "scripted",
            "first in order and up",
        )
        assert told(message)["first_token_ms"] == 512.346
        assert told(message)["reason"] == "one: failed with BackendRefused (no)"

    async def test_a_failure_has_its_cost_where_a_model_may_have_worked(self) -> None:
        """What was asked and written, estimated; nothing for who was never reached or said no."""
        unreached = down()
        unreached.__cause__ = httpx.ConnectError("refused")
        slow = down()
        slow.__cause__ = httpx.ConnectTimeout("slow")
        cut = Reply("four five", error=InvalidResponse("cut", backend="one"), error_after=2)
        for failure, cost in (
            (unreached, (0, 0)),
            (slow, (0, 0)),
            (down(status=400), (0, 0)),
            (down(status=399), (3, 0)),
            (BackendRefused("no", backend="one"), (3, 0)),
            (cut, (3, 2)),
        ):
            model = routed(ScriptedBackend("one", [failure]), ScriptedBackend("two"))
            message = await model.ainvoke("A question")
            first = told(message)["attempts"][0]
            assert (first["input_tokens"], first["output_tokens"]) == cost, failure
            last = told(message)["attempts"][-1]
            assert (last["input_tokens"], last["output_tokens"]) == (0, 0)

    async def test_why_nobody_was_asked_is_told_of_each(self) -> None:
        """State, model, status, how long it is left alone, and what to do about it."""

        class Fixable(ScriptedBackend):
            async def probe(self) -> Any:
                found = await super().probe()
                return found.model_copy(update={"fix": "do this", "detail": f"it is {self.state}"})

        expected = {
            "down": (BackendUnavailable, None),
            "loading": (BackendBusy, None),
            "unconfigured": (BackendRefused, None),
            "misconfigured": (BackendRefused, None),
            "model_missing": (BackendRefused, 404),
        }
        states: Any = list(expected)
        backends = [Fixable(state, model="m", state=state) for state in states]
        with pytest.raises(AllBackendsFailed) as failed:
            await routed(*backends).ainvoke("Q")
        for state, cause in zip(states, failed.value.causes, strict=True):
            assert (type(cause), cause.status) == expected[state]
            assert (cause.backend, cause.model, cause.fix) == (state, "m", "do this")
            assert str(cause) == f"not asked: it is {state} (do this)"

    async def test_and_of_those_that_are_left_alone(self) -> None:
        gone = BackendRefused("no", backend="one", status=401, fix="set a key")
        for error, after in ((gone, None), (busy(40.0, status=429, fix="wait"), 40.0)):
            model = routed(ScriptedBackend("one", [error], model="m"))
            for _ in range(2):
                with pytest.raises(AllBackendsFailed) as failed:
                    await model.ainvoke("Q")
            (cause,) = failed.value.causes
            seconds = after or 300
            why = f"benched for {seconds:.0f} s after {type(error).__name__} ({error})"
            assert str(cause) == f"not asked: {why}"
            assert (type(cause), cause.backend, cause.model) == (type(error), "one", "m")
            assert (cause.status, cause.retry_after, cause.fix) == (error.status, after, error.fix)
            assert failed.value.attempts == ()

    async def test_only_where_nothing_is_configured_it_is_said_so(self) -> None:
        nothing = [ScriptedBackend(name, state="unconfigured") for name in ("one", "two")]
        with pytest.raises(NoBackend) as none:
            await routed(*nothing).ainvoke("Q")
        assert str(none.value) == "one: not asked: unconfigured; two: not asked: unconfigured"
        for other in (ScriptedBackend("two", state="down"), ScriptedBackend("two", [busy(99)])):
            with pytest.raises(AllBackendsFailed):
                await routed(nothing[0], other).ainvoke("Q")

    async def test_the_reason_names_all_that_came_before(self) -> None:
        builtin = ScriptedBackend("extractive", degraded=True)
        message = await routed(builtin).ainvoke("Q")
        assert told(message)["reason"] == "the built-in is first in order"
        refused = ScriptedBackend("one", [BackendRefused("no", backend="one")])
        away = ScriptedBackend("two", state="down")
        model = routed(refused, away, builtin)
        assert told(await model.ainvoke("Q"))["reason"] == (
            "one: failed with BackendRefused (no); two: down"
        )
        assert told(await model.ainvoke("Q"))["reason"] == (
            "one: benched for 300 s after BackendRefused (no); two: down"
        )

    async def test_a_restart_names_those_that_have_no_model_too(self) -> None:
        cut = Reply("a b", error=InvalidResponse("cut", backend="one"), error_after=1)
        first, second = ScriptedBackend("one", [cut], model=None), ScriptedBackend("two")
        model = routed(first, second)
        chunks = [chunk async for chunk in model.astream("Q")]
        news = [chunk.response_metadata.get("attempt_restarted") for chunk in chunks]
        assert [each for each in news if each] == [
            {"from": "one", "to": "one", "why": "cut"},
            {"from": "one", "to": "two:scripted", "why": "cut"},
        ]
        assert model.policy == "one > two:scripted"
        assert model._identifying_params == {"policy": "one > two:scripted"}
        assert model._llm_type == "hoptrail"


class Raw(ScriptedBackend):
    """A backend that streams the chunks it is given."""

    chunks: Sequence[AIMessageChunk] = ()
    told: dict[str, Any] | None = None

    async def stream(
        self, messages: Sequence[BaseMessage], options: CallOptions
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        for chunk in self.chunks:
            yield ChatGenerationChunk(message=chunk, generation_info=self.told)


class TestPieces:
    async def test_what_is_no_text_is_told_at_the_end_and_once(self) -> None:
        usage: Any = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
        backend = Raw("one")
        backend.told = {"finish_reason": "stop", "warnings": ["careful"]}
        backend.chunks = [
            AIMessageChunk(content="", response_metadata={"model_name": "another"}),
            AIMessageChunk(content="well ", response_metadata={"extra": 1}),
            AIMessageChunk(content="", additional_kwargs={"reasoning": "hm"}),
            AIMessageChunk(content="", usage_metadata=usage, chunk_position="last"),
        ]
        chunks = [chunk.message async for chunk in routed(backend)._astream([HumanMessage("Q")])]
        assert [chunk.content for chunk in chunks] == ["well ", "", ""]
        assert [bool(chunk.response_metadata) for chunk in chunks] == [False, False, True]
        last = chunks[-1]
        assert isinstance(last, AIMessageChunk)
        assert [getattr(each, "chunk_position", None) for each in chunks] == [None, None, "last"]
        assert last.usage_metadata == usage
        assert last.response_metadata["finish_reason"] == "stop"
        assert last.response_metadata["extra"] == 1
        assert "warnings" not in last.response_metadata
        assert told(last)["warnings"] == ["careful"]
        assert told(last)["model"] == told(last)["attempts"][0]["model"] == "another"

    async def test_a_tool_call_is_a_first_token(self) -> None:
        call: Any = {"name": "look", "args": "{}", "id": "1", "index": 0}
        backend = Raw("one")
        backend.chunks = [AIMessageChunk(content="", tool_call_chunks=[call])]
        message = await routed(backend).ainvoke("Q")
        assert [each["name"] for each in message.tool_calls] == ["look"]
        assert told(message)["first_token_ms"] == 0.0
        assert told(message)["warnings"] == []
        assert message.usage_metadata is None

    def test_limits_hold_to_the_piece(self) -> None:
        """The first, each next one, and all together; the words say which."""

        async def detail(limits: CallLimits, delay: float, between: float) -> tuple[str, float]:
            loop = asyncio.get_running_loop()
            reply = Reply("a b c d e f", token_delay=between)
            slow = ScriptedBackend("one", [reply], delay=delay, limits=limits)
            model = RoutedChatModel([slow, ScriptedBackend("two")], clock=loop.time)
            message = await model.ainvoke("Q")
            first = told(message)["attempts"][0]
            return first["detail"], first["ms"] / 1000

        def found(limits: CallLimits, delay: float, between: float) -> tuple[str, float]:
            return run_virtually(detail(limits, delay, between))

        first = CallLimits(first_token=4.0, idle=2.0, total=300.0)
        assert found(first, 5.0, 0.0) == ("no answer in time: waited 4.0 s for the first token", 4)
        assert found(first, 0.5, 3.0) == (
            "no answer in time: waited 2.0 s between two tokens",
            5.5,
        )
        total = CallLimits(first_token=4.0, idle=3.0, total=6.0)
        assert found(total, 0.0, 2.5) == ("no answer in time: waited 1.0 s between two tokens", 6)

    def test_who_is_slow_by_a_short_deadline_is_not_to_blame(self) -> None:
        """Less than two seconds to speak in is too little to judge by."""

        async def failures(deadline: float) -> int:
            loop = asyncio.get_running_loop()
            model = RoutedChatModel([ScriptedBackend("one", delay=3600)], clock=loop.time)
            with pytest.raises(AllBackendsFailed):
                await model.ainvoke("Q", deadline=deadline)
            assert loop.time() == pytest.approx(deadline)
            return model._standings[0]._breaker._in_a_row

        assert [run_virtually(failures(each)) for each in (1.9, 2.0, 2.5)] == [0, 1, 1]


class TestArguments:
    async def test_attempts_are_entered_where_the_caller_wants_them(self) -> None:
        mine: list[Attempt] = []
        await routed(ScriptedBackend("one", [down(), "well"])).ainvoke("Q", attempts=mine)
        assert [each.outcome for each in mine] == ["BackendUnavailable", "ok"]

    async def test_where_nothing_can_be_taken_back_a_broken_stream_raises(self) -> None:
        cut = Reply("a b", error=InvalidResponse("cut", backend="one"), error_after=1)
        model = routed(ScriptedBackend("one", [cut]), ScriptedBackend("two"), restarts=False)
        with pytest.raises(InvalidResponse) as broken:
            await model.ainvoke("Q")
        assert [each["outcome"] for each in broken.value.attempts] == ["InvalidResponse"]
        before = routed(ScriptedBackend("one", [down()]), ScriptedBackend("two"), restarts=False)
        assert told(await before.ainvoke("Q"))["backend"] == "two", "nothing was shown yet"

    def test_nor_can_it_be_before_whoever_reads_langchains_events(self) -> None:
        """They come with a manager; a stream without one begins anew."""
        cut = Reply("a b", error=InvalidResponse("cut", backend="one"), error_after=1)
        manager: Any = object()
        for reader in (None, manager):
            model = RoutedChatModel([ScriptedBackend("one", [cut]), ScriptedBackend("two")])
            stream = model._stream([HumanMessage("Q")], run_manager=reader)
            if reader is None:
                assert [chunk.message.content for chunk in stream][-3:] == [
                    "scripted ",
                    "answer ",
                    "",
                ]
            else:
                with pytest.raises(InvalidResponse):
                    list(stream)

    async def test_each_attempt_is_reserved_and_the_built_in_is_free(self) -> None:
        asked: list[tuple[int, bool]] = []

        class Counted:
            def limit(self, attempts: Sequence[Attempt], *, free: bool) -> int | None:
                asked.append((len(attempts), free))
                return None if free else 7

        first = ScriptedBackend("one", [BackendRefused("no", backend="one")])
        builtin = ScriptedBackend("extractive", degraded=True)
        await routed(first, builtin).ainvoke("Q", expense=Counted(), max_tokens=9)
        assert asked == [(1, False), (2, True)]
        budgets = [each.calls[0].options.output_budget for each in (first, builtin)]
        assert budgets == [7, None]
        assert builtin.calls[0].options.max_tokens == 9

    async def test_a_schema_is_taken_from_where_it_is_said(self) -> None:
        backend = ScriptedBackend("one")
        model = routed(backend)
        typed = HumanMessage("plan", additional_kwargs={REQUEST_KEY: PlanRequest(question="Q")})
        mine: dict[str, Any] = {"type": "string"}
        await model.ainvoke("Q", response_format={"type": "json_object"})
        await model.ainvoke("Q", response_format={"type": "json_schema", "json_schema": {}})
        await model.ainvoke([typed], output_schema=mine)
        await model.ainvoke([typed], tools=[{"type": "function"}], tool_choice="auto")
        await model.ainvoke("Q", stream_usage=True, parallel_tool_calls=False, strict=True)
        schemas = [call.options.output_schema for call in backend.calls]
        assert schemas == [{"type": "object"}, {"type": "object"}, mine, None, None]
        assert backend.calls[3].options.tools == ({"type": "function"},)
        assert backend.calls[4].options.stop is None

    async def test_all_unknown_arguments_are_named(self) -> None:
        with pytest.raises(TypeError) as unknown:
            await routed(ScriptedBackend("one")).ainvoke("Q", zeal=1, temprature=0)
        assert str(unknown.value) == "unknown arguments of a call: temprature, zeal"

    async def test_how_a_tool_is_to_be_chosen_goes_along_with_it(self) -> None:
        def look(at: str) -> str:
            """Look."""
            return at

        choices = {"any": "required", "auto": "auto", "look": "look", None: None}
        for given, passed in choices.items():
            backend = ScriptedBackend("one")
            bound = routed(backend).bind_tools([look], tool_choice=given, temperature=0.5)
            await bound.ainvoke("Q")
            options = backend.calls[0].options
            assert (options.tool_choice, options.temperature) == (passed, 0.5)
            function: Any = options.tools[0]["function"]
            assert function["name"] == "look"

    def test_stop_words_go_through_every_door(self) -> None:
        backend = ScriptedBackend("one")
        model = RoutedChatModel([backend])
        model.invoke("Q", stop=["END"], temperature=0.25)
        assert list(model.stream("Q", stop=["END"], temperature=0.25))
        for call in backend.calls:
            assert (call.options.stop, call.options.temperature) == (("END",), 0.25)
            assert [message.content for message in call.messages] == ["Q"]

    async def test_who_is_told_how_calls_end_hears_of_a_cancellation(self) -> None:
        told_of: list[BaseException] = []

        class Manager:
            async def on_llm_error(self, error: BaseException) -> None:
                told_of.append(error)

        manager: Any = Manager()
        backend = ScriptedBackend("one", delay=3600)
        model = routed(backend)
        asking = asyncio.ensure_future(
            model._agenerate([HumanMessage("Q")], ["END"], manager, temperature=0.25)
        )
        while not backend.calls:  # noqa: ASYNC110 # nothing tells of a call that began
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert [type(error) for error in told_of] == [asyncio.CancelledError]
        assert backend.calls[0].options.stop == ("END",)


class TestFailing:
    async def test_what_is_too_large_for_one_goes_to_the_next_and_blames_nobody(self) -> None:
        first = ScriptedBackend("one", [RequestTooLarge("long", backend="one")])
        model = routed(first, ScriptedBackend("two"))
        for _ in range(6):
            assert told(await model.ainvoke("Q"))["backend"] == "two"
        assert len(first.calls) == 6

    async def test_the_built_in_is_asked_once_and_never_benched(self) -> None:
        builtin = ScriptedBackend("extractive", [down("extractive")], degraded=True)
        model = routed(builtin)
        for _ in range(7):
            with pytest.raises(AllBackendsFailed) as failed:
                await model.ainvoke("Q")
            assert len(failed.value.attempts) == 1
        assert len(builtin.calls) == 7

    async def test_who_failed_is_not_asked_again_without_a_retry_to_spend(self) -> None:
        backend = ScriptedBackend("one", [down()])
        model = routed(backend, ScriptedBackend("two"))
        while model._retries.spend():
            pass
        for calls in (1, 2, 3, 4, 5):
            await model.ainvoke("Q")
            assert len(backend.calls) == calls

    async def test_every_failure_is_a_cause_in_order(self) -> None:
        errors: list[BackendError] = [down(), InvalidResponse("cut", backend="one")]
        with pytest.raises(AllBackendsFailed) as failed:
            await routed(ScriptedBackend("one", errors)).ainvoke("Q")
        assert list(failed.value.causes) == errors
        assert [each["outcome"] for each in failed.value.attempts] == [
            "BackendUnavailable",
            "InvalidResponse",
        ]
