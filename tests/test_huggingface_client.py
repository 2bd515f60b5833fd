"""The Hugging Face client, against the loopback Hugging Face over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
)

from hoptrail import HuggingFaceClient, Settings, get_huggingface_client, load_settings
from hoptrail.errors import (
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    InvalidResponse,
    RequestRefused,
)
from hoptrail.huggingface_client import Piece
from tests.in_step import cut_once_read, token_by_token
from tests.providers import Fault, LoopbackProvider, Reply, unit_vector

pytestmark = pytest.mark.anyio

KEY = "hf_CanaryKeyThatNobodyMaySee"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which river?"}]


def settings_of(provider: LoopbackProvider, **given: Any) -> Settings:
    flags = {"token": KEY, "huggingface_base_url": provider.huggingface_url}
    return load_settings(**(flags | given))


@pytest.fixture
def client(provider: LoopbackProvider) -> HuggingFaceClient:
    """A client that no earlier test has taught anything."""
    return HuggingFaceClient(settings_of(provider))


async def gather(
    stream: AsyncGenerator[Piece, None], told: list[Piece], has_read: Callable[[], None]
) -> list[Piece]:
    """Put the pieces into ``told``, where they stay when the stream breaks off."""
    async with aclosing(stream):
        async for piece in stream:
            told.append(piece)
            has_read()
    return told


class TestEmbeddings:
    async def test_a_text_becomes_the_providers_unit_vector_in_one_call(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        vector = await client.generate_embedding("Háj ve stínu, 雪")
        assert vector == pytest.approx(unit_vector("Háj ve stínu, 雪", MINILM), abs=1e-6)
        (call,) = provider.huggingface.embeddings
        assert call.model == MINILM
        assert call.headers["authorization"] == f"Bearer {KEY}"

    async def test_a_batch_keeps_its_order_over_several_calls(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        texts = [f"text {number}" for number in range(40)]
        vectors = await client.generate_embeddings(texts)
        assert len(provider.huggingface.embeddings) == 2
        for vector, text in zip(vectors, texts, strict=True):
            assert vector == pytest.approx(unit_vector(text, MINILM), abs=1e-6)

    async def test_another_model_is_asked_by_its_name(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        assert len(await client.generate_embedding("a", model="BAAI/bge-m3")) == 1024
        assert len(await client.generate_embedding("a")) == 384
        assert [call.model for call in provider.huggingface.embeddings] == ["BAAI/bge-m3", MINILM]

    async def test_no_texts_are_no_vectors_and_no_call(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        assert await client.generate_embeddings([]) == []
        assert not provider.calls

    @pytest.mark.parametrize(
        "model",
        ["../../api/whoami-v2", "a/b/c", "a/../b", "a?b", "a#b", "a b", "/a", "a/", "a%2fb", "é/a"],
    )
    async def test_a_model_name_cannot_leave_its_place_in_the_address(
        self, client: HuggingFaceClient, provider: LoopbackProvider, model: str
    ) -> None:
        with pytest.raises(RequestRefused, match="org/name"):
            await client.generate_embedding("text", model=model)
        assert not provider.calls

    @pytest.mark.parametrize("texts", ["one text", [""], ["a", " \n"], ["a", None]])
    async def test_what_is_no_text_is_refused_before_anyone_is_asked(
        self, client: HuggingFaceClient, provider: LoopbackProvider, texts: Any
    ) -> None:
        with pytest.raises(RequestRefused):
            await client.generate_embeddings(texts)
        assert not provider.calls

    async def test_an_endpoint_of_ones_own_is_not_taken_for_another_model(
        self, provider: LoopbackProvider
    ) -> None:
        """Text Embeddings Inference ignores the name: its vectors would be called another's."""
        url = f"{provider.huggingface_url}/embed"
        client = HuggingFaceClient(settings_of(provider, huggingface_embedding_url=url))
        assert len(await client.generate_embedding("a", model=MINILM)) == 384
        with pytest.raises(RequestRefused, match="HUGGINGFACE_EMBEDDING_URL"):
            await client.generate_embedding("a", model="BAAI/bge-m3")


class TestChat:
    async def test_an_answer_says_its_text_model_and_cost(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.answer("Vltava, samozřejmě 🌊.")
        answer = await client.chat(TALK, temperature=0.7, max_tokens=40)
        assert str(answer) == answer.text == "Vltava, samozřejmě 🌊."
        assert (answer.backend, answer.model) == ("huggingface", "openai/gpt-oss-20b")
        assert answer.usage["output_tokens"] == 3
        assert answer.finish_reason == "stop"
        (call,) = provider.huggingface.chats
        assert call.messages == TALK
        assert (call.options["temperature"], call.options["max_tokens"]) == (0.7, 40)

    @pytest.mark.parametrize(
        "talk",
        [
            TALK,
            [("system", "Be brief."), ("human", "Which river?")],
            [SystemMessage("Be brief."), HumanMessage("Which river?")],
            [("system", "Be brief."), HumanMessage("Which river?")],
        ],
        ids=["dicts", "pairs", "messages", "mixed"],
    )
    async def test_messages_come_in_every_usual_form(
        self, client: HuggingFaceClient, provider: LoopbackProvider, talk: Any
    ) -> None:
        await client.chat(talk)
        assert provider.huggingface.chats[0].messages == TALK

    async def test_a_text_alone_is_the_users(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        await client.chat("Which river?")
        assert provider.huggingface.chats[0].messages == TALK[1:]

    @pytest.mark.parametrize(
        "talk",
        [
            [],
            [{"role": "wizard", "content": "hm"}],
            [{"content": "no role"}],
            [{"role": "user"}],
            [{"role": "user", "content": ""}],
            [{"role": "user", "content": 5}],
            [{"role": 3, "content": "x"}],
            [("user",)],
            [7],
            [FunctionMessage(content="x", name="f")],
            [RemoveMessage("x")],
        ],
        ids=str,
    )
    async def test_messages_of_another_shape_are_refused_before_anyone_is_asked(
        self, client: HuggingFaceClient, provider: LoopbackProvider, talk: Any
    ) -> None:
        with pytest.raises(RequestRefused, match="message"):
            await client.chat(talk)
        assert not provider.huggingface.chats

    @pytest.mark.parametrize(
        "wrong",
        [
            {"temperature": 3},
            {"temperature": float("nan")},
            {"max_tokens": 0},
            {"model": "two words"},
            {"model": "x" * 300},
        ],
        ids=str,
    )
    async def test_wrong_numbers_and_names_are_refused(
        self, client: HuggingFaceClient, provider: LoopbackProvider, wrong: dict[str, Any]
    ) -> None:
        with pytest.raises(RequestRefused):
            await client.chat(TALK, **wrong)
        assert not provider.huggingface.chats

    async def test_another_model_is_asked_and_few_are_held_ready(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.any_model = True
        provider.huggingface.models += [f"maker/model-{number}" for number in range(20)]
        for number in range(20):
            answer = await client.chat(TALK, model=f"maker/model-{number}")
            assert answer.model == f"maker/model-{number}"
        assert client._chat_model.cache_info().currsize == 16

    async def test_an_earlier_answer_may_stand_among_the_messages(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        await client.chat([("user", "a"), AIMessage("b"), ("user", "c")])
        roles = [message["role"] for message in provider.huggingface.chats[0].messages]
        assert roles == ["user", "assistant", "user"]


class TestStream:
    async def test_pieces_come_as_they_are_written_and_done_at_the_end(
        self,
        client: HuggingFaceClient,
        provider: LoopbackProvider,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        provider.huggingface.answer(Reply("The Vltava does, ač pomalu.", token_delay=0.05))
        reader = token_by_token(monkeypatch)
        told = await gather(client.stream_chat(TALK), [], reader.has_read)
        assert told[-1] == {"done": True}
        assert len(told) > 3
        assert "".join(str(piece["text"]) for piece in told[:-1]) == "The Vltava does, ač pomalu."

    @pytest.mark.parametrize("kind", ["stream_reset", "stream_close", "stream_end", "error_event"])
    async def test_a_stream_that_is_cut_raises_and_is_never_done(
        self,
        client: HuggingFaceClient,
        provider: LoopbackProvider,
        monkeypatch: pytest.MonkeyPatch,
        kind: str,
    ) -> None:
        """Nor is it asked again: the text is with the reader already."""
        provider.huggingface.answer("one two three four five")
        provider.huggingface.fault = Fault(kind, after=2)
        reader, told = cut_once_read(monkeypatch, kind), list[Piece]()
        with pytest.raises((BackendUnavailable, InvalidResponse)):
            await gather(client.stream_chat(TALK), told, reader.has_read)
        assert "".join(str(piece["text"]) for piece in told).startswith("one")
        assert {"done": True} not in told
        assert len(provider.huggingface.chats) == 1

    async def test_a_reset_before_the_first_piece_is_asked_once_more(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.answer("Fine.")
        provider.huggingface.faults.append(Fault("reset"))
        assert (await client.chat(TALK)).text == "Fine."
        assert len(provider.huggingface.chats) == 2

    async def test_closing_the_stream_ends_the_call(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.answer(Reply("word " * 500, token_delay=0.05))
        stream = client.stream_chat(TALK)
        assert "text" in await anext(stream)
        await stream.aclose()
        await asyncio.to_thread(provider.settle)
        assert provider.huggingface.chats[0].cancelled

    async def test_cancelling_who_waits_ends_the_call(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.answer(Reply("late", delay=3600))
        asking = asyncio.ensure_future(client.chat(TALK))
        async with asyncio.timeout(30):
            while not provider.huggingface.chats:  # noqa: ASYNC110 # its loop is another
                await asyncio.sleep(0.005)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.to_thread(provider.settle)
        assert provider.huggingface.chats[0].cancelled


FAILURES = {
    "bad_token": BackendRefused,
    "out_of_credit": BackendRefused,
    "rate_limit": BackendBusy,
    "loading": BackendBusy,
    "server_error_html": BackendUnavailable,
    "error_body": InvalidResponse,
    "too_large": RequestRefused,
}
LATER = {"rate_limit": {"Retry-After": "30"}}


def a_fault(kind: str) -> Fault:
    return Fault(kind, headers=LATER.get(kind, {}))


class TestErrors:
    @pytest.mark.parametrize(("kind", "error"), FAILURES.items(), ids=list(FAILURES))
    async def test_a_failed_chat_raises_its_own_error(
        self,
        client: HuggingFaceClient,
        provider: LoopbackProvider,
        kind: str,
        error: type[BackendError],
    ) -> None:
        provider.huggingface.fault = a_fault(kind)
        with pytest.raises(error) as raised:
            await client.chat(TALK)
        assert raised.value.backend == "huggingface"

    @pytest.mark.parametrize(
        ("kind", "seconds"), [("rate_limit", 30.0), ("loading", 20.0)], ids=str
    )
    async def test_a_busy_server_says_when_to_come_back(
        self, client: HuggingFaceClient, provider: LoopbackProvider, kind: str, seconds: float
    ) -> None:
        provider.huggingface.fault = provider.huggingface.embed_fault = a_fault(kind)
        for call in (client.chat(TALK), client.generate_embedding("text")):
            with pytest.raises(BackendBusy) as raised:
                await call
            assert raised.value.retry_after == seconds

    async def test_a_server_that_is_away_is_unavailable(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        await asyncio.to_thread(provider.huggingface.stop)
        with pytest.raises(BackendUnavailable):
            await client.chat(TALK)
        with pytest.raises(BackendUnavailable):
            await client.generate_embedding("text")
        assert not await client.check_available()

    async def test_without_a_key_nobody_is_asked(self) -> None:
        client = HuggingFaceClient(load_settings())
        assert not await client.check_available()
        with pytest.raises(BackendRefused, match=r"^no token set .*HF_TOKEN"):
            await client.chat(TALK)
        with pytest.raises(BackendRefused, match="HF_TOKEN"):
            await client.generate_embedding("text")

    @pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500, 503])
    async def test_a_server_that_repeats_the_key_does_not_give_it_away(
        self, client: HuggingFaceClient, provider: LoopbackProvider, status: int
    ) -> None:
        for lead in ("", "x" * 285):  # the key may be where a long message is cut
            body = {"error": f"{lead} you sent {KEY} to us"}
            fault = Fault("status", status=status, body=body, headers={"Retry-After": "30"})
            provider.huggingface.fault = provider.huggingface.embed_fault = fault
            fresh = HuggingFaceClient(client.settings)
            for call in (fresh.chat(TALK), fresh.generate_embedding("text")):
                with pytest.raises(BackendError) as raised:
                    await call
                assert KEY[:9] not in str(raised.value)


class TestStatus:
    async def test_it_tells_what_is_asked_but_not_the_key(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        status = await client.status()
        assert status.available
        assert status.has_api_key
        assert (status.model, status.host) == ("openai/gpt-oss-20b", "127.0.0.1")
        assert status.embedding_model == MINILM
        assert KEY not in status.model_dump_json()
        assert not provider.huggingface.chats

    async def test_it_says_why_not_and_what_to_do(self) -> None:
        status = await HuggingFaceClient(load_settings()).status()
        assert (status.available, status.has_api_key) == (False, False)
        assert status.state == "unconfigured"
        assert "HF_TOKEN" in status.fix


class TestLoops:
    async def test_the_blocking_face_works_inside_a_running_loop(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.answer("Fine.")
        assert client.sync.chat(TALK).text == "Fine."
        assert client.sync.check_available()
        assert client.sync.status().available
        assert len(client.sync.generate_embedding("a")) == 384
        assert len(client.sync.generate_embeddings(["a", "b"])) == 2
        assert list(client.sync.stream_chat(TALK)) == [{"text": "Fine."}, {"done": True}]
        client.sync.close()

    def test_one_client_serves_several_loops(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.answer("Fine.")
        for _ in range(2):
            assert asyncio.run(client.chat(TALK)).text == "Fine."
            assert client.sync.chat(TALK).text == "Fine."
            assert len(asyncio.run(client.generate_embedding("a"))) == 384

    def test_a_blocking_stream_left_early_ends_the_call(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.answer(Reply("word " * 500, token_delay=0.05))
        stream = client.sync.stream_chat(TALK)
        assert "text" in next(stream)
        stream.close()
        provider.settle()
        assert provider.huggingface.chats[0].cancelled

    async def test_many_chats_at_once_do_not_wait_for_each_other(
        self,
        client: HuggingFaceClient,
        provider: LoopbackProvider,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Nobody is answered before all have asked: one after another they would never end."""

        async def until_all_ask(_: float) -> None:
            while provider.huggingface.peak < 20:  # noqa: ASYNC110 # that is a number
                await asyncio.sleep(0.005)

        monkeypatch.setattr("tests.providers.huggingface.pause", until_all_ask)
        provider.huggingface.answer(lambda request: request.question)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            asked = [group.create_task(client.chat(f"number {each}")) for each in range(20)]
        assert [task.result().text for task in asked] == [f"number {each}" for each in range(20)]

    async def test_closing_forgets_what_was_held_ready(
        self, client: HuggingFaceClient, provider: LoopbackProvider
    ) -> None:
        await client.chat(TALK)
        await client.aclose()
        assert client._chat_model.cache_info().currsize == 0
        await client.chat(TALK)
        assert len(provider.huggingface.chats) == 2


class TestOneOfAProcess:
    def test_equal_settings_give_the_same_client(self, provider: LoopbackProvider) -> None:
        first = get_huggingface_client(settings_of(provider))
        assert get_huggingface_client(settings_of(provider)) is first
        assert get_huggingface_client(settings_of(provider, hf_model="another")) is not first

    async def test_the_environment_is_read_when_nothing_is_given(
        self, provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", KEY)
        monkeypatch.setenv("HUGGINGFACE_BASE_URL", provider.huggingface_url)
        client = get_huggingface_client()
        assert get_huggingface_client() is client
        assert (await client.chat(TALK)).text == "You asked: Which river?"
