"""OpenAI's own client against the server: what people already use works as it is."""

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from openai import AsyncOpenAI, OpenAI, Stream
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from hoptrail import Hoptrail, load_settings
from hoptrail.embeddings import HashEmbedder
from tests.providers import Fault, LoopbackProvider, Reply
from tests.serving import Server, served
from tests.two_hops import FINAL, QUESTION, respond, serve, write_documents

ASKED: Any = [{"role": "user", "content": QUESTION}]
HELLO: Any = [{"role": "user", "content": "Hello?"}]


@pytest.fixture
def server(provider: LoopbackProvider, tmp_path: Path) -> Iterator[Server]:
    """A server over two documents, behind it a model that answers the two-hop question."""
    serve(provider)
    with served(provider, docs=write_documents(tmp_path / "docs")) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with a_client(server) as client:
        yield client


def a_client(server: Server, key: str = "none") -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=30)


def extra(part: Any) -> dict[str, Any]:
    found: dict[str, Any] = part.model_extra
    return found


def delta_texts(chunks: list[ChatCompletionChunk], name: str) -> list[str]:
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    return [text for choice in choices if (text := getattr(choice.delta, name, None)) is not None]


def eventually(true: Callable[[], bool], seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    return true()


class TestModels:
    def test_every_graph_is_one(self, client: OpenAI) -> None:
        assert [model.id for model in client.models.list()] == [
            "hoptrail/multi-hop",
            "hoptrail/iterative",
            "hoptrail/chat",
            "hoptrail/embeddings",
        ]

    def test_one_is_found_by_its_id(self, client: OpenAI) -> None:
        assert client.models.retrieve("hoptrail/chat").id == "hoptrail/chat"

    def test_another_is_not_found_and_the_list_is_given(self, client: OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="choose one of hoptrail/multi-hop"):
            client.models.retrieve("gpt-9")


class TestWholeAnswer:
    def test_has_steps_answer_sources_and_usage(self, client: OpenAI) -> None:
        answer = client.chat.completions.create(model="hoptrail/multi-hop", messages=ASKED)
        message = answer.choices[0].message
        content = message.content or ""
        assert content.startswith("Prague")
        assert "\n\nSources:\n\n- [1] " in content
        assert "people.md" in content
        assert "Step 2 → Prague (ollama)" in extra(message)["reasoning_content"]
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.total_tokens > answer.usage.completion_tokens > 0
        assert {cited["title"] for cited in extra(answer)["citations"]} == {
            "The Trial",
            "Franz Kafka",
        }
        ChatCompletion.model_validate(answer.model_dump(), strict=True)

    def test_names_its_run_whose_trace_is_served(self, client: OpenAI, server: Server) -> None:
        answer = client.chat.completions.create(model="hoptrail/multi-hop", messages=ASKED)
        note = extra(answer)["hoptrail"]
        assert answer.id == f"chatcmpl-{note['run_id']}"
        assert answer._request_id == note["run_id"]
        assert note["backends"] == ["ollama"]
        trace = httpx.get(server.url + note["trace"], timeout=30)
        assert trace.status_code == 200
        assert note["run_id"] in trace.text

    def test_says_what_it_ignored(self, client: OpenAI) -> None:
        earlier = [{"role": "system", "content": "Be brief."}, *ASKED]
        answer = client.chat.completions.create(
            model="hoptrail/multi-hop", messages=earlier, temperature=0.3, max_tokens=7
        )
        assert extra(answer)["hoptrail"]["ignored"] == [
            "max_tokens",
            "temperature",
            "messages before the last",
        ]

    def test_abstains_as_text_and_says_so(self, client: OpenAI, provider: LoopbackProvider) -> None:
        asked: Any = [{"role": "user", "content": "Who wrote The Castle?"}]
        provider.ollama.respond = lambda request: (
            '{"steps": ["Who wrote The Castle?"]}'
            if "steps" in (request.schema or {}).get("properties", ())
            else respond(request)
        )
        answer = client.chat.completions.create(model="hoptrail/multi-hop", messages=asked)
        assert extra(answer)["hoptrail"]["abstained"] is True
        assert "No answer was found" in (answer.choices[0].message.content or "")


class TestStream:
    def test_reasons_first_then_answers(self, client: OpenAI) -> None:
        with client.chat.completions.create(
            model="hoptrail/multi-hop",
            messages=ASKED,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            chunks = list(stream)
        kinds = [
            "content" if choice.delta.content is not None else "reasoning"
            for chunk in chunks
            for choice in chunk.choices
            if choice.finish_reason is None
        ]
        assert kinds == sorted(kinds, reverse=True)
        content = "".join(delta_texts(chunks, "content"))
        assert content.startswith(FINAL.partition(" [")[0])
        assert "Sources:" in content
        assert "Franz Kafka" in "".join(delta_texts(chunks, "reasoning_content"))
        assert "" not in delta_texts(chunks, "content")
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert extra(chunks[-2])["hoptrail"]["stop_reason"] == "answered"
        for chunk in chunks:
            ChatCompletionChunk.model_validate(chunk.model_dump(), strict=True)

    def test_says_the_same_as_the_whole(self, client: OpenAI) -> None:
        whole = client.chat.completions.create(model="hoptrail/multi-hop", messages=ASKED)
        with client.chat.completions.create(
            model="hoptrail/multi-hop", messages=ASKED, stream=True
        ) as stream:
            chunks = list(stream)
        message = whole.choices[0].message
        assert "".join(delta_texts(chunks, "content")) == message.content
        assert (
            "".join(delta_texts(chunks, "reasoning_content"))
            == (extra(message)["reasoning_content"])
        )

    def test_is_gathered_by_the_clients_own_helper(self, client: OpenAI) -> None:
        with client.chat.completions.stream(model="hoptrail/multi-hop", messages=ASKED) as stream:
            final = stream.get_final_completion()
        assert "Sources:" in (final.choices[0].message.content or "")

    def test_is_data_lines_and_ends_with_done(self, server: Server) -> None:
        body = {"model": "hoptrail/multi-hop", "messages": ASKED, "stream": True}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=30)
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [event for event in answer.text.split("\n\n") if not event.startswith(":")]
        assert events[-2:] == ["data: [DONE]", ""]
        assert all(event.startswith("data: {") for event in events[:-2])

    def test_steps_can_be_spelled_reasoning(self, client: OpenAI) -> None:
        with client.chat.completions.create(
            model="hoptrail/multi-hop",
            messages=ASKED,
            stream=True,
            extra_headers={"Hoptrail-Reasoning": "reasoning"},
        ) as stream:
            chunks = list(stream)
        assert "Franz Kafka" in "".join(delta_texts(chunks, "reasoning"))
        assert delta_texts(chunks, "reasoning_content") == []

    @pytest.mark.parametrize("model", ["hoptrail/multi-hop", "hoptrail/chat"])
    def test_a_client_that_leaves_frees_its_run(
        self, client: OpenAI, server: Server, provider: LoopbackProvider, model: str
    ) -> None:
        provider.ollama.respond = lambda request: Reply("word " * 5000, token_delay=0.05)
        stream: Stream[ChatCompletionChunk] = client.chat.completions.create(
            model=model, messages=HELLO, stream=True
        )
        assert eventually(lambda: provider.in_flight == 1)
        stream.close()
        assert eventually(lambda: server.live == 0)
        provider.settle(30)


class TestOtherGraphs:
    def test_iterative_answers_too(self, client: OpenAI, provider: LoopbackProvider) -> None:
        provider.ollama.respond = one_step_at_a_time
        answer = client.chat.completions.create(model="hoptrail/iterative", messages=ASKED)
        assert (answer.choices[0].message.content or "").startswith("Prague")
        assert extra(answer)["hoptrail"]["graph"] == "iterative"

    def test_chat_has_the_whole_conversation(
        self, client: OpenAI, provider: LoopbackProvider
    ) -> None:
        provider.ollama.answer("You are Ada.")
        said: Any = [
            {"role": "user", "content": "My name is Ada."},
            {"role": "assistant", "content": "Hello, Ada."},
            {"role": "user", "content": [{"type": "text", "text": "Who am I?"}]},
        ]
        answer = client.chat.completions.create(model="hoptrail/chat", messages=said)
        assert (answer.choices[0].message.content or "").startswith("You are Ada.")
        prompt = provider.ollama.chats[-1].prompt
        assert "Hello, Ada." in prompt
        assert "Who am I?" in prompt

    def test_chat_remembers_a_user_who_is_named_and_nobody_else(
        self, client: OpenAI, provider: LoopbackProvider
    ) -> None:
        def say(text: str, **who: Any) -> None:
            said: Any = [{"role": "user", "content": text}]
            client.chat.completions.create(model="hoptrail/chat", messages=said, **who)

        provider.ollama.answer("Good to know.")
        say("My cat is called Ofelie.", user="anna")
        say("What is my cat called?", user="anna")
        assert "Ofelie" in provider.ollama.chats[-1].prompt
        for who in ({}, {"user": ""}, {"user": "berta"}):
            say("What is my cat called?", **who)
            assert "Ofelie" not in provider.ollama.chats[-1].prompt

    def test_chat_streams_its_text_live(self, client: OpenAI, provider: LoopbackProvider) -> None:
        seen = Event()
        provider.ollama.answer(Reply("one two three four five", hold=seen.is_set, hold_after=3))
        texts: list[str] = []
        with client.chat.completions.create(
            model="hoptrail/chat", messages=HELLO, stream=True
        ) as stream:
            for chunk in stream:
                texts += delta_texts([chunk], "content")
                if texts:
                    seen.set()
        assert not texts[0].startswith("one two three four")
        assert "".join(texts).startswith("one two three four five")


def one_step_at_a_time(request: Any) -> Any:
    """Answer the two-hop question as `respond` does, when asked for one step at a time."""
    if "steps" not in (request.schema or {}).get("properties", ()):
        return respond(request)
    if "Prague" in request.question:
        return '{"steps": []}'
    kafka = "Franz Kafka" in request.question
    return (
        '{"steps": ["Where was Franz Kafka born?"]}'
        if kafka
        else '{"steps": ["Who wrote The Trial?"]}'
    )


@pytest.mark.anyio
class TestAsyncClient:
    async def test_whole_and_stream(self, server: Server) -> None:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            whole = await client.chat.completions.create(model="hoptrail/multi-hop", messages=ASKED)
            stream = await client.chat.completions.create(
                model="hoptrail/multi-hop", messages=ASKED, stream=True
            )
            chunks = [chunk async for chunk in stream]
        assert "".join(delta_texts(chunks, "content")) == whole.choices[0].message.content

    async def test_embeddings(self, server: Server) -> None:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            found = await client.embeddings.create(model="hoptrail/embeddings", input="a river")
        assert len(found.data[0].embedding) == 4096


class TestErrors:
    def test_unknown_model(self, client: OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="hoptrail/iterative") as refused:
            client.chat.completions.create(model="gpt-9", messages=HELLO)
        assert refused.value.type == "model_not_found"

    def test_what_cannot_be_done_is_refused_by_its_name(self, client: OpenAI) -> None:
        tool: Any = {"type": "function", "function": {"name": "f", "parameters": {}}}
        with pytest.raises(openai.UnprocessableEntityError, match="tools"):
            client.chat.completions.create(model="hoptrail/chat", messages=HELLO, tools=[tool])

    def test_images_are_refused(self, client: OpenAI) -> None:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        asked: Any = [{"role": "user", "content": [image]}]
        with pytest.raises(openai.UnprocessableEntityError, match="no image"):
            client.chat.completions.create(model="hoptrail/chat", messages=asked)

    def test_a_wrong_key(self, provider: LoopbackProvider) -> None:
        with served(provider, api_token="secret") as server:
            with a_client(server) as client, pytest.raises(openai.AuthenticationError):
                client.models.list()
            with a_client(server, "secret") as client:
                assert client.models.retrieve("hoptrail/chat").object == "model"

    def test_too_many_runs(self, provider: LoopbackProvider) -> None:
        provider.ollama.models = ["qwen3:8b"]
        provider.ollama.answer(Reply("word " * 5000, token_delay=0.05))
        with (
            served(provider, max_runs=1) as server,
            a_client(server) as client,
            closing(
                client.chat.completions.create(model="hoptrail/chat", messages=HELLO, stream=True)
            ),
            pytest.raises(openai.RateLimitError) as refused,
        ):
            client.chat.completions.create(model="hoptrail/chat", messages=HELLO)
        assert float(refused.value.response.headers["retry-after"]) > 0

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("model", ["hoptrail/multi-hop", "hoptrail/chat"])
    def test_nobody_answers_is_a_status_streamed_or_not(
        self, client: OpenAI, provider: LoopbackProvider, model: str, stream: bool
    ) -> None:
        provider.ollama.fault = Fault("status", status=401)
        with pytest.raises(openai.InternalServerError) as failed:
            client.chat.completions.create(model=model, messages=HELLO, stream=stream)
        assert failed.value.status_code == 503
        assert failed.value.type == "all_backends_failed"

    def test_a_failure_in_the_middle_of_a_stream_is_raised(
        self, client: OpenAI, provider: LoopbackProvider
    ) -> None:
        provider.ollama.answer(Reply("word " * 50, token_delay=0.01))
        provider.ollama.fault = Fault("stream_close", after=5)  # a reset may lose what was sent
        with (
            client.chat.completions.create(
                model="hoptrail/chat", messages=HELLO, stream=True
            ) as stream,
            pytest.raises(openai.APIError) as failed,
        ):
            list(stream)
        assert failed.value.body is not None


def test_an_answer_taken_over_by_another_backend_is_never_joined(
    provider: LoopbackProvider,
) -> None:
    """What was sent of the first is void; the whole answer of the second is in the error."""
    provider.ollama.models = ["qwen3:8b"]
    provider.ollama.answer(Reply("first " * 50, token_delay=0.01))
    provider.ollama.fault = Fault("stream_close", after=5)  # a reset may lose what was sent
    provider.huggingface.answer("second second")
    sent: list[ChatCompletionChunk] = []
    with (
        served(provider, backends=("ollama", "huggingface"), token="hf_loopback") as server,
        a_client(server) as client,
        client.chat.completions.create(
            model="hoptrail/chat", messages=HELLO, stream=True
        ) as stream,
        pytest.raises(openai.APIError, match="void") as torn,
    ):
        sent.extend(stream)
    text = "".join(delta_texts(sent, "content"))
    assert "first" in text
    assert "second" not in text
    body: Any = torn.value.body
    assert torn.value.type == "answer_torn"
    assert body["answer"].startswith("second second")
    assert "first" not in body["answer"]


class TestEmbeddings:
    def test_are_the_embedders_own(self, client: OpenAI) -> None:
        texts = ["a river", "a town"]
        found = client.embeddings.create(model="hoptrail/embeddings", input=texts)
        expected = embedded(texts)
        assert np.allclose([row.embedding for row in found.data], expected, atol=1e-7)
        assert [row.index for row in found.data] == [0, 1]
        assert found.usage.total_tokens > 0

    def test_numbers_and_base64_are_the_same(self, server: Server) -> None:
        asked = {"model": "hoptrail/embeddings", "input": "a river"}
        url = f"{server.url}/v1/embeddings"
        numbers = httpx.post(url, json=asked, timeout=30).json()["data"][0]["embedding"]
        packed = httpx.post(url, json=asked | {"encoding_format": "base64"}, timeout=30).json()
        bytes_ = base64.b64decode(packed["data"][0]["embedding"])
        assert np.array_equal(np.frombuffer(bytes_, "<f4"), np.array(numbers, np.float32))

    def test_say_their_space_which_can_be_asked_for_again(self, client: OpenAI) -> None:
        first = client.embeddings.create(model="hoptrail/embeddings", input="a river")
        note = extra(first)["hoptrail"]
        assert note["backend"] == "hash"
        assert note["dimensions"] == len(first.data[0].embedding)
        for name in (note["space"], note["model"], first.model):
            again = client.embeddings.create(model=name, input="a river")
            assert extra(again)["hoptrail"] == note

    @pytest.mark.parametrize("model", ["text-embedding-3-small", "hash:other", "hash:"])
    def test_of_another_model_are_not_made_up(self, client: OpenAI, model: str) -> None:
        with pytest.raises(openai.NotFoundError, match="hash:words"):
            client.embeddings.create(model=model, input="a river")

    def test_of_a_space_that_is_gone_are_not_made_up(self, client: OpenAI) -> None:
        space = extra(client.embeddings.create(model="hoptrail/embeddings", input="a"))["hoptrail"]
        gone = space["space"][:-4] + "0000"
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model=gone, input="a river")

    def test_of_an_embedder_that_is_down_fail(self, provider: LoopbackProvider) -> None:
        provider.ollama.embed_fault = Fault("status", status=500)
        with (
            served(provider, embedders=("ollama", "hash")) as server,
            a_client(server) as client,
        ):
            with pytest.raises(openai.InternalServerError):
                client.embeddings.create(model="ollama:all-minilm", input="a river")
            found = client.embeddings.create(model="hoptrail/embeddings", input="a river")
        assert extra(found)["hoptrail"]["backend"] == "hash"

    def test_have_the_width_they_have(self, client: OpenAI) -> None:
        width = len(
            client.embeddings.create(model="hoptrail/embeddings", input="a", dimensions=4096)
            .data[0]
            .embedding
        )
        assert width == 4096
        with pytest.raises(openai.UnprocessableEntityError, match="4096 dimensions"):
            client.embeddings.create(model="hoptrail/embeddings", input="a", dimensions=256)

    @pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2], [3]], []])
    def test_of_tokens_are_refused(self, client: OpenAI, given: Any) -> None:
        with pytest.raises(openai.UnprocessableEntityError):
            client.embeddings.create(model="hoptrail/embeddings", input=given)


def embedded(texts: list[str]) -> Any:
    import asyncio

    return asyncio.run(HashEmbedder().embed(texts, "passage"))


def test_hoptrail_can_be_a_backend_of_hoptrail(
    server: Server, provider: LoopbackProvider, tmp_path: Path
) -> None:
    """The Hugging Face backend speaks OpenAI's form: the server's chat can be its model."""
    provider.ollama.answer("Hello from below.")
    settings = load_settings(
        backends=("huggingface",),
        embedders=("hash",),
        huggingface_base_url=server.url,
        hf_model="hoptrail/chat",
        home=tmp_path / "above",
    )
    above = Hoptrail(settings=settings)
    answer = above.chat("Hello?")
    above.close()
    assert answer.text.startswith("Hello from below.")
    assert [call.backend for call in answer.trace.calls()] == ["huggingface"]
