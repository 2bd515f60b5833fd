"""The router: who answers, what is tried before, and what a reader gets to see."""

import asyncio
import copy
import gc
import pickle
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel

from hoptrail.backend import Backend, CallLimits, CallOptions
from hoptrail.connections import aclose_all
from hoptrail.errors import (
    AllBackendsFailed,
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    InvalidResponse,
    NoBackend,
    RequestRefused,
)
from hoptrail.providers.huggingface import HuggingFaceBackend
from hoptrail.providers.ollama import OllamaBackend
from hoptrail.request import PLAN_SCHEMA, REQUEST_KEY, PlanRequest
from hoptrail.routed import RoutedMessageChunk
from hoptrail.router import RoutedChatModel
from hoptrail.standing import Standing
from hoptrail.testing import FakeClock, Reply, ScriptedBackend
from tests.providers import Fault, LoopbackProvider
from tests.providers import Reply as Served
from tests.virtual_time import run_virtually

pytestmark = pytest.mark.anyio


def down(backend: str = "one", **fields: Any) -> BackendUnavailable:
    return BackendUnavailable("refused", backend=backend, **fields)


def routed(*backends: Backend, clock: FakeClock | None = None) -> RoutedChatModel:
    clock = clock or FakeClock()
    return RoutedChatModel(backends, clock=clock, sleep=clock.sleep)


def one(*replies: str | BackendError | Reply, **fields: Any) -> ScriptedBackend:
    return ScriptedBackend("one", replies or ("from one",), **fields)


def two(*replies: str | BackendError | Reply, **fields: Any) -> ScriptedBackend:
    return ScriptedBackend("two", replies or ("from two",), **fields)


class Held(ScriptedBackend):
    """A backend whose answers wait for ``gate``; its failures come at once."""

    gate: asyncio.Event

    async def stream(
        self, messages: Sequence[BaseMessage], options: CallOptions
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        async with aclosing(super().stream(messages, options)) as chunks:
            async for chunk in chunks:
                await self.gate.wait()
                yield chunk


def told(message: AIMessage) -> dict[str, Any]:
    found: dict[str, Any] = message.response_metadata["hoptrail"]
    return found


def outcomes(attempts: Any) -> list[tuple[str, str]]:
    return [(attempt["backend"], attempt["outcome"]) for attempt in attempts]


class TestChoice:
    async def test_the_first_that_is_up_answers(self) -> None:
        """The answer says who gave it, why that one, and how long it took."""
        first, second = one(), two()
        message = await routed(first, second).ainvoke("Q")
        assert message.text.strip() == "from one"
        assert told(message) == {
            "backend": "one",
            "model": "scripted",
            "reason": "first in order and up",
            "degraded": False,
            "first_token_ms": 0.0,
            "warnings": [],
            "attempts": told(message)["attempts"],
        }
        assert outcomes(told(message)["attempts"]) == [("one", "ok")]
        assert second.calls == []
        assert message.usage_metadata is not None

    @pytest.mark.parametrize("state", ["down", "unconfigured", "misconfigured", "model_missing"])
    async def test_what_is_not_up_is_not_asked(self, state: Any) -> None:
        """A probe's finding is enough, and is the reason given."""
        first = one(state=state)
        message = await routed(first, two()).ainvoke("Q")
        assert told(message)["backend"] == "two"
        assert told(message)["reason"] == f"one: {state}"
        assert first.calls == []

    async def test_probes_run_at_once_and_the_order_decides(self) -> None:
        """The preferred one wins though the other is found up sooner."""
        first, second = one(probe_delay=0.05), two()
        assert told(await routed(first, second).ainvoke("Q"))["backend"] == "one"
        assert (first.probes, second.probes) == (1, 1)

    async def test_a_probe_is_shared_and_kept(self) -> None:
        """A hundred calls cost one probe; an answer is proof enough for the next ones."""
        clock, backend = FakeClock(), one(probe_delay=0.01)
        model = routed(backend, clock=clock)
        await asyncio.gather(*(model.ainvoke("Q") for _ in range(100)))
        clock.advance(3600)
        await model.ainvoke("Q")
        assert backend.probes == 1

    async def test_what_was_down_is_looked_at_again(self) -> None:
        """Five seconds later it may be up."""
        clock, first = FakeClock(), one(state="down")
        model = routed(first, two(), clock=clock)
        await model.ainvoke("Q")
        first.state = "up"
        assert told(await model.ainvoke("Q"))["backend"] == "two"
        clock.advance(6)
        assert told(await model.ainvoke("Q"))["backend"] == "one"

    async def test_nothing_configured_is_told_as_such(self) -> None:
        """That is not a failure of anybody."""
        with pytest.raises(NoBackend, match="one: not asked"):
            await routed(one(state="unconfigured")).ainvoke("Q")

    async def test_why_a_backend_is_not_asked_has_its_status(self) -> None:
        """A model that is not there is told as such, found by a probe or by a call before."""
        refused = BackendRefused("no", backend="one", status=400)
        for backend, status in ((one(state="model_missing"), 404), (one(refused), 400)):
            model = routed(backend)
            for _ in range(2):
                with pytest.raises(AllBackendsFailed) as failed:
                    await model.ainvoke("Q")
                assert [cause.status for cause in failed.value.causes] == [status]

    @pytest.mark.parametrize("again", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
    async def test_a_router_can_be_copied(self, again: Callable[[Any], Any]) -> None:
        """As graphs and agents that hold one are; a copy learns for itself."""
        first = HuggingFaceBackend("openai/gpt-oss-20b", None, "http://127.0.0.1:9")
        model = RoutedChatModel([first, OllamaBackend("qwen3:8b", "http://127.0.0.1:9")])
        copied = again(model)
        assert copied.policy == model.policy
        with pytest.raises(AllBackendsFailed):
            await copied.ainvoke("Q")
        assert model._standings[0].known() is None

    async def test_availability_shows_all_in_order(self) -> None:
        """What doctor shows: states, and who is benched for how long."""
        model = routed(one(BackendRefused("no", backend="one")), two(state="down"), three := one())
        await model.ainvoke("Q")
        found = await model.availability()
        assert [each.state for each in found] == ["down", "down", "up"]
        assert found[0].detail == "benched for 300 s after BackendRefused (no)"
        assert model.policy == "one:scripted > two:scripted > one:scripted"
        assert len(three.calls) == 1


class TestFailover:
    async def test_the_next_one_answers_and_all_is_recorded(self) -> None:
        """Once more on the same, then the next; the caller sees only the answer."""
        first, second = one(down()), two()
        message = await routed(first, second).ainvoke("Q")
        assert outcomes(told(message)["attempts"]) == [
            ("one", "BackendUnavailable"),
            ("one", "BackendUnavailable"),
            ("two", "ok"),
        ]
        assert told(message)["reason"].startswith("one: failed with BackendUnavailable (")

    async def test_a_second_try_may_do(self) -> None:
        """A hiccup is answered by the same backend."""
        message = await routed(one(down(), "from one"), two()).ainvoke("Q")
        assert told(message)["reason"] == "asked again after BackendUnavailable"

    async def test_a_slow_failure_is_no_reason_for_a_second_try(self) -> None:
        """Who let us wait is asked again only when nobody else is left."""
        clock = FakeClock()

        class Slow(ScriptedBackend):
            def _next_reply(self) -> Reply:
                clock.advance(5)
                return super()._next_reply()

        first, second = Slow("one", [down(), "at last"]), two(down("two"))
        message = await routed(first, second, clock=clock).ainvoke("Q")
        assert outcomes(told(message)["attempts"]) == [
            ("one", "BackendUnavailable"),
            ("two", "BackendUnavailable"),
            ("two", "BackendUnavailable"),
            ("one", "ok"),
        ]

    async def test_when_all_fail_every_cause_is_told(self) -> None:
        """Causes in order, attempts attached, and both survive pickling."""
        refused = BackendRefused("no credit", backend="one", status=402)
        with pytest.raises(AllBackendsFailed) as failed:
            await routed(one(refused), two(state="down")).ainvoke("Q")
        copy = pickle.loads(pickle.dumps(failed.value))
        for error in (failed.value, copy):
            assert [str(cause) for cause in error.causes] == ["no credit", "not asked: down"]
            assert outcomes(error.attempts) == [("one", "BackendRefused")]

    async def test_a_wrong_request_is_wrong_everywhere(self) -> None:
        """It is raised at once, with its attempts."""
        second = two()
        with pytest.raises(RequestRefused) as refused:
            await routed(one(RequestRefused("too long", backend="one")), second).ainvoke("Q")
        assert outcomes(refused.value.attempts) == [("one", "RequestRefused")]
        assert second.calls == []

    async def test_the_built_in_is_a_last_resort_that_is_never_benched(self) -> None:
        """What it refuses once it may answer next time, and what it answers is labelled."""
        refusal = BackendRefused("no typed request", backend="extractive")
        builtin = ScriptedBackend("extractive", [refusal, "a span"], degraded=True)
        model = routed(one(state="down"), builtin)
        with pytest.raises(AllBackendsFailed, match="no typed request"):
            await model.ainvoke("Q")
        assert told(await model.ainvoke("Q"))["degraded"] is True

    async def test_what_a_failing_built_in_has_shown_is_void(self) -> None:
        """No text of its own stays before that of the one who answers."""
        cut = Reply("wrong", error=InvalidResponse("cut", backend="extractive"))
        cut.error_after = 1
        builtin = ScriptedBackend("extractive", [cut], degraded=True)
        chunks = [chunk async for chunk in routed(builtin, two("right")).astream("Q")]
        news = [chunk.response_metadata.get("attempt_restarted") for chunk in chunks]
        assert [each for each in news if each] == [
            {"from": "extractive:scripted", "to": "two:scripted", "why": "cut"}
        ]
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole = whole + chunk
        assert whole.text == "right "

    async def test_retries_do_not_amplify_an_outage(self) -> None:
        """Over a full outage the calls to a backend stay near one per request, then stop."""
        backend = one(down())
        model = routed(backend)
        for _ in range(50):
            with pytest.raises(AllBackendsFailed):
                await model.ainvoke("Q")
        assert len(backend.calls) == 5


class TestBench:
    async def test_busy_means_the_next_one_and_a_timer(self) -> None:
        """429 is no failure: the next backend answers until Retry-After has passed."""
        clock = FakeClock()
        busy = BackendBusy("slow down", backend="one", retry_after=20)
        first = one(busy, "from one")
        model = routed(first, two(), clock=clock)
        assert told(await model.ainvoke("Q"))["backend"] == "two"
        message = await model.ainvoke("Q")
        assert told(message)["reason"] == "one: benched for 20 s after BackendBusy (slow down)"
        clock.advance(21)
        assert told(await model.ainvoke("Q"))["backend"] == "one"
        assert clock.slept == []

    async def test_a_success_from_before_does_not_end_a_pause(self) -> None:
        """A long answer that ends well takes nothing back of a later Retry-After."""
        clock = FakeClock()
        first = one(Reply("a b", token_delay=0.01), BackendBusy("later", backend="one"))
        model = routed(first, two(), clock=clock)
        early = asyncio.ensure_future(model.ainvoke("Q"))
        while not first.calls:  # noqa: ASYNC110 # nothing tells of a call that began
            await asyncio.sleep(0)
        await model.ainvoke("Q")
        assert told(await early)["backend"] == "one"
        assert told(await model.ainvoke("Q"))["backend"] == "two"
        assert len(first.calls) == 2

    async def test_who_waited_and_is_sent_away_again_spends_retries(self) -> None:
        """Asked to come back every second, a call with all the time does not go on for ever."""
        busy = BackendBusy("later", backend="one", retry_after=1)
        backend = one(busy)
        with pytest.raises(AllBackendsFailed):
            await routed(backend).ainvoke("Q", deadline=300)
        assert len(backend.calls) == 11

    async def test_a_probe_that_fails_during_an_answer_is_not_believed(self) -> None:
        """Or the backend would be taken for down for ever: an answer needs no second look."""
        backend = one(probe_delay=0.05, state="down")
        standing = Standing(backend, FakeClock())
        ticket = standing.admit()
        assert ticket is not None
        async with asyncio.TaskGroup() as group:
            probe = group.create_task(standing.availability())
            await asyncio.sleep(0.01)
            standing.succeeded(ticket)
        assert probe.result().up
        known = standing.known()
        assert known is not None
        assert known.up

    async def test_a_wrong_request_costs_the_next_caller_no_probe(self) -> None:
        clock, backend = FakeClock(), one(RequestRefused("too long", backend="one"), "well")
        model = routed(backend, clock=clock)
        with pytest.raises(RequestRefused):
            await model.ainvoke("Q")
        await model.ainvoke("Q")
        assert backend.probes == 1

    async def test_a_deadline_too_short_for_an_answer_blames_nobody(self) -> None:
        """Five impatient callers do not bench a backend for the patient ones."""
        backend = one(delay=3600)
        model = RoutedChatModel([backend])
        for _ in range(6):
            with pytest.raises(AllBackendsFailed):
                await model.ainvoke("Q", deadline=0.02)
        backend.delay = 0.0
        assert (await model.ainvoke("Q")).text.strip() == "from one"

    async def test_a_short_wait_is_waited_when_nobody_else_is_up(self) -> None:
        """Without a deadline up to ten seconds, no longer."""
        clock = FakeClock()
        busy = BackendBusy("slow down", backend="one", retry_after=4)
        message = await routed(one(busy, "from one"), clock=clock).ainvoke("Q")
        assert message.text.strip() == "from one"
        assert clock.slept == [4]
        longer = BackendBusy("slow down", backend="one", retry_after=40)
        with pytest.raises(AllBackendsFailed):
            await routed(one(longer, "from one"), clock=clock).ainvoke("Q")

    async def test_a_wait_is_told_of_once(self, caplog: pytest.LogCaptureFixture) -> None:
        """Or nothing would be seen in a shell, for as long as the deadline allows."""
        clock, backend = FakeClock(), one("well", down())
        model = routed(backend, clock=clock)
        await model.ainvoke("Q")
        with pytest.raises(AllBackendsFailed):
            await model.ainvoke("Q", deadline=60)
        assert not caplog.messages
        backend.state = "down"
        with pytest.raises(AllBackendsFailed):
            await model.ainvoke("Q", deadline=60)
        assert caplog.messages == ["waiting up to 60 s for one:scripted"]

    async def test_with_a_deadline_it_waits_as_long_as_that_allows(self) -> None:
        """A benched backend is better than none, if it comes back in time."""
        clock = FakeClock()
        busy = BackendBusy("loading", backend="one", retry_after=40)
        model = routed(one(busy, "from one"), clock=clock)
        assert (await model.ainvoke("Q", deadline=60)).text.strip() == "from one"
        with pytest.raises(AllBackendsFailed):
            await routed(one(busy), clock=clock).ainvoke("Q", deadline=30)

    async def test_what_the_pause_of_a_breaker_leaves_is_told_as_a_time_to_come_back(self) -> None:
        clock = FakeClock()
        model = routed(one(down()), clock=clock)
        for _ in range(3):
            with pytest.raises(AllBackendsFailed):
                await model.ainvoke("Q")
        clock.advance(10)
        with pytest.raises(AllBackendsFailed) as failed:
            await model.ainvoke("Q")
        (cause,) = failed.value.causes
        assert type(cause) is BackendUnavailable
        assert cause.retry_after == pytest.approx(20, abs=1)

    async def test_a_wrong_key_is_not_tried_again_for_long(self) -> None:
        """401 benches for five minutes."""
        clock, first = FakeClock(), one(BackendRefused("401", backend="one"), "from one")
        model = routed(first, two(), clock=clock)
        for _ in range(3):
            await model.ainvoke("Q")
            clock.advance(90)
        assert len(first.calls) == 1
        clock.advance(60)
        assert told(await model.ainvoke("Q"))["backend"] == "one"

    @pytest.mark.promise("one-probe")
    async def test_a_broken_backend_gets_one_trial_whatever_the_crowd(self) -> None:
        """Of a hundred callers at once exactly one tries it; the others are answered."""
        clock = FakeClock()
        first = Held("one", [*[down()] * 5, "from one"])
        first.gate = asyncio.Event()
        model = routed(first, two(), clock=clock)
        while len(first.calls) < 5:
            await model.ainvoke("Q")
        assert "benched" in told(await model.ainvoke("Q"))["reason"]
        clock.advance(31)
        asking = [asyncio.ensure_future(model.ainvoke("Q")) for _ in range(100)]
        async with asyncio.timeout(30):  # the trial is out until all others have their answer
            for _, answer in zip(range(99), asyncio.as_completed(asking), strict=False):
                await answer
        first.gate.set()
        messages = await asyncio.gather(*asking)
        assert len(first.calls) == 6
        names = [told(message)["backend"] for message in messages]
        assert (names.count("one"), names.count("two")) == (1, 99)
        assert told(await model.ainvoke("Q"))["backend"] == "one"

    async def test_a_cancelled_trial_makes_room_and_cancellation_counts_for_nothing(self) -> None:
        """Whoever gives up tells nothing of the backend."""
        clock = FakeClock()
        hanging = Reply("late", token_delay=3600)
        first = one(*[down()] * 5, hanging, "from one")
        model = routed(first, two(), clock=clock)
        while len(first.calls) < 5:
            await model.ainvoke("Q")
        clock.advance(31)
        trial = asyncio.ensure_future(model.ainvoke("Q"))
        while len(first.calls) < 6:  # noqa: ASYNC110 # nothing tells of a call that began
            await asyncio.sleep(0)
        trial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trial
        assert first.calls[-1].ended == "CancelledError"
        assert told(await model.ainvoke("Q"))["backend"] == "one"

    async def test_a_hundred_cancellations_open_no_breaker(self) -> None:
        """Nor do readers who leave in the middle."""
        backend = one(Reply("word " * 50, token_delay=0.01))
        model = routed(backend)
        for _ in range(20):
            stream = model.astream("Q")
            await anext(stream)
            await stream.aclose()  # type: ignore[attr-defined]  # LangChain types it too narrowly
        async with asyncio.timeout(30):  # it leaves the closing of its inner stream to the loop
            while not all(call.ended for call in backend.calls):  # noqa: ASYNC110 # nothing tells
                await asyncio.sleep(0)
        assert [each.state for each in await model.availability()] == ["up"]
        assert {call.ended for call in backend.calls} == {"GeneratorExit"}


class TestLimits:
    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"delay": 30}, "for the first token"),
            ({"replies": (Reply("a b", token_delay=1),)}, "between two tokens"),
        ],
    )
    def test_silence_ends_an_attempt(self, fields: dict[str, Any], words: str) -> None:
        """Waiting for the first token, or for the next one, has an end."""

        async def main() -> AIMessage:
            limits = CallLimits(first_token=0.1 if "delay" in fields else 30, idle=0.1)
            silent = ScriptedBackend("one", limits=limits, **fields)
            model = RoutedChatModel([silent, two()], clock=asyncio.get_running_loop().time)
            return await model.ainvoke("Q")

        message = run_virtually(main())
        assert told(message)["backend"] == "two"
        assert words in told(message)["attempts"][0]["detail"]

    def test_a_deadline_ends_the_call(self) -> None:
        """Nothing goes on after it."""

        async def main() -> float:
            loop = asyncio.get_running_loop()
            with pytest.raises(AllBackendsFailed):
                await RoutedChatModel([one(delay=30)], clock=loop.time).ainvoke("Q", deadline=0.1)
            return loop.time()

        assert run_virtually(main()) == pytest.approx(0.1)

    async def test_comments_are_no_tokens(self, provider: LoopbackProvider) -> None:
        """A server that only keeps the connection alive is silent."""
        provider.huggingface.answer("one two three")
        provider.huggingface.fault = Fault("endless_comments", after=1)
        limits = CallLimits(first_token=0.3, idle=0.3)
        backend = HuggingFaceBackend("openai/gpt-oss-20b", "hf_x", provider.huggingface_url)
        backend.limits = limits
        assert told(await RoutedChatModel([backend, two()]).ainvoke("Q"))["backend"] == "two"


class TestStreams:
    async def test_before_the_first_token_nothing_is_seen(self) -> None:
        """A failure without text is silent."""
        model = routed(one(down()), two("a b c"))
        chunks = [chunk async for chunk in model.astream("Q")]
        assert [chunk.text for chunk in chunks] == ["a ", "b ", "c ", ""]
        assert all(type(chunk) is RoutedMessageChunk for chunk in chunks)

    async def test_after_it_the_restart_is_announced_and_texts_are_never_joined(self) -> None:
        """However chunks are added up, only the last attempt's text is left."""
        broken = Reply("wrong wrong wrong", error=InvalidResponse("cut", backend="one"))
        broken.error_after = 2
        model = routed(one(broken), two("right answer"))
        chunks = [chunk async for chunk in model.astream("Q")]
        texts = [chunk.text for chunk in chunks]
        assert texts == ["wrong ", "wrong ", "", "wrong ", "wrong ", "", "right ", "answer ", ""]
        restarts = [chunk.response_metadata.get("attempt_restarted") for chunk in chunks]
        assert restarts[5] == {"from": "one:scripted", "to": "two:scripted", "why": "cut"}
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole = whole + chunk
        assert whole.text == "right answer "
        assert (chunks[0] + chunks[1:]).text == "right answer "
        assert told(whole)["backend"] == "two"

    async def test_invoke_gives_a_message_of_one_attempt(self) -> None:
        """Gathered by LangChain itself, with and without a streaming reader."""
        broken = Reply("wrong wrong", error=down(), error_after=1)
        model = routed(one(broken), two("right answer"))
        for message in (await model.ainvoke("Q"), await model.ainvoke("Q", stream=True)):
            assert type(message) is AIMessage
            assert message.text == "right answer "

    async def test_events_that_cannot_be_taken_back_raise_instead(self) -> None:
        """LangChain's event protocol has no restart: there a broken stream is an error."""
        broken = Reply("wrong wrong", error=down(), error_after=1)
        model = routed(one(broken), two("right answer"))
        with pytest.warns(match="in beta"):
            stream = await model.astream_events("Q", version="v3")
        with pytest.raises(BackendUnavailable):
            [event async for event in stream]

    async def test_langgraph_shows_each_token_once(self, provider: LoopbackProvider) -> None:
        """The clients below the router are silent in `stream_mode="messages"`."""

        class State(TypedDict):
            messages: Annotated[list[Any], add_messages]

        backends = real(provider)

        async def answer(state: State, config: RunnableConfig) -> dict[str, Any]:
            return {
                "messages": [await RoutedChatModel(backends).ainvoke(state["messages"], config)]
            }

        graph = StateGraph(State).add_node("answer", answer).add_edge(START, "answer").compile()
        for side in (provider.huggingface, provider.ollama):
            side.answer("one two three")
            asked: Any = {"messages": [HumanMessage("Q")]}
            stream: Any = graph.astream(asked, stream_mode="messages")
            texts = [message.text async for message, _ in stream]
            assert "".join(texts) == "one two three"
            provider.huggingface.stop()

    def test_the_synchronous_doors_are_the_same(self) -> None:
        """invoke and stream give what ainvoke and astream give."""
        broken = Reply("wrong wrong", error=down(), error_after=1)
        model = RoutedChatModel([one(broken), two("right answer")])
        assert model.invoke("Q").text == "right answer "
        texts = [chunk.text for chunk in model.stream("Q")]
        assert texts[-3:] == ["right ", "answer ", ""]
        with pytest.raises(AllBackendsFailed):
            RoutedChatModel([one(down())]).invoke("Q")


def real(provider: LoopbackProvider, *, reverse: bool = False) -> list[Backend]:
    backends: list[Backend] = [
        HuggingFaceBackend("openai/gpt-oss-20b", "hf_x", provider.huggingface_url),
        OllamaBackend("qwen3:8b", provider.ollama_url),
    ]
    return backends[::-1] if reverse else backends


FAULTS = [
    Fault("status", status=503),
    Fault("status", status=429, headers={"retry-after": "60"}),
    Fault("bad_token"),
    Fault("reset"),
    Fault("error_body"),
    Fault("stream_reset", after=5),
    Fault("stream_end", after=5),
    Fault("error_event", after=5),
]


class TestRealClients:
    @pytest.mark.parametrize("reverse", [False, True], ids=["hf-dies", "ollama-dies"])
    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.status}")
    async def test_each_takes_over_from_the_other(
        self, provider: LoopbackProvider, fault: Fault, reverse: bool
    ) -> None:
        """Whatever happens to the first, the answer is the other's, whole and alone."""
        sides = [provider.huggingface, provider.ollama]
        dying, other = sides[::-1] if reverse else sides
        dying.answer("w1 w2 w3 w4 w5 w6 w7")
        dying.fault = fault
        other.answer("The right answer.")
        model = RoutedChatModel(real(provider, reverse=reverse))
        whole: AIMessageChunk | None = None
        async for chunk in model.astream("Q"):
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        assert whole.text == "The right answer."
        assert told(whole)["backend"] == other.name
        assert len(dying.chats) == len(told(whole)["attempts"]) - 1 <= 2
        assert (await model.ainvoke("Q")).text == "The right answer."

    async def test_a_dead_server_is_skipped_without_an_attempt(
        self, provider: LoopbackProvider
    ) -> None:
        """The probe finds it."""
        provider.huggingface.stop()
        provider.ollama.answer("The right answer.")
        message = await RoutedChatModel(real(provider)).ainvoke("Q")
        assert outcomes(told(message)["attempts"]) == [("ollama", "ok")]
        assert "cannot connect" in told(message)["reason"]

    def test_two_event_loops_in_a_row(self, provider: LoopbackProvider) -> None:
        """One model, two asyncio.run(), and the background loop besides."""
        provider.huggingface.answer("yes")
        model = RoutedChatModel(real(provider))
        for _ in range(2):
            assert asyncio.run(model.ainvoke("Q")).text == "yes"
        assert model.invoke("Q").text == "yes"

    def test_nothing_is_left_open(self, provider: LoopbackProvider) -> None:
        """No task and no connection outlives its event loop."""
        provider.huggingface.answer(Served("word " * 50, token_delay=0.002))

        async def use() -> int:
            model = RoutedChatModel(real(provider))
            await asyncio.gather(*(model.ainvoke("Q") for _ in range(5)))
            stream = model.astream("Q")
            await anext(stream)
            await stream.aclose()  # type: ignore[attr-defined]  # LangChain types it too narrowly
            async with asyncio.timeout(30):  # LangChain leaves its inner stream to the loop
                while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 # nothing tells of their end
                    await asyncio.sleep(0.005)
            return len(asyncio.all_tasks())

        assert asyncio.run(use()) == 1
        gc.collect()
        ends = time.monotonic() + 30  # the server notices a moment later
        while provider.huggingface.connections and time.monotonic() < ends:
            time.sleep(0.005)
        assert provider.huggingface.connections == 0

    async def test_an_attempt_names_the_server(self, provider: LoopbackProvider) -> None:
        """With its port, and without a password."""
        provider.ollama.answer("yes")
        url = provider.ollama_url
        (attempt,) = told(await RoutedChatModel([OllamaBackend("qwen3:8b", url)]).ainvoke("Q"))[
            "attempts"
        ]
        assert attempt["server"] == url.removeprefix("http://")
        backends = [
            HuggingFaceBackend("m", "hf_x"),
            HuggingFaceBackend("m", "hf_x", "http://me:password@h/v1"),
            OllamaBackend("m", "http://[::1]:11434"),
            one(),
        ]
        servers = [backend.server for backend in backends]
        assert servers == ["router.huggingface.co:443", "h:80", "::1:11434", ""]

    async def test_connections_can_be_closed_at_once(self, provider: LoopbackProvider) -> None:
        """And are opened again by the next call."""
        provider.huggingface.answer("yes")
        model = RoutedChatModel(real(provider))
        await model.ainvoke("Q")
        await aclose_all()
        async with asyncio.timeout(30):
            while provider.huggingface.connections:  # noqa: ASYNC110 # its loop is another
                await asyncio.sleep(0.01)
        assert (await model.ainvoke("Q")).text == "yes"


class River(BaseModel):
    """Where a river is."""

    name: str
    length_km: int


GOOD = '{"name": "Vltava", "length_km": 430}'


class TestStructured:
    @pytest.mark.parametrize(
        "reply",
        [
            GOOD,
            f"```json\n{GOOD}\n```",
            f"Sure! Here it is: {GOOD} Anything else?",
            f"<think>hm</think>{GOOD}",
        ],
    )
    async def test_the_form_is_read_tolerantly(self, reply: str) -> None:
        """Fences, prose and thinking around the object do not matter."""
        backend = one(reply)
        river = await routed(backend).with_structured_output(River).ainvoke("Which?")
        assert river == River(name="Vltava", length_km=430)
        schema = backend.calls[0].options.output_schema
        assert schema is not None
        assert schema["required"] == ["name", "length_km"]

    async def test_it_is_asked_for_once_more_with_the_error(self) -> None:
        """The second question says what was wrong with the first answer."""
        backend = one('{"name": "Vltava", "length_km": "long"}', GOOD)
        river = await routed(backend).with_structured_output(River).ainvoke("Which?")
        assert river == River(name="Vltava", length_km=430)
        assert "length_km" in str(backend.calls[1].messages[-1].content)

    async def test_twice_wrong_is_an_error(self) -> None:
        """Or is told beside the raw message, when that is asked for."""
        model = routed(one("no idea"))
        with pytest.raises(InvalidResponse):
            await model.with_structured_output(River).ainvoke("Which?")
        result: Any = await model.with_structured_output(River, include_raw=True).ainvoke("Which?")
        assert result["parsed"] is None
        assert isinstance(result["parsing_error"], InvalidResponse)
        assert result["raw"].text.strip() == "no idea"

    def test_it_works_synchronously_and_for_a_plain_schema(self) -> None:
        """A dict schema gives a dict."""
        model = RoutedChatModel([one(GOOD)])
        river = model.with_structured_output(River.model_json_schema()).invoke("Which?")
        assert river == {"name": "Vltava", "length_km": 430}

    async def test_a_typed_request_brings_its_schema(self) -> None:
        """And an OpenAI response_format is understood as well."""
        backend = one()
        model = routed(backend)
        asked = HumanMessage("plan", additional_kwargs={REQUEST_KEY: PlanRequest(question="Q")})
        await model.ainvoke([asked])
        response_format = {"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}
        await model.ainvoke("Q", response_format=response_format)
        await model.ainvoke("Q")
        schemas = [call.options.output_schema for call in backend.calls]
        assert schemas == [PLAN_SCHEMA, {"type": "array"}, None]


class TestArguments:
    async def test_tools_are_bound_in_openai_form(self, provider: LoopbackProvider) -> None:
        """A bound model calls tools through either backend."""

        def look(at: str) -> str:
            """Look at something."""
            return at

        for reverse, side in ((False, provider.huggingface), (True, provider.ollama)):
            side.answer(Served(tool_calls=[("look", {"at": "map"})]))
            model = RoutedChatModel(real(provider, reverse=reverse)).bind_tools([look])
            message = await model.ainvoke("Q")
            assert [(call["name"], call["args"]) for call in message.tool_calls] == [
                ("look", {"at": "map"})
            ]

    async def test_unknown_arguments_are_refused(self) -> None:
        """A misspelled one must not pass silently."""
        with pytest.raises(TypeError, match="temprature"):
            await routed(one()).ainvoke("Q", temprature=0)

    async def test_options_reach_the_backend(self) -> None:
        """Temperature, limits and stop words."""
        backend = one()
        await routed(backend).ainvoke("Q", temperature=0.0, max_tokens=5, stop=["END"])
        options = backend.calls[0].options
        assert (options.temperature, options.max_tokens, options.stop) == (0.0, 5, ("END",))


async def test_a_cancelled_probe_leaves_the_next_one_free() -> None:
    """Whoever waited for it probes in its place."""
    backend = one(probe_delay=0.05)
    standing = Standing(backend, FakeClock())

    async def impatient() -> None:
        async with asyncio.timeout(0.01):
            await standing.availability()

    async with asyncio.TaskGroup() as group:
        patient = group.create_task(_swallow(impatient))
        waiting = group.create_task(standing.availability())
    assert patient.result() is None
    assert waiting.result().up
    assert backend.probes == 2


async def _swallow(work: Callable[[], Any]) -> None:
    with pytest.raises(TimeoutError):
        await work()


async def test_chunks_are_stored_as_plain_ones() -> None:
    """To LangChain's own serializer a routed chunk is an ordinary chunk."""
    assert RoutedMessageChunk.lc_id() == AIMessageChunk.lc_id()
