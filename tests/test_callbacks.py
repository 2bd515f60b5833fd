"""LangChain's callbacks see a run whole: who traces with LangSmith, or their own, loses nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.load import dumps
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.context import register_configure_hook
from langchain_core.tracers.schemas import Run
from langsmith import Client

from hoptrail import Hoptrail, load_settings
from hoptrail.background import background
from hoptrail.connections import aclose_all
from hoptrail.events import StepStarted
from tests import two_hops
from tests.moments import LONG
from tests.providers import ChatRequest, Fault, LoopbackProvider, Reply
from tests.test_server_clients import wait_for

pytestmark = pytest.mark.anyio

NODES = ["decompose", "solve", "synthesize"]


class InMemory(BaseTracer):
    """A tracer that keeps each tree of runs when its root ends."""

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.roots.append(run)


ambient: ContextVar[InMemory | None] = ContextVar("ambient", default=None)
# As LangSmith's own tracer gets into each run when LANGSMITH_TRACING is set.
register_configure_hook(ambient, inheritable=True)


def respond(request: ChatRequest) -> Reply:
    """Answer two hops, and one message of a conversation."""
    is_said = request.schema is None and "Findings:" not in request.question
    return Reply("Franz Kafka.") if is_said else two_hops.respond(request)


@pytest.fixture
def trail(provider: LoopbackProvider, tmp_path: Path) -> Iterator[Hoptrail]:
    two_hops.serve(provider)
    provider.huggingface.answer(respond)
    trail = Hoptrail(
        docs=two_hops.write_documents(tmp_path / "docs"),
        settings=load_settings(
            **{
                "ollama_host": provider.ollama_url,
                "huggingface_base_url": provider.huggingface_url,
            },
            token="hf_test",
            backends="huggingface,ollama",
            embedders="hash",
        ),
    )
    yield trail
    trail.close()
    # The synchronous doors' loop outlives the test, and its idle connections with it.
    background().run(aclose_all())


async def ask(trail: Hoptrail, how: str, *callbacks: BaseCallbackHandler) -> None:
    """Run the multi-hop graph in one of the ways there are."""
    config: RunnableConfig = {"callbacks": list(callbacks)}
    given = {"question": two_hops.QUESTION}
    match how:
        case "ainvoke":
            await trail.graph.ainvoke(given, config)
        case "invoke":
            await asyncio.to_thread(trail.graph.invoke, given, config)
        case "astream":
            async for _ in trail.graph.astream(given, config, stream_mode="updates"):
                pass
        case _:
            async for _ in trail.graph.astream_events(given, config, version="v2"):
                pass


def calls_of(run: Run) -> list[Run]:
    """Give the calls of models in a tree of runs."""
    own = [run] if run.run_type in ("llm", "chat_model") else []
    return own + [call for child in run.child_runs for call in calls_of(child)]


def message_of(call: Run) -> Any:
    assert call.outputs is not None
    return call.outputs["generations"][0][0]["message"]["kwargs"]


def check_whole(tracer: InMemory, model: str) -> list[Run]:
    """Check that a run of two hops was seen, and give the calls of models in it."""
    (root,) = tracer.roots
    assert root.name == "hoptrail"
    assert [child.name for child in root.child_runs] == NODES
    assert not tracer.run_map
    calls = calls_of(root)
    assert [len(calls_of(node)) for node in root.child_runs] == [1, 2, 1]
    for call in calls:
        assert call.error is None
        assert call.end_time is not None
        assert len(call.inputs["prompts"][0]) > 100
        told = message_of(call)
        assert told["content"]
        assert told["response_metadata"]["model_name"] == model
        assert told["usage_metadata"]["input_tokens"] > 0
        assert told["usage_metadata"]["output_tokens"] > 0
    assert "Where was Franz Kafka born?" in calls[2].inputs["prompts"][0]
    assert message_of(calls[3])["content"] == two_hops.FINAL
    return calls


@pytest.mark.parametrize("how", ["ainvoke", "invoke", "astream", "astream_events"])
async def test_a_tracer_sees_every_node_and_every_call_in_it(trail: Hoptrail, how: str) -> None:
    tracer = InMemory()
    await ask(trail, how, tracer)
    check_whole(tracer, "openai/gpt-oss-20b")


async def test_a_tracer_of_the_environment_sees_the_runs_of_every_door(trail: Hoptrail) -> None:
    tracer = InMemory()
    token = ambient.set(tracer)
    try:
        await trail.aask(two_hops.QUESTION)
        await asyncio.to_thread(trail.ask, two_hops.QUESTION)
        async for _ in trail.astream_chat("Who wrote The Trial?"):
            pass
        await trail.aask(two_hops.QUESTION, graph="iterative")
    finally:
        ambient.reset(token)
    names = [root.name for root in tracer.roots]
    assert names == ["hoptrail", "hoptrail", "hoptrail-chat", "hoptrail-iterative"]
    assert [len(calls_of(root)) for root in tracer.roots[:3]] == [4, 4, 1]
    assert not tracer.run_map


async def test_a_failover_is_one_call_that_says_who_was_tried(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    provider.huggingface.fault = Fault("status", status=503)
    tracer = InMemory()
    await ask(trail, "ainvoke", tracer)
    calls = check_whole(tracer, "qwen3:8b")
    origin = message_of(calls[0])["response_metadata"]["hoptrail"]
    assert origin["backend"] == "ollama"
    assert "huggingface: failed with BackendUnavailable" in origin["reason"]
    outcomes = [(each["backend"], each["outcome"]) for each in origin["attempts"]]
    assert outcomes[0] == ("huggingface", "BackendUnavailable")
    assert outcomes[-1] == ("ollama", "ok")


async def test_a_plan_that_broke_off_is_told_as_the_one_that_came(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    provider.huggingface.fault = Fault("stream_reset", after=5)
    tracer = InMemory()
    await ask(trail, "astream", tracer)
    assert not tracer.run_map
    calls = calls_of(tracer.roots[0])
    assert json.loads(message_of(calls[0])["content"]) == {"steps": two_hops.STEPS}
    # Steps that were begun while the first plan was written are broken off with it.
    assert all(call.error.startswith("CancelledError") for call in calls if call.error)
    assert all(call.end_time is not None for call in calls)


async def test_a_run_that_is_left_leaves_no_run_open(
    trail: Hoptrail, provider: LoopbackProvider
) -> None:
    tracer = InMemory()
    provider.huggingface.faults.extend([None, Fault("hang")])
    token = ambient.set(tracer)
    try:
        events = trail.astream(two_hops.QUESTION)
        async for event in events:
            if isinstance(event, StepStarted):
                await asyncio.to_thread(wait_for, lambda: len(provider.huggingface.chats) > 1, LONG)
                break
        await events.aclose()
    finally:
        ambient.reset(token)
    (root,) = tracer.roots
    assert not tracer.run_map
    planned, asked = calls_of(root)
    assert planned.end_time is not None
    assert asked.end_time is not None
    assert "CancelledError" in str(asked.error)


async def test_what_a_tracer_keeps_can_be_written(trail: Hoptrail) -> None:
    tracer = InMemory()
    await ask(trail, "ainvoke", tracer)
    for call in calls_of(tracer.roots[0]):
        json.loads(dumps(call.extra))
        assert call.extra["invocation_params"]["attempts"]


async def test_langsmith_takes_every_run(trail: Hoptrail) -> None:
    from langchain_core.tracers.langchain import LangChainTracer

    taken = Taken()
    tracer = LangChainTracer(client=taken, project_name="tests")
    await ask(trail, "ainvoke", tracer)
    tracer.wait_for_futures()
    names = [run["name"] for run in taken.begun.values()]
    assert sorted(names) == sorted(["hoptrail", *NODES, *["RoutedChatModel"] * 4])
    assert taken.begun.keys() == taken.ended.keys()
    for identity, run in taken.begun.items():
        told = json.dumps([run, taken.ended[identity]], default=str)
        assert "invocation_params" in told or run["run_type"] == "chain"


class Taken(Client):
    """LangSmith's client up to where it would send: what it is given, as it would write it."""

    def __init__(self) -> None:
        self.begun: dict[UUID, dict[str, Any]] = {}
        self.ended: dict[UUID, dict[str, Any]] = {}

    def flush(self, timeout: float | None = None) -> None:
        pass

    def create_run(self, name: str, inputs: Any, run_type: Any, **kwargs: Any) -> None:
        given = {"name": name, "inputs": inputs, "run_type": run_type, **kwargs}
        self.begun[kwargs["id"]] = written(given)

    def update_run(self, run_id: Any, **kwargs: Any) -> None:
        self.ended[run_id] = written(kwargs)


def written(document: dict[str, Any]) -> dict[str, Any]:
    from langsmith._internal._serde import dumps_json

    read: dict[str, Any] = json.loads(dumps_json(document))
    return read


class Heard(AsyncCallbackHandler):
    """A handler of somebody's own."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.tokens: list[str] = []
        self.results: list[LLMResult] = []
        self.nodes: list[str] = []

    async def on_chain_start(self, *_: Any, **kwargs: Any) -> None:
        self.nodes.append(kwargs["name"])

    async def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], **_: Any
    ) -> None:
        self.prompts.append(str(messages[0][-1].text))

    async def on_llm_new_token(self, token: str | list[Any], **_: Any) -> None:
        self.tokens.append(str(token))

    async def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        self.results.append(response)


class HeardInTurn(BaseCallbackHandler):
    """The same, synchronous."""

    def __init__(self) -> None:
        self.ended = 0

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        self.ended += 1


@pytest.mark.parametrize("how", ["ainvoke", "astream"])
async def test_handlers_hear_prompts_tokens_and_results(trail: Hoptrail, how: str) -> None:
    heard, in_turn = Heard(), HeardInTurn()
    await ask(trail, how, heard, in_turn)
    assert heard.nodes == ["hoptrail", *NODES]
    assert len(heard.prompts) == len(heard.results) == in_turn.ended == 4
    assert two_hops.FINAL in "".join(heard.tokens)
    assert two_hops.QUESTION in heard.prompts[0]
