"""Hugging Face's door, against a loopback router over real sockets."""

import asyncio
import pickle
import time
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk

from hoptrail.backend import CallLimits, CallOptions, Sampling
from hoptrail.connections import HttpRefusal
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
from hoptrail.providers.huggingface import ROUTER, HuggingFaceBackend
from tests.in_step import token_by_token
from tests.providers import Fault, LoopbackProvider, Reply

pytestmark = pytest.mark.anyio

MODEL = "openai/gpt-oss-20b"
ASKED: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage("Which river?")]
PLAIN = CallOptions()
SCHEMA: dict[str, object] = {
    "title": "River",
    "type": "object",
    "properties": {"river": {"type": "string"}},
    "required": ["river"],
}


def backend(provider: LoopbackProvider, **fields: Any) -> HuggingFaceBackend:
    fields = {"model": MODEL, "token": "hf_secret", "base_url": provider.huggingface_url} | fields
    return HuggingFaceBackend(**fields)


async def ask(backend: HuggingFaceBackend, options: CallOptions = PLAIN) -> AIMessage:
    message = (await backend.generate(ASKED, options)).generations[0].message
    assert isinstance(message, AIMessage)
    return message


class TestAnswers:
    async def test_a_whole_answer_tells_model_reason_and_usage(
        self, provider: LoopbackProvider
    ) -> None:
        """The message holds the text, who gave it, why it ended, and what it cost."""
        provider.huggingface.answer("The Vltava.")
        message = await ask(backend(provider))
        assert message.content == "The Vltava."
        assert message.response_metadata == {"model_name": MODEL, "finish_reason": "stop"}
        assert message.usage_metadata is not None
        assert message.usage_metadata["output_tokens"] == 2

    async def test_a_stream_comes_in_pieces_and_ends_with_its_proof(
        self, provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Text first, then one empty chunk with model and usage."""
        provider.huggingface.answer(Reply("one two three", token_delay=0.02))
        reader, chunks = token_by_token(monkeypatch), list[ChatGenerationChunk]()
        async for chunk in backend(provider).stream(ASKED, PLAIN):
            chunks.append(chunk)
            reader.has_read()
        texts = [str(chunk.message.text) for chunk in chunks]
        assert "".join(texts) == "one two three"
        assert len(texts) >= 4
        assert texts[-1] == ""
        assert chunks[-1].message.response_metadata["finish_reason"] == "stop"

    @pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
    async def test_base_url_may_end_in_v1(self, provider: LoopbackProvider, suffix: str) -> None:
        """Every usual spelling of an address reaches the same path."""
        provider.huggingface.answer("yes")
        base_url = provider.huggingface_url + suffix
        assert (await ask(backend(provider, base_url=base_url))).content == "yes"
        assert provider.huggingface.calls == {"/v1/chat/completions": 1}

    @pytest.mark.parametrize(
        "kind", ["no_done", "done_glued", "data_after_done", "split_utf8", "crlf", "comments"]
    )
    async def test_odd_but_healthy_streams_are_read(
        self, provider: LoopbackProvider, kind: str
    ) -> None:
        """What real servers do differently makes no difference."""
        provider.huggingface.answer("Žižkov — one two three")
        provider.huggingface.fault = Fault(kind)
        assert (await ask(backend(provider))).content == "Žižkov — one two three"

    @pytest.mark.parametrize(
        "dialect",
        ["tgi3", "tgi2", "together", "fireworks", "mistral", "hyperbolic", "novita", "cerebras"],
    )
    async def test_every_recorded_dialect_is_read(
        self, provider: LoopbackProvider, dialect: str
    ) -> None:
        """Each provider behind the router streams in its own way; all give the same text."""
        provider.huggingface.dialect = dialect
        provider.huggingface.answer("one two three")
        message = await ask(backend(provider))
        assert str(message.content).removesuffix("</s>") == "one two three"
        if message.usage_metadata:
            assert message.usage_metadata["output_tokens"] <= 4

    async def test_line_separators_inside_a_text_end_no_line(
        self, provider: LoopbackProvider
    ) -> None:
        """U+2028 and U+0085 are text; a splitter that breaks there loses the answer."""
        provider.huggingface.answer("one\u2028two\x85three")
        assert (await ask(backend(provider))).content == "one\u2028two\x85three"

    async def test_leaked_thinking_is_dropped(self, provider: LoopbackProvider) -> None:
        """A leading <think> block is no part of the answer, however it is cut into pieces."""
        provider.huggingface.answer("<think> is it the Elbe? no </think> The Vltava < others.")
        assert (await ask(backend(provider))).content == "The Vltava < others."

    async def test_a_limit_that_cut_the_text_is_told(self, provider: LoopbackProvider) -> None:
        """A text cut by max_tokens is an answer with a warning."""
        provider.huggingface.answer(Reply("one two", finish_reason="length"))
        message = await ask(backend(provider))
        assert message.response_metadata["warnings"] == ["the answer was cut at its token limit"]


class TestRequests:
    async def test_the_body_holds_what_was_asked_for(self, provider: LoopbackProvider) -> None:
        """Real model name, temperature 0, seed and top_p arrive; nothing unasked does."""
        sampling = Sampling(temperature=0.0, top_p=0.9, seed=7)
        options = CallOptions(max_tokens=50, stop=("END",))
        await ask(backend(provider, sampling=sampling), options)
        body = provider.huggingface.chats[0].body
        assert body.pop("messages") == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Which river?"},
        ]
        assert body == {
            "model": MODEL,
            "temperature": 0.0,
            "top_p": 0.9,
            "seed": 7,
            "max_tokens": 50,
            "stop": ["END"],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    async def test_a_call_overrules_the_settings(self, provider: LoopbackProvider) -> None:
        """Temperature 0 of a call is sent, not taken for unset."""
        sampling = Sampling(temperature=0.7)
        await ask(backend(provider, sampling=sampling), CallOptions(temperature=0.0))
        assert provider.huggingface.chats[0].body["temperature"] == 0.0

    async def test_a_schema_is_sent_in_openai_form(self, provider: LoopbackProvider) -> None:
        """The form that router, vLLM and Ollama read, not the rewritten TGI form."""
        message = await ask(backend(provider), CallOptions(output_schema=SCHEMA))
        assert message.content == '{"river": "loopback"}'
        assert provider.huggingface.chats[0].response_format == {
            "type": "json_schema",
            "json_schema": {"name": "River", "schema": SCHEMA, "strict": True},
        }

    async def test_a_server_without_schemas_is_asked_without(
        self, provider: LoopbackProvider
    ) -> None:
        """After a 400 with the schema and an answer without it, it is never sent again."""
        door = backend(provider)
        provider.huggingface.answer('{"river": "Vltava"}')
        provider.huggingface.faults.append(Fault("detail_text"))
        for _ in range(2):
            await ask(door, CallOptions(output_schema=SCHEMA))
        formats = [chat.response_format is not None for chat in provider.huggingface.chats]
        assert formats == [True, False, False]

    async def test_a_request_that_is_wrong_anyway_keeps_the_schema(
        self, provider: LoopbackProvider
    ) -> None:
        """When it fails without the schema too, the schema was not the reason."""
        door = backend(provider)
        provider.huggingface.faults.extend([Fault("detail_text"), Fault("detail_text")])
        with pytest.raises(RequestRefused):
            await ask(door, CallOptions(output_schema=SCHEMA))
        await ask(door, CallOptions(output_schema=SCHEMA))
        assert provider.huggingface.chats[-1].response_format is not None

    async def test_tools_are_offered_and_calls_read(self, provider: LoopbackProvider) -> None:
        """A tool call is an answer without text; its result goes back under its id."""
        tool: dict[str, object] = {
            "type": "function",
            "function": {"name": "look", "parameters": {}},
        }
        call = ("look", {"at": "map"})
        provider.huggingface.answer([Reply(tool_calls=[call]), "The Vltava."])
        door, options = backend(provider), CallOptions(tools=(tool,), tool_choice="look")
        message = await ask(door, options)
        assert [(made["name"], made["args"]) for made in message.tool_calls] == [
            ("look", {"at": "map"})
        ]
        body = provider.huggingface.chats[0].body
        assert body["tools"] == [tool]
        assert body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
        result = ToolMessage("blue line", tool_call_id=message.tool_calls[0]["id"])
        await door.generate([*ASKED, message, result], PLAIN)
        assert provider.huggingface.chats[1].messages[-1]["content"] == "blue line"

    async def test_tool_calls_that_come_in_pieces_are_put_together(
        self, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.dialect = "openai"
        calls = [("look", {"at": "map of Bohemia"}), ("look", {"at": "sky"})]
        provider.huggingface.answer(Reply(tool_calls=calls))
        function = {"name": "look", "parameters": {}}
        tool: dict[str, object] = {"type": "function", "function": function}
        message = await ask(backend(provider), CallOptions(tools=(tool,)))
        assert [(made["name"], made["args"]) for made in message.tool_calls] == calls


class TestToken:
    async def test_it_is_sent_in_the_header_of_its_own_host(
        self, provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The caller's token, not one of the environment."""
        monkeypatch.setenv("HF_TOKEN", "hf_environment")
        await ask(backend(provider))
        assert provider.huggingface.chats[0].headers["authorization"] == "Bearer hf_secret"

    async def test_without_one_nothing_is_sent(
        self, provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A token in the environment never reaches a server that was not given it."""
        monkeypatch.setenv("HF_TOKEN", "hf_environment")
        monkeypatch.setenv("HUGGINGFACEHUB_API_TOKEN", "hf_environment")
        await ask(backend(provider, token=None))
        assert "authorization" not in provider.huggingface.chats[0].headers

    @pytest.mark.parametrize("kind", ["redirect_off_host", "redirect_loop", "redirect_file"])
    async def test_no_redirect_is_followed(self, provider: LoopbackProvider, kind: str) -> None:
        """A redirect is refused, so the token cannot travel."""
        provider.huggingface.fault = Fault(kind)
        with pytest.raises(BackendRefused):
            await ask(backend(provider))
        assert len(provider.huggingface.chats) == 1

    async def test_it_is_in_no_text(self, provider: LoopbackProvider) -> None:
        """Neither the repr nor an error that quotes it shows the token."""
        door = backend(provider)
        provider.huggingface.fault = Fault("status", status=401, message="bad key hf_secret")
        with pytest.raises(BackendRefused) as refused:
            await ask(door)
        chat = door._build()
        assert "hf_secret" not in f"{refused.value} {door!r} {chat!r} {chat.model_dump()}"

    def test_one_that_no_header_can_hold_is_refused_early(self) -> None:
        """A pasted line end is a wrong setting, not a failing backend."""
        with pytest.raises(SettingsError):
            HuggingFaceBackend(MODEL, "hf_a\nb")


FAILURES: list[tuple[str, type[BackendError]]] = [
    ("reset", BackendUnavailable),
    ("close", BackendUnavailable),
    ("garbage", BackendUnavailable),
    ("huge_header", BackendUnavailable),
    ("server_error_html", BackendUnavailable),
    ("bad_gateway", BackendUnavailable),
    ("gateway_timeout", BackendUnavailable),
    ("scaled_to_zero", BackendUnavailable),
    ("generation", BackendUnavailable),
    ("rate_limit", BackendBusy),
    ("overloaded", BackendBusy),
    ("loading", BackendBusy),
    ("bad_token", BackendRefused),
    ("unauthorized_empty", BackendRefused),
    ("out_of_credit", BackendRefused),
    ("no_permission", BackendRefused),
    ("model_missing", BackendRefused),
    ("gone", BackendRefused),
    ("model_not_supported", BackendRefused),
    ("detail_text", RequestRefused),
    ("too_large", RequestTooLarge),
    ("validation", RequestRefused),
    ("no_content", InvalidResponse),
    ("error_body", InvalidResponse),
    ("error_list", InvalidResponse),
    ("truncated_json", InvalidResponse),
    ("html_200", InvalidResponse),
    ("empty_body", InvalidResponse),
    ("empty_object", InvalidResponse),
    ("null", InvalidResponse),
    ("content_null", InvalidResponse),
    ("content_number", InvalidResponse),
    ("deep_json", AnswerTooLarge),
    ("huge_int", InvalidResponse),
    ("bad_utf8", InvalidResponse),
    ("corrupt_gzip", InvalidResponse),
    ("utf16", InvalidResponse),
    ("stream_close", BackendUnavailable),
    ("stream_reset", BackendUnavailable),
    ("stream_end", InvalidResponse),
    ("empty_stream", InvalidResponse),
    ("role_only", InvalidResponse),
    ("bad_line", InvalidResponse),
    ("giant_line", AnswerTooLarge),
    ("error_event", BackendUnavailable),
]


class TestFailures:
    @pytest.mark.parametrize(("kind", "expected"), FAILURES)
    async def test_each_has_its_class(
        self, provider: LoopbackProvider, kind: str, expected: type[BackendError]
    ) -> None:
        """A failure is of its class by type and status, is asked once, and survives pickling."""
        provider.huggingface.answer("one two three four")
        provider.huggingface.fault = Fault(kind, after=2)
        with pytest.raises(BackendError) as raised:
            await ask(backend(provider))
        assert type(raised.value) is expected
        assert (raised.value.backend, raised.value.model) == ("huggingface", MODEL)
        assert len(provider.huggingface.chats) == 1
        copy = pickle.loads(pickle.dumps(raised.value))
        assert (type(copy), str(copy), copy.status) == (
            expected,
            str(raised.value),
            raised.value.status,
        )

    async def test_refused_connections_and_hangs_are_unavailable(
        self, provider: LoopbackProvider
    ) -> None:
        """Nobody listening, or nobody answering."""
        provider.huggingface.fault = Fault("hang")
        limits = CallLimits(first_token=0.1, idle=0.1)
        with pytest.raises(BackendUnavailable):
            await ask(backend(provider, limits=limits))
        provider.huggingface.stop()
        with pytest.raises(BackendUnavailable, match="cannot connect"):
            await ask(backend(provider))

    @pytest.mark.parametrize(
        ("headers", "body", "seconds"),
        [
            ({"retry-after": "7"}, None, 7.0),
            ({"retry-after": "0"}, None, 1.0),
            ({"retry-after": "99999"}, None, 120.0),
            ({"retry-after": "9" * 400}, None, None),
            ({"retry-after": "nan"}, None, None),
            ({"retry-after": "-5"}, None, None),
            ({"retry-after": "soon"}, None, None),
            ({"retry-after": "Sun, 01 Jan 100000 00:00:00 GMT"}, None, None),
            ({"RateLimit": '"api";r=0;t=55'}, None, 55.0),
            ({}, {"error": "loading", "estimated_time": 900}, 60.0),
            ({}, {"error": "loading", "estimated_time": "x"}, None),
            ({}, None, None),
        ],
    )
    async def test_when_to_come_back_is_read_and_bounded(
        self,
        provider: LoopbackProvider,
        headers: dict[str, str],
        body: Any,
        seconds: float | None,
    ) -> None:
        """Retry-After, RateLimit and estimated_time; what is no time is None."""
        provider.huggingface.fault = Fault("status", status=429, headers=headers, body=body)
        with pytest.raises(BackendBusy) as busy:
            await ask(backend(provider))
        assert busy.value.retry_after == seconds

    async def test_a_date_to_come_back_is_read(self, provider: LoopbackProvider) -> None:
        """Retry-After as an HTTP date is the time until then."""
        began = time.time()
        at = int(began) + 100
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(at))
        provider.huggingface.fault = Fault("status", status=503, headers={"retry-after": date})
        with pytest.raises(BackendBusy) as busy:
            await ask(backend(provider))
        assert busy.value.retry_after is not None
        assert at - time.time() <= busy.value.retry_after <= at - began

    async def test_an_answer_that_is_all_thinking_is_none(self, provider: LoopbackProvider) -> None:
        """A limit spent on thinking leaves nothing to show, and says so."""
        provider.huggingface.answer(Reply("<think> so many thoughts", finish_reason="length"))
        with pytest.raises(InvalidResponse, match="token limit went into thinking"):
            await ask(backend(provider))

    @pytest.mark.parametrize(
        ("status", "fix"),
        [(401, "Make calls to Inference Providers"), (402, "billing"), (410, ROUTER)],
    )
    def test_the_router_says_what_to_do(self, status: int, fix: str) -> None:
        """What only the user can change is told with the way to change it."""
        with pytest.raises(BackendRefused, match=fix), HuggingFaceBackend(MODEL, "hf_x").door():
            raise HttpRefusal(status, {}, "no")


class TestConnections:
    def test_two_event_loops_in_a_row(self, provider: LoopbackProvider) -> None:
        """The same backend works in a second asyncio.run()."""
        provider.huggingface.answer("yes")
        door = backend(provider)
        for _ in range(2):
            assert asyncio.run(ask(door)).content == "yes"

    async def test_calls_share_one_connection(self, provider: LoopbackProvider) -> None:
        """A stream read to its end gives its connection back."""
        door = backend(provider)
        for _ in range(4):
            await ask(door)
        assert provider.huggingface.connections == 1

    async def test_leaving_early_ends_the_call_at_the_server(
        self, provider: LoopbackProvider
    ) -> None:
        """Whoever stops reading stops paying."""
        provider.huggingface.answer(Reply("word " * 500, token_delay=0.01))
        stream = backend(provider).stream(ASKED, PLAIN)
        await anext(stream)
        await stream.aclose()
        await asyncio.to_thread(provider.settle)
        assert provider.huggingface.chats[0].cancelled

    async def test_ollama_answers_through_its_openai_address(
        self, provider: LoopbackProvider
    ) -> None:
        """An address of one's own may be any OpenAI-speaking server, with its own schema form."""
        door = backend(provider, base_url=f"{provider.ollama_url}/v1", model="qwen3:8b", token=None)
        assert (await door.probe()).state == "up"
        message = await ask(door, CallOptions(output_schema=SCHEMA))
        assert message.content == '{"river": "loopback"}'
        assert provider.ollama.chats[0].schema == SCHEMA


class TestProbe:
    async def test_a_listed_model_is_up(self, provider: LoopbackProvider) -> None:
        """The free model list is enough."""
        found = await backend(provider).probe()
        assert (found.state, found.backend, found.model) == ("up", "huggingface", MODEL)
        assert MODEL in found.models
        assert provider.huggingface.chats == []

    async def test_the_router_needs_a_token(self, outside_connections: list[str]) -> None:
        """Without one it is not configured, and nothing is asked."""
        found = await HuggingFaceBackend(MODEL).probe()
        assert found.state == "unconfigured"
        assert "HF_TOKEN" in found.fix
        assert outside_connections == []

    async def test_the_dead_address_is_explained(self) -> None:
        """The old host says where to go, without being asked."""
        dead = "https://api-inference.huggingface.co"
        found = await HuggingFaceBackend(MODEL, "hf_x", dead).probe()
        assert found.state == "misconfigured"
        assert ROUTER in found.fix

    @pytest.mark.parametrize(
        ("fault", "state"),
        [
            (Fault("bad_token"), "misconfigured"),
            (Fault("bad_gateway"), "down"),
            (Fault("loading"), "loading"),
            (Fault("hang"), "down"),
            (Fault("reset"), "down"),
            (Fault("garbage_json"), "down"),
            (Fault("status", status=404), "up"),
        ],
    )
    async def test_what_it_makes_of_failures(
        self, provider: LoopbackProvider, fault: Fault, state: str
    ) -> None:
        """A wrong key is no outage; an own server that lists no models is asked its health."""
        provider.huggingface.probe_faults.append(fault)
        assert (await backend(provider).probe()).state == state

    async def test_nobody_there_is_down(self, provider: LoopbackProvider) -> None:
        """A refused connection is told as such."""
        provider.huggingface.stop()
        found = await backend(provider).probe()
        assert found.state == "down"
        assert "cannot connect" in found.detail
