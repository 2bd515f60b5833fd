"""Ollama's door, against a loopback server over real sockets."""

import asyncio
import pickle
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGenerationChunk

from hoptrail.backend import CallLimits, CallOptions, Sampling
from hoptrail.errors import (
    AnswerTooLarge,
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    InvalidResponse,
    RequestRefused,
    RequestTooLarge,
    SettingsError,
)
from hoptrail.providers.ollama import OllamaBackend, normal_name
from tests.in_step import token_by_token
from tests.providers import Fault, LoopbackProvider, Reply

pytestmark = pytest.mark.anyio

MODEL = "qwen3:8b"
ASKED: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage("Which river?")]
PLAIN = CallOptions()
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"river": {"type": "string"}},
    "required": ["river"],
}


def backend(provider: LoopbackProvider, **fields: Any) -> OllamaBackend:
    return OllamaBackend(**({"model": MODEL, "host": provider.ollama_url} | fields))


async def ask(
    backend: OllamaBackend, options: CallOptions = PLAIN, messages: list[BaseMessage] = ASKED
) -> AIMessage:
    message = (await backend.generate(messages, options)).generations[0].message
    assert isinstance(message, AIMessage)
    return message


class TestAnswers:
    async def test_a_whole_answer_tells_model_reason_and_usage(
        self, provider: LoopbackProvider
    ) -> None:
        """The message holds the text, who gave it, why it ended, and what it cost."""
        provider.ollama.answer("The Vltava.")
        message = await ask(backend(provider))
        assert message.content == "The Vltava."
        assert message.response_metadata == {"model_name": MODEL, "finish_reason": "stop"}
        assert message.usage_metadata is not None
        assert message.usage_metadata["output_tokens"] == 2

    async def test_a_stream_comes_in_pieces_and_ends_with_its_proof(
        self, provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Text first, then one empty chunk with model and usage."""
        provider.ollama.answer(Reply("one two three", token_delay=0.01))
        reader, chunks = token_by_token(monkeypatch), list[ChatGenerationChunk]()
        async for chunk in backend(provider).stream(ASKED, PLAIN):
            chunks.append(chunk)
            reader.has_read()
        texts = [str(chunk.message.text) for chunk in chunks]
        assert "".join(texts) == "one two three"
        assert len(texts) >= 4
        assert chunks[-1].message.response_metadata["finish_reason"] == "stop"

    async def test_what_arrives_together_is_one_piece(self, provider: LoopbackProvider) -> None:
        """Nothing waits for it, and nothing of the text is lost."""
        words = " ".join(map(str, range(300)))
        provider.ollama.answer(words)
        chunks = [chunk async for chunk in backend(provider).stream(ASKED, PLAIN)]
        assert "".join(str(chunk.message.text) for chunk in chunks) == words
        assert len(chunks) < 150

    async def test_a_limit_that_cut_the_text_is_told(self, provider: LoopbackProvider) -> None:
        """A text cut by num_predict is an answer with a warning."""
        provider.ollama.answer(Reply("one two", finish_reason="length"))
        message = await ask(backend(provider))
        assert message.response_metadata["warnings"] == ["the answer was cut at its token limit"]

    @pytest.mark.parametrize("last", [False, True])
    async def test_tool_calls_are_an_answer(self, provider: LoopbackProvider, last: bool) -> None:
        """A call of a tool needs no text, and may come in the line that ends the answer."""
        provider.ollama.answer(Reply(tool_calls=[("look", {"at": "map"})], tool_calls_last=last))
        function = {"name": "look", "description": "", "parameters": {"type": "object"}}
        tool: dict[str, object] = {"type": "function", "function": function}
        message = await ask(backend(provider), CallOptions(tools=(tool,)))
        assert [(call["name"], call["args"]) for call in message.tool_calls] == [
            ("look", {"at": "map"})
        ]

    async def test_a_cut_prompt_is_noticed(self, provider: LoopbackProvider) -> None:
        """Ollama drops the beginning of a long prompt without a word: we say it."""
        long_text: list[BaseMessage] = [HumanMessage("river " * 3000)]
        message = await ask(backend(provider, num_ctx=1024), messages=long_text)
        assert provider.ollama.chats[0].truncated
        (warning,) = message.response_metadata["warnings"]
        assert "num_ctx=1024" in warning
        fitting = await ask(backend(provider, num_ctx=8192), messages=long_text)
        assert "warnings" not in fitting.response_metadata

    @pytest.mark.parametrize("overflow", ["native", "text"])
    async def test_a_prompt_that_is_refused_names_the_setting(
        self, provider: LoopbackProvider, overflow: str
    ) -> None:
        """Newer servers refuse what does not fit; asking again cannot help."""
        provider.ollama.overflow = overflow
        with pytest.raises(RequestRefused, match="context"):
            await ask(backend(provider, num_ctx=512), messages=[HumanMessage("river " * 3000)])


class TestRequests:
    async def test_the_body_holds_what_was_asked_for(self, provider: LoopbackProvider) -> None:
        """num_ctx is always there, temperature 0 is sent, thinking is off."""
        door = backend(provider, num_ctx=4096, sampling=Sampling(temperature=0.0, seed=7))
        await ask(door, CallOptions(max_tokens=50, stop=("END",), output_schema=SCHEMA))
        body = provider.ollama.chats[0].body
        assert body["options"] == {
            "num_ctx": 4096,
            "temperature": 0.0,
            "seed": 7,
            "num_predict": 50,
            "stop": ["END"],
        }
        assert (body["think"], body["keep_alive"], body["format"]) == (False, "10m", SCHEMA)

    async def test_num_ctx_never_varies(self, provider: LoopbackProvider) -> None:
        """A changed window would load the model again."""
        door = backend(provider)
        await ask(door, CallOptions(max_tokens=5))
        await ask(door, messages=[HumanMessage("long " * 3000)])
        assert [chat.options["num_ctx"] for chat in provider.ollama.chats] == [8192, 8192]

    async def test_a_server_that_knows_no_think_is_asked_without(
        self, provider: LoopbackProvider
    ) -> None:
        """A refusal of `think` costs one call, once."""
        door = backend(provider)
        provider.ollama.faults.append(Fault("detail_text"))
        await ask(door)
        await ask(door)
        assert [chat.body.get("think") for chat in provider.ollama.chats] == [False, None, None]

    async def test_no_key_of_the_environment_is_sent(
        self, provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """OLLAMA_API_KEY goes nowhere by itself; a given token goes to its own host."""
        monkeypatch.setenv("OLLAMA_API_KEY", "environment")
        monkeypatch.setenv("OLLAMA_HOST", "http://192.0.2.1:1")
        await ask(backend(provider))
        door = backend(provider, token="mine")
        await ask(door)
        sent = [chat.headers.get("authorization") for chat in provider.ollama.chats]
        assert sent == [None, "Bearer mine"]
        chat = door._build()
        assert "mine" not in f"{door!r} {chat!r} {chat.model_dump()}"


FAILURES: list[tuple[str, type[BackendError]]] = [
    ("reset", BackendUnavailable),
    ("close", BackendUnavailable),
    ("garbage", BackendUnavailable),
    ("server_error_html", BackendUnavailable),
    ("bad_gateway", BackendUnavailable),
    ("busy", BackendBusy),
    ("rate_limit", BackendBusy),
    ("bad_token", BackendRefused),
    ("no_permission", BackendRefused),
    ("model_missing", BackendRefused),
    ("redirect_off_host", BackendRefused),
    ("too_large", RequestTooLarge),
    ("error_body", InvalidResponse),
    ("error_list", InvalidResponse),
    ("truncated_json", InvalidResponse),
    ("html_200", InvalidResponse),
    ("empty_body", InvalidResponse),
    ("empty_object", InvalidResponse),
    ("content_number", InvalidResponse),
    ("deep_json", AnswerTooLarge),
    ("corrupt_gzip", InvalidResponse),
    ("stream_close", BackendUnavailable),
    ("stream_reset", BackendUnavailable),
    ("stream_end", InvalidResponse),
    ("empty_stream", InvalidResponse),
    ("bad_line", InvalidResponse),
    ("giant_line", AnswerTooLarge),
    ("error_event", InvalidResponse),
]


class TestFailures:
    @pytest.mark.parametrize(("kind", "expected"), FAILURES)
    async def test_each_has_its_class(
        self, provider: LoopbackProvider, kind: str, expected: type[BackendError]
    ) -> None:
        """A failure is of its class by type and status, is asked once, and survives pickling."""
        provider.ollama.answer("one two three four")
        provider.ollama.fault = Fault(kind, after=2)
        with pytest.raises(BackendError) as raised:
            await ask(backend(provider))
        assert type(raised.value) is expected
        assert (raised.value.backend, raised.value.model) == ("ollama", MODEL)
        assert len(provider.ollama.chats) == 1
        copy = pickle.loads(pickle.dumps(raised.value))
        assert (type(copy), str(copy)) == (expected, str(raised.value))

    async def test_a_missing_model_names_the_cure(self, provider: LoopbackProvider) -> None:
        """404 is the model, and `ollama pull` gets it."""
        with pytest.raises(BackendRefused, match="ollama pull mistral"):
            await ask(backend(provider, model="mistral"))

    async def test_retry_after_survives(self, provider: LoopbackProvider) -> None:
        """The client library loses headers; we read them before it does."""
        provider.ollama.fault = Fault("status", status=429, headers={"retry-after": "7"})
        with pytest.raises(BackendBusy) as busy:
            await ask(backend(provider))
        assert busy.value.retry_after == 7.0

    async def test_an_answer_that_only_loaded_the_model_is_none(
        self, provider: LoopbackProvider
    ) -> None:
        """`done_reason: load` is no end of an answer."""
        with pytest.raises(InvalidResponse):
            await ask(backend(provider), messages=[])

    async def test_nobody_there_and_hangs_are_unavailable(self, provider: LoopbackProvider) -> None:
        """Nobody listening, or nobody answering."""
        provider.ollama.fault = Fault("hang")
        with pytest.raises(BackendUnavailable):
            await ask(backend(provider, limits=CallLimits(first_token=0.1, idle=0.1)))
        provider.ollama.stop()
        with pytest.raises(BackendUnavailable, match="cannot connect"):
            await ask(backend(provider))


class TestConnections:
    def test_two_event_loops_in_a_row(self, provider: LoopbackProvider) -> None:
        """The same backend works in a second asyncio.run()."""
        provider.ollama.answer("yes")
        door = backend(provider)
        for _ in range(2):
            assert asyncio.run(ask(door)).content == "yes"

    async def test_two_backends_share_one_connection(self, provider: LoopbackProvider) -> None:
        """One pool for all that talk to one server in one loop."""
        for model in (MODEL, "llama3.2:3b"):
            await ask(backend(provider, model=model))
        assert provider.ollama.connections == 1

    async def test_leaving_early_ends_the_call_at_the_server(
        self, provider: LoopbackProvider
    ) -> None:
        """Whoever stops reading frees the model."""
        provider.ollama.answer(Reply("word " * 500, token_delay=0.01))
        stream = backend(provider).stream(ASKED, PLAIN)
        await anext(stream)
        await stream.aclose()
        await asyncio.to_thread(provider.settle)
        assert provider.ollama.chats[0].cancelled


class TestProbe:
    @pytest.mark.parametrize("model", ["qwen3:8b", "QWEN3:8b", "library/qwen3:8b"])
    async def test_an_installed_model_is_up(self, provider: LoopbackProvider, model: str) -> None:
        """However its name is spelled."""
        found = await backend(provider, model=model).probe()
        assert (found.state, found.models) == (
            "up",
            ("qwen3:8b", "llama3.2:3b", "all-minilm:latest"),
        )

    async def test_a_missing_model_says_how_to_get_it(self, provider: LoopbackProvider) -> None:
        """The server is there, the model is not."""
        found = await backend(provider, model="mistral").probe()
        assert (found.state, found.fix) == ("model_missing", "ollama pull mistral")

    @pytest.mark.parametrize("version", ["0.24.0", "0.32.15"])
    async def test_without_a_model_the_first_that_chats_is_taken(
        self, provider: LoopbackProvider, version: str
    ) -> None:
        """Embedding models are passed over, with and without a list of capabilities."""
        provider.ollama.version = version
        provider.ollama.models = ["all-minilm", "nomic-embed-text", "llama3.2:3b", "qwen3:8b"]
        door = backend(provider, model=None)
        message = await ask(door)
        assert message.response_metadata["model_name"] == door.model == "llama3.2:3b"

    async def test_without_any_chat_model_it_says_so(self, provider: LoopbackProvider) -> None:
        """Nothing to choose from is told with a way out."""
        provider.ollama.models = ["all-minilm"]
        door = backend(provider, model=None)
        assert (await door.probe()).state == "model_missing"
        with pytest.raises(BackendRefused, match="ollama pull"):
            await ask(door)

    @pytest.mark.parametrize("kind", ["hang", "reset", "garbage_json", "bad_gateway"])
    async def test_failures_are_down(self, provider: LoopbackProvider, kind: str) -> None:
        """Whatever is not an Ollama that answers is down."""
        provider.ollama.probe_faults.append(Fault(kind))
        assert (await backend(provider).probe()).state == "down"

    async def test_nobody_there_is_down(self, provider: LoopbackProvider) -> None:
        """A refused connection is told with the way to start it."""
        provider.ollama.stop()
        found = await backend(provider).probe()
        assert (found.state, found.fix) == ("down", "start it with `ollama serve`")


@pytest.mark.parametrize("host", ["box:11434", "ftp://box", "http://", "http://me:secret@box"])
def test_what_is_no_address_is_refused(host: str) -> None:
    """The client library would silently take it for localhost, or print its password."""
    with pytest.raises(SettingsError):
        OllamaBackend(MODEL, host)


def test_names_are_compared_with_their_tag() -> None:
    """`llama3` and `llama3:latest` are one model."""
    assert normal_name("registry.ollama.ai/library/Llama3") == normal_name("llama3:latest")
    assert normal_name("host:5000/me/model") == "host:5000/me/model:latest"
