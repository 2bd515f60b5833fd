"""Budgets of whole runs, measured where the calls arrive: at the provider."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.outputs import ChatGenerationChunk

from hoptrail import Budget, Hoptrail, attempts, load_settings
from hoptrail.admission import open_run
from hoptrail.budget import LEAST_OUTPUT_TOKENS, MOST_OUTPUT_TOKENS
from hoptrail.errors import BudgetExceeded
from hoptrail.expense import cost_of
from hoptrail.journal import Journal
from hoptrail.parts import Parts
from hoptrail.request import SynthesisRequest
from hoptrail.run import Run
from hoptrail.testing import Asked, ScriptedChatModel, script, step_reply
from hoptrail.trace import Call, Trace
from tests.in_step import cut_once_read
from tests.providers import ChatRequest, Fault, LoopbackProvider, Reply
from tests.two_hops import kind_of

pytestmark = [pytest.mark.anyio, pytest.mark.promise("budgets-hold")]

MANY = 50
DENSE = "東京🏯は日本の首都である。 {x:[0x1F,~]} " * 12
"""A passage of which many tokenizers make far more tokens than a quarter of its characters."""


def steps_of(question: str) -> list[str]:
    return [f"What is fact {number} of {question}?" for number in range(MANY)]


def answered(request: ChatRequest) -> Reply:
    """Answer a question that takes fifty look-ups at once."""
    match kind_of(request):
        case "plan":
            question = request.question.rpartition("Question: ")[2]
            return Reply(json.dumps({"steps": steps_of(question)}))
        case "synthesis":
            return Reply("all of them\n\nThey were found.")
        case _:
            return Reply(step_reply("found", ()))


def greedy(request: ChatRequest) -> Reply:
    """Answer as the model would that takes all it may: a token for each byte, and to its limit."""
    most = request.options["num_predict"]
    read = sum(len(message["content"].encode()) for message in request.messages)
    return Reply(answered(request).text, input_tokens=read, output_tokens=most)


def spent_at(provider: LoopbackProvider, respond: Callable[[ChatRequest], Reply]) -> int:
    replies = [respond(chat) for chat in provider.ollama.chats if chat.finished]
    return sum((each.input_tokens or 0) + (each.output_tokens or 0) for each in replies)


@asynccontextmanager
async def a_trail(provider: LoopbackProvider, **flags: Any) -> AsyncIterator[Hoptrail]:
    given = {
        "ollama_host": provider.ollama_url,
        "huggingface_base_url": provider.huggingface_url,
        "token": "hf_x",
        "backends": "ollama",
        "embedders": "hash",
        "concurrency": MANY,
        "max_steps": MANY,
    }
    trail = Hoptrail(settings=load_settings(**(given | flags)))
    try:
        yield trail
    finally:
        trail.close()


async def test_fifty_steps_at_once_make_ten_calls_of_ten(provider: LoopbackProvider) -> None:
    provider.ollama.respond = answered
    async with a_trail(provider, max_llm_calls=10) as trail:
        answer = await trail.aask("Q")
    assert len(provider.ollama.chats) == 10
    assert kind_of(provider.ollama.chats[-1]) == "synthesis"
    assert answer.trace.usage.llm_calls == 10
    assert answer.trace.stop_reason == "budget:llm_calls"
    assert sum(step.status == "answered" for step in answer.trace.steps) == 8


async def test_calls_that_break_off_count(provider: LoopbackProvider) -> None:
    """What is asked again may have been worked on twice."""
    provider.ollama.respond = provider.huggingface.respond = answered
    broken = [Fault("stream_reset", after=2), Fault("stream_end"), None, Fault("reset")]
    provider.ollama.faults.extend([None, *broken * MANY])
    async with a_trail(provider, backends="ollama,huggingface", max_llm_calls=10) as trail:
        answer = await trail.aask("Q")
    assert len(provider.ollama.chats) + len(provider.huggingface.chats) <= 10
    assert answer.trace.usage.llm_calls <= 10


@pytest.mark.parametrize("cap", [4_000, 12_000, 60_000])
async def test_no_token_is_spent_beyond_the_cap(provider: LoopbackProvider, cap: int) -> None:
    provider.ollama.respond = greedy
    async with a_trail(provider, max_tokens=cap, max_llm_calls=200) as trail:
        answer = await trail.aask("Q")
    spent, usage = spent_at(provider, greedy), answer.trace.usage
    assert spent == usage.input_tokens + usage.output_tokens <= cap
    assert answer.trace.stop_reason == "budget:tokens"
    limits = [chat.options["num_predict"] for chat in provider.ollama.chats]
    assert LEAST_OUTPUT_TOKENS <= min(limits) <= max(limits) <= MOST_OUTPUT_TOKENS


async def test_dense_text_is_counted_by_its_bytes(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    """Chinese, emoji and code take more than a token for four characters."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(MANY):
        (folder / f"{number}.md").write_text(f"# fact {number}\n{DENSE}", encoding="utf-8")
    provider.ollama.respond = greedy
    flags = {"docs": str(folder), "max_tokens": 40_000, "max_llm_calls": 200}
    async with a_trail(provider, **flags) as trail:
        answer = await trail.aask("Q")
    assert any("首都" in chat.prompt for chat in provider.ollama.chats)
    assert spent_at(provider, greedy) <= 40_000
    assert answer.trace.stop_reason == "budget:tokens"


async def test_fifty_runs_at_once_each_keep_to_their_own(provider: LoopbackProvider) -> None:
    provider.ollama.respond = greedy
    flags = {"max_steps": 4, "max_llm_calls": 5, "max_tokens": 20_000}
    async with a_trail(provider, **flags) as trail:
        asked = [trail.aask(f"Q{number:02}") for number in range(MANY)]
        traces = [answer.trace for answer in await asyncio.gather(*asked)]
    assert all(each.usage.llm_calls <= 5 and len(each.steps) <= 4 for each in traces)
    usages = [each.usage.input_tokens + each.usage.output_tokens for each in traces]
    assert max(usages) <= 20_000
    assert sum(usages) == spent_at(provider, greedy)
    assert sum(each.usage.llm_calls for each in traces) == len(provider.ollama.chats)


async def test_without_a_cap_nothing_limits_what_is_written(provider: LoopbackProvider) -> None:
    provider.ollama.respond = answered
    async with a_trail(provider, max_llm_calls=5) as trail:
        await trail.aask("Q")
    assert not any("num_predict" in chat.options for chat in provider.ollama.chats)


async def test_steps_never_exceed_their_limit(provider: LoopbackProvider) -> None:
    provider.ollama.respond = answered
    async with a_trail(provider, max_steps=3, max_llm_calls=100) as trail:
        planned = await trail.aask("Q")
        one_by_one = await trail.aask("Q", graph="iterative")
    for trace in (planned.trace, one_by_one.trace):
        assert len(trace.steps) <= 3


# What a failure costs


async def failing(provider: LoopbackProvider, fault: Fault) -> Trace:
    """Give the trace of a question whose second call fails at Ollama; Hugging Face goes on."""
    provider.ollama.respond = provider.huggingface.respond = answered
    provider.ollama.faults.extend([None, fault, *[fault] * 5])
    async with a_trail(provider, backends="ollama,huggingface", max_steps=1) as trail:
        return (await trail.aask("Q")).trace


@pytest.mark.parametrize(
    "fault", [Fault("stream_reset", after=4), Fault("stream_end", after=4), Fault("bad_line")]
)
async def test_an_attempt_that_broke_off_is_paid(
    provider: LoopbackProvider, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault.after:
        reader, shows = cut_once_read(monkeypatch, fault.kind), attempts.Turn._shows

        def noting(turn: attempts.Turn, chunk: ChatGenerationChunk) -> bool:
            shown = shows(turn, chunk)
            reader.has_read()
            return shown

        monkeypatch.setattr(attempts.Turn, "_shows", noting)
    trace = await failing(provider, fault)
    (call,) = trace.steps[0].calls
    *broken, last = call.attempts
    assert last.outcome == "ok"
    assert all(each.input_tokens > 100 for each in broken)
    assert {each.output_tokens > 0 for each in broken} == {fault.after > 0}
    costs = [cost_of(each) for each in trace.calls()]
    usage = trace.usage
    assert (usage.llm_calls, usage.input_tokens, usage.output_tokens) == tuple(
        map(sum, zip(*costs, strict=True))
    )
    assert usage.llm_calls > len(costs)


async def test_an_attempt_that_was_refused_costs_nothing(provider: LoopbackProvider) -> None:
    trace = await failing(provider, Fault("rate_limit"))
    assert trace.steps[0].calls[0].attempts[0].outcome == "BackendBusy"
    assert trace.usage.llm_calls == len(list(trace.calls()))
    assert trace.usage.input_tokens == sum(each.input_tokens for each in trace.calls())


async def test_an_attempt_that_reached_nobody_costs_nothing(provider: LoopbackProvider) -> None:
    provider.huggingface.respond = answered
    async with a_trail(provider, backends="ollama,huggingface", max_steps=1) as trail:
        provider.ollama.respond = answered
        await trail.assembly.router.availability()
        provider.ollama.stop()
        trace = (await trail.aask("Q")).trace
    assert trace.plan.calls[0].attempts[0].outcome == "BackendUnavailable"
    assert trace.usage.llm_calls == len(list(trace.calls()))
    assert trace.usage.input_tokens == sum(each.input_tokens for each in trace.calls())


async def test_another_attempt_needs_what_is_left_for_it(provider: LoopbackProvider) -> None:
    """The first took the only call there was; the second is not made, and it says why."""
    provider.ollama.respond = provider.huggingface.respond = answered
    provider.ollama.fault = Fault("stream_end", after=1)
    async with a_trail(provider, backends="ollama,huggingface", max_llm_calls=1) as trail:
        with pytest.raises(BudgetExceeded, match="LLM calls"):
            await trail.aask("Q")
    assert len(provider.ollama.chats) + len(provider.huggingface.chats) == 1


async def test_the_built_in_reader_needs_nothing_of_what_is_left(
    provider: LoopbackProvider,
) -> None:
    provider.ollama.fault = Fault("stream_end", after=1)
    async with a_trail(provider, backends="ollama,extractive", max_llm_calls=2) as trail:
        answer = await trail.aask("Who wrote The Trial?")
    assert answer.trace.degraded
    assert answer.trace.usage.llm_calls == 2
    assert len(provider.ollama.chats) == 2


async def test_what_is_not_told_is_estimated_and_said_to_be(tmp_path: Path) -> None:
    model = ScriptedChatModel(respond=script(["a?"], {"a?": "東" * 100}))
    trail = Hoptrail(model=model, settings=load_settings())
    try:
        trace = (await trail.aask("Q")).trace
    finally:
        trail.close()
    assert all(call.tokens_estimated and call.input_tokens > 0 for call in trace.calls())
    assert trace.steps[0].calls[0].output_tokens >= 100


# What is left of a call that does not end


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()


async def a_run(journal: Journal, model: ScriptedChatModel, **parts: Any) -> Run:
    budget = Budget(max_tokens=100_000)
    given: dict[str, Any] = {"policy": "scripted", "budget": budget} | parts
    return await open_run(Parts(model=model, journal=journal, **given), "r1", "Q", lambda _: None)


@dataclass
class Forever:
    """A model's wait that tells when it has begun, and does not end."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, asked: Asked) -> None:
        self.begun.set()
        await asyncio.sleep(3600)


QUESTION = SynthesisRequest(question="Q", steps=())


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_is_cancelled_holds_nothing(journal: Journal, stream: bool) -> None:
    forever = Forever()
    run = await a_run(journal, ScriptedChatModel(respond=script(), wait=forever))
    calls: list[Call] = []

    async def ask() -> None:
        if stream:
            async for _ in run.stream("synthesis", QUESTION, calls):
                pass
        else:
            await run.ask("synthesis", QUESTION, calls)

    task = asyncio.ensure_future(ask())
    await forever.begun.wait()
    assert run.ledger.reserved_tokens > MOST_OUTPUT_TOKENS
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert run.ledger.reserved_tokens == 0
    assert run.ledger.input_tokens == calls[0].input_tokens > 100
    assert calls[0].tokens_estimated
    await run.stop(asyncio.CancelledError())


async def test_a_call_that_is_cancelled_in_the_queue_has_reserved_nothing(
    journal: Journal,
) -> None:
    forever = Forever()
    model = ScriptedChatModel(respond=script(), wait=forever)
    run = await a_run(journal, model, concurrency=1)
    calls: list[Call] = []
    tasks = [asyncio.ensure_future(run.ask("step", QUESTION, calls)) for _ in range(3)]
    await forever.begun.wait()
    before = run.ledger.reserved_tokens
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks[1:], return_exceptions=True)
    assert (run.ledger.reserved_tokens, run.ledger.llm_calls) == (before, 1)
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    model.wait = None
    assert await run.ask("step", QUESTION, calls)
    await run.stop(asyncio.CancelledError())


async def test_an_error_gives_back_what_was_reserved(journal: Journal) -> None:
    run = await a_run(journal, ScriptedChatModel(respond=script(synthesis=OSError("no"))))
    with pytest.raises(Exception, match="OSError: no"):
        await run.ask("synthesis", QUESTION, [])
    assert run.ledger.reserved_tokens == 0
    await run.stop(OSError("no"))


async def test_a_stream_that_is_left_early_is_paid_for_what_it_wrote(
    provider: LoopbackProvider,
) -> None:
    provider.ollama.respond = lambda _: Reply("word " * 200, token_delay=0.001)
    async with a_trail(provider, max_tokens=50_000) as trail:
        parts = trail.assembly.parts
        run = await open_run(parts, "r1", "Q", lambda _: None)
        stream = run.stream("synthesis", QUESTION, [])
        written = ""
        async for piece in stream:
            written += str(piece)
            if len(written) > 40:
                break
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
        assert run.ledger.reserved_tokens == 0
        assert run.ledger.llm_calls == 1
        assert run.ledger.output_tokens >= 10
        await run.stop(asyncio.CancelledError())


async def test_a_conversation_keeps_to_it_too(provider: LoopbackProvider) -> None:
    provider.ollama.respond = greedy
    async with a_trail(provider, max_tokens=3_000) as trail:
        answer = await trail.achat("hello", history=[HumanMessage("x" * 400)], user=None)
        usage = answer.trace.usage
        assert usage.input_tokens + usage.output_tokens == spent_at(provider, greedy) <= 3_000
        with pytest.raises(BudgetExceeded, match="tokens"):
            await trail.achat("y" * 3_000, user=None)
    assert len(provider.ollama.chats) == 1
