"""The loopback providers keep the contract of the real ones, as the real clients see it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np
import ollama
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient, constants
from huggingface_hub.errors import BadRequestError, HfHubHTTPError

from tests.providers import (
    BODY,
    CONNECTION,
    DIALECTS,
    EMBEDDING,
    ERRORS,
    TRANSFER,
    Fault,
    LoopbackProvider,
    Reply,
    scripted,
    unit_vector,
)

ROOT = Path(__file__).parent.parent
HELLO = [{"role": "user", "content": "hello there"}]
CHAT = "/v1/chat/completions"
EXTRACTION = (
    "/hf-inference/models/sentence-transformers/all-MiniLM-L6-v2/pipeline/feature-extraction"
)
SIX_WORDS = "one two three four five six"
LONG = 30.0
"""Seconds of patience with who answers: the machine may have other things to do."""


@pytest.fixture(autouse=True)
def no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub client would ask huggingface.co who runs it before its first call."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)


@pytest.fixture
def native(provider: LoopbackProvider) -> Iterator[ollama.Client]:
    """The real Ollama client."""
    client = ollama.Client(host=provider.ollama_url, verify=False, trust_env=False)
    yield client
    client._client.close()


@pytest.fixture
def http(provider: LoopbackProvider) -> Iterator[httpx.Client]:
    """A bare client of the Ollama side."""
    with httpx.Client(
        base_url=provider.ollama_url, timeout=LONG, verify=False, trust_env=False
    ) as client:
        yield client


@pytest.fixture
def router(provider: LoopbackProvider) -> Iterator[httpx.Client]:
    """A bare client of the Hugging Face side."""
    headers = {"authorization": "Bearer hf_test"}
    with httpx.Client(
        base_url=provider.huggingface_url,
        timeout=LONG,
        headers=headers,
        verify=False,
        trust_env=False,
    ) as client:
        yield client


@pytest.fixture
def hub(provider: LoopbackProvider) -> Iterator[InferenceClient]:
    """The real Hugging Face client."""
    provider.huggingface.any_model = True
    with InferenceClient(base_url=provider.huggingface_url, api_key="hf_test") as client:
        yield client


def ask(**more: Any) -> dict[str, Any]:
    return {"model": "Qwen/Qwen3-8B", "messages": HELLO, **more}


def ask_native(**more: Any) -> dict[str, Any]:
    return {"model": "qwen3:8b", "messages": HELLO, **more}


def read_lines(client: httpx.Client, path: str, body: dict[str, Any]) -> list[str]:
    """The lines of a stream, without their ends."""
    with client.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        return list(response.iter_lines())


def until(condition: Callable[[], object]) -> None:
    """Wait until something has happened in the provider's thread."""
    ends = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


def error_of(response: httpx.Response) -> Any:
    return response.json()["error"]


class TestOllamaDiscovery:
    def test_says_it_is_running(self, http: httpx.Client) -> None:
        assert http.get("/").text == "Ollama is running"
        assert http.head("/").status_code == 200
        assert http.get("/api/version").json() == {"version": "0.32.15"}

    def test_lists_models_with_their_tags(
        self, provider: LoopbackProvider, native: ollama.Client
    ) -> None:
        provider.ollama.models = ["qwen3:8b", "all-minilm"]
        names = [model.model for model in native.list().models]
        assert names == ["qwen3:8b", "all-minilm:latest"]
        provider.ollama.models = []
        assert native.list().models == []

    def test_tags_carry_capabilities_from_0_30_on(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        row = http.get("/api/tags").json()["models"][0]
        assert row["capabilities"] == ["completion", "tools", "thinking"]
        assert len(row["digest"]) == 64
        provider.ollama.version = "0.24.0"
        assert "capabilities" not in http.get("/api/tags").json()["models"][0]

    def test_shows_a_model_named_without_its_tag(self, native: ollama.Client) -> None:
        shown = native.show("all-minilm")
        assert shown.capabilities == ["embedding"]
        assert shown.modelinfo is not None
        assert shown.modelinfo["bert.embedding_length"] == 384

    def test_show_names_the_missing_model_with_its_tag(self, native: ollama.Client) -> None:
        with pytest.raises(ollama.ResponseError, match="model 'nothing:latest' not found"):
            native.show("nothing")

    def test_unknown_paths_and_methods_are_plain_text(self, http: httpx.Client) -> None:
        assert (http.get("/nothing").status_code, http.get("/nothing").text) == (
            404,
            "404 page not found",
        )
        assert http.get("/api/chat").status_code == 405

    def test_probes_are_counted_and_load_nothing(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        for path in ("/api/version", "/api/tags", "/api/ps"):
            http.get(path)
        assert provider.ollama.probes == ["/api/version", "/api/tags", "/api/ps"]
        assert provider.calls["/api/tags"] == 1
        assert http.get("/api/ps").json() == {"models": []}


class TestOllamaChat:
    def test_answers_in_one_piece(self, provider: LoopbackProvider, native: ollama.Client) -> None:
        provider.ollama.answer({"hello": "good day"})
        answer = native.chat("qwen3:8b", HELLO, options={"temperature": 0}, format="json")
        assert (answer.message.content, answer.done_reason) == ("good day", "stop")
        (chat,) = provider.ollama.chats
        assert (chat.model, chat.messages, chat.stream) == ("qwen3:8b", HELLO, False)
        assert (chat.options, chat.format) == ({"temperature": 0}, "json")
        assert chat.finished
        assert not chat.cancelled

    def test_streams_lines_of_json_without_blank_ones(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        provider.ollama.answer(Reply("good day <b>", reasoning="hm", token_delay=0.001))
        lines = read_lines(http, "/api/chat", ask_native())
        pieces = [json.loads(line) for line in lines]
        assert all(isinstance(piece["message"]["content"], str) for piece in pieces)
        assert "".join(piece["message"]["content"] for piece in pieces) == "good day <b>"
        assert pieces[0]["message"]["thinking"] == "hm"
        assert "\\u003cb\\u003e" in lines[-2]
        assert [piece["done"] for piece in pieces] == [False] * 4 + [True]
        last = pieces[-1]
        assert last["done_reason"] == "stop"
        assert isinstance(last["eval_duration"], int)
        assert "prompt_eval_duration" not in last, "zero statistics are left out"
        assert pieces[0]["created_at"].endswith("Z")

    def test_streams_to_the_real_client(self, native: ollama.Client) -> None:
        pieces = list(native.chat("qwen3:8b", HELLO, stream=True))
        assert "".join(p.message.content or "" for p in pieces) == "You asked: hello there"
        assert pieces[-1].prompt_eval_count == 2

    def test_calls_tools_with_object_arguments(
        self, provider: LoopbackProvider, native: ollama.Client
    ) -> None:
        provider.ollama.answer(Reply(tool_calls=[("add", {"a": 1})]))
        pieces = list(native.chat("qwen3:8b", HELLO, stream=True))
        (call,) = pieces[0].message.tool_calls or []
        assert (call.function.name, call.function.arguments) == ("add", {"a": 1})
        assert pieces[-1].done_reason == "stop"

    def test_generates(self, native: ollama.Client) -> None:
        assert native.generate("qwen3:8b", "hi").response == "You asked: hi"
        pieces = list(native.generate("qwen3:8b", "hi", stream=True))
        assert "".join(piece.response or "" for piece in pieces) == "You asked: hi"

    def test_default_answer_obeys_the_schema(self, native: ollama.Client) -> None:
        schema = {
            "type": "object",
            "properties": {"steps": {"type": "array", "items": {"$ref": "#/$defs/Step"}}},
            "$defs": {"Step": {"type": "object", "properties": {"id": {"type": "integer"}}}},
        }
        answer = native.chat("qwen3:8b", HELLO, format=schema)
        assert json.loads(answer.message.content or "") == {"steps": [{"id": 1}]}

    @pytest.mark.parametrize(
        ("more", "status", "text"),
        [
            ({"model": ""}, 400, "model is required"),
            ({"model": "gone"}, 404, "model 'gone' not found"),
            ({"model": "all-minilm"}, 400, '"all-minilm" does not support chat'),
            ({"model": "llama3.2:3b", "think": True}, 400, '"llama3.2:3b" does not support'),
            ({"options": {"num_ctx": "8"}}, 500, 'option "num_ctx" must be of type integer'),
            ({"format": 7}, 500, "grammar"),
            ({"keep_alive": "5"}, 400, "missing unit in duration"),
        ],
    )
    def test_refuses_what_ollama_refuses(
        self, http: httpx.Client, more: dict[str, Any], status: int, text: str
    ) -> None:
        response = http.post("/api/chat", json=ask_native(**more))
        assert response.status_code == status
        assert text in error_of(response)

    def test_v1_wraps_errors_in_an_object(self, http: httpx.Client) -> None:
        response = http.post(CHAT, json=ask(model="gone"))
        assert response.status_code == 404
        assert error_of(response) == {
            "message": "model 'gone' not found",
            "type": "not_found_error",
            "param": None,
            "code": None,
        }
        response = http.post("/v1/embeddings", json={"model": "gone", "input": "a"})
        assert error_of(response)["message"] == 'model "gone" not found, try pulling it first'

    def test_v1_streams_by_version(self, provider: LoopbackProvider, http: httpx.Client) -> None:
        for version, fields in (("0.32.15", set()), ("0.32.5", {"role", "content"})):
            provider.ollama.version = version
            lines = read_lines(http, CHAT, ask(model="qwen3:8b", stream=True))
            finish = json.loads(lines[-4].removeprefix("data: "))["choices"][0]
            assert finish["finish_reason"] == "stop"
            assert set(finish["delta"]) == fields
            assert lines[-2] == "data: [DONE]"

    def test_v1_error_in_mid_stream_is_an_empty_chunk_and_the_end(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        provider.ollama.fault = Fault("error_event", after=1)
        lines = read_lines(http, CHAT, ask(model="qwen3:8b", stream=True))
        assert json.loads(lines[-2].removeprefix("data: "))["model"] == ""
        assert "data: [DONE]" not in lines


class TestOllamaScheduling:
    def test_a_cold_model_sends_nothing_until_it_is_loaded(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        provider.ollama.load_delay = 0.2
        start = time.monotonic()
        with http.stream("POST", "/api/chat", json=ask_native(options={"num_ctx": 2048})) as cold:
            waited = time.monotonic() - start
            last = json.loads(list(cold.iter_lines())[-1])
        assert waited >= 0.2
        assert last["load_duration"] >= 200_000_000
        (row,) = http.get("/api/ps").json()["models"]
        assert (row["name"], row["context_length"]) == ("qwen3:8b", 2048)
        assert row["expires_at"].endswith("Z")
        warm = http.post("/api/chat", json=ask_native(stream=False)).json()
        assert warm["load_duration"] < 10_000_000

    def test_another_context_size_loads_again(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        for size in (2048, 8192):
            http.post("/api/chat", json=ask_native(options={"num_ctx": size}))
            assert http.get("/api/ps").json()["models"][0]["context_length"] == size

    def test_empty_messages_load_and_unload(self, http: httpx.Client) -> None:
        loaded = http.post("/api/chat", json=ask_native(messages=[])).json()
        assert (loaded["done_reason"], loaded["message"]["content"]) == ("load", "")
        gone = http.post("/api/chat", json=ask_native(messages=[], keep_alive=0)).json()
        assert gone["done_reason"] == "unload"
        assert http.get("/api/ps").json() == {"models": []}

    def test_keep_alive_below_zero_is_for_ever(self, http: httpx.Client) -> None:
        http.post("/api/chat", json=ask_native(keep_alive=-1))
        assert http.get("/api/ps").json()["models"][0]["expires_at"] > "2300"

    def test_only_a_full_load_queue_is_busy(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        provider.ollama.max_queue = 0
        response = http.post("/api/chat", json=ask_native())
        assert response.status_code == 503
        assert error_of(response) == (
            "server busy, please try again.  maximum pending requests exceeded"
        )
        provider.ollama.max_queue = 512
        http.post("/api/chat", json=ask_native())
        provider.ollama.max_queue = 0
        assert http.post("/api/chat", json=ask_native()).status_code == 200

    def test_a_loaded_model_serves_its_slots_and_lets_the_others_wait(
        self, provider: LoopbackProvider
    ) -> None:
        provider.ollama.num_parallel = 1
        provider.ollama.answer(Reply("ok", delay=0.15))
        url = f"{provider.ollama_url}/api/chat"
        with ThreadPoolExecutor(3) as pool:
            answers = [
                pool.submit(
                    httpx.post,
                    url,
                    json=ask_native(),
                    timeout=LONG,
                    verify=False,
                    trust_env=False,
                )
                for _ in range(3)
            ]
        assert [answer.result().status_code for answer in answers] == [200] * 3
        ends = sorted(chat.ended_at or 0 for chat in provider.ollama.chats)
        assert [later - sooner >= 0.14 for sooner, later in pairwise(ends)] == [True, True]
        assert provider.ollama.peak >= 2


class TestOllamaOverflow:
    LONG: ClassVar = {"messages": [{"role": "user", "content": "word " * 5000}], "stream": False}

    def test_silent_truncation_keeps_half_the_window(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        body = ask_native(**self.LONG, options={"num_ctx": 4096})
        assert http.post("/api/chat", json=body).json()["prompt_eval_count"] == 2050
        assert provider.ollama.chats[0].truncated
        provider.ollama.version = "0.24.0"
        assert http.post("/api/chat", json=body).json()["prompt_eval_count"] == 4096

    def test_native_overflow_is_json_in_a_string(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        provider.ollama.overflow = "native"
        response = http.post("/api/chat", json=ask_native(**self.LONG))
        assert response.status_code == 400
        inner = json.loads(error_of(response))["error"]
        assert inner["type"] == "exceed_context_size_error"
        assert (inner["n_prompt_tokens"], inner["n_ctx"]) == (5000, 4096)

    def test_old_overflow_is_a_text(self, provider: LoopbackProvider, http: httpx.Client) -> None:
        provider.ollama.overflow = "text"
        response = http.post("/api/chat", json=ask_native(**self.LONG))
        assert response.status_code == 400
        assert error_of(response) == "the input length exceeds the context length"


class TestOllamaEmbeddings:
    def test_order_and_unit_length(self, native: ollama.Client) -> None:
        texts = ["red fox", "", "red fox", "blue sea"]
        vectors = np.array(native.embed("all-minilm", texts).embeddings)
        assert vectors.shape == (4, 384)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        assert np.array_equal(vectors[0], vectors[2])
        assert vectors[0] @ vectors[3] < 0.3

    def test_dimensions_are_cut_and_normalised_again(self, native: ollama.Client) -> None:
        (whole,) = native.embed("all-minilm", "red fox").embeddings
        (cut,) = native.embed("all-minilm", "red fox", dimensions=64).embeddings
        expected = np.array(whole[:64]) / np.linalg.norm(whole[:64])
        assert np.allclose(cut, expected, atol=1e-6)

    @pytest.mark.parametrize("nothing", [{"input": ""}, {"input": []}, {}])
    def test_empty_input_gives_no_vectors(
        self, http: httpx.Client, nothing: dict[str, Any]
    ) -> None:
        response = http.post("/api/embed", json={"model": "all-minilm", **nothing})
        assert (response.status_code, response.json()["embeddings"]) == (200, [])

    @pytest.mark.parametrize(
        ("body", "status", "text"),
        [
            ({"model": "gone", "input": "a"}, 404, 'model "gone" not found, try pulling it first'),
            ({"model": "all-minilm", "input": ["a", 1]}, 400, "invalid input type"),
            (
                {"model": "all-minilm", "input": ["a", "b " * 300], "truncate": False},
                400,
                "the input length exceeds the context length",
            ),
            ({"model": "qwen3:8b", "input": "a"}, 501, "support embeddings"),
        ],
    )
    def test_errors(self, http: httpx.Client, body: dict[str, Any], status: int, text: str) -> None:
        response = http.post("/api/embed", json=body)
        assert response.status_code == status
        assert text in error_of(response)

    def test_truncates_silently(self, native: ollama.Client) -> None:
        short, long = "fox " * 254, "fox " * 254 + "sea " * 300
        answer = native.embed("all-minilm", [short, long])
        assert answer.embeddings[0] == answer.embeddings[1]
        assert answer.prompt_eval_count == 512

    def test_nan_is_refused_for_the_whole_batch(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        provider.ollama.embed_fault = Fault("nan_vectors")
        response = http.post("/api/embed", json={"model": "all-minilm", "input": ["a", "b"]})
        assert (response.status_code, error_of(response)) == (
            400,
            "embedding contains NaN or Inf values",
        )

    def test_the_old_endpoint_does_not_normalise(self, native: ollama.Client) -> None:
        vector = native.embeddings("all-minilm", "red fox").embedding
        assert np.linalg.norm(vector) > 10
        assert native.embeddings("all-minilm", "").embedding == []

    def test_a_model_is_one_space_on_both_backends(
        self, native: ollama.Client, router: httpx.Client
    ) -> None:
        (here,) = native.embed("all-minilm", "red fox").embeddings
        (there,) = router.post(EXTRACTION, json={"inputs": "red fox"}).json()
        assert np.allclose(here, there)
        assert not np.allclose(here, unit_vector("red fox", "BAAI/bge-small-en-v1.5"))


class TestRouter:
    def test_answers_in_one_piece(self, provider: LoopbackProvider, hub: InferenceClient) -> None:
        provider.huggingface.answer(Reply("good day", finish_reason="length"))
        answer = hub.chat_completion(HELLO, max_tokens=9, temperature=0.5)
        assert answer.choices[0].message.content == "good day"
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.prompt_tokens == 2
        (chat,) = provider.huggingface.chats
        assert chat.headers["authorization"] == "Bearer hf_test"
        assert (chat.options["max_tokens"], chat.options["temperature"]) == (9, 0.5)
        assert chat.finished

    def test_names_who_served(self, router: httpx.Client) -> None:
        assert router.post(CHAT, json=ask()).headers["x-inference-provider"] == "loopback"

    def test_takes_a_provider_suffix(self, router: httpx.Client) -> None:
        assert router.post(CHAT, json=ask(model="Qwen/Qwen3-8B:fastest")).status_code == 200

    def test_refuses_an_unknown_model(self, router: httpx.Client) -> None:
        response = router.post(CHAT, json=ask(model="no/such"))
        assert response.status_code == 400
        assert error_of(response)["code"] == "model_not_supported"

    def test_models_are_open_and_chat_is_not(
        self, provider: LoopbackProvider, router: httpx.Client
    ) -> None:
        provider.huggingface.token = "hf_right"
        listed = router.get("/v1/models", headers={"authorization": ""}).json()["data"]
        assert [row["id"] for row in listed] == provider.huggingface.models
        assert listed[0]["providers"][0]["status"] == "live"
        assert router.post(CHAT, json=ask()).status_code == 401
        assert router.get("/api/whoami-v2").status_code == 401
        right = {"authorization": "Bearer hf_right"}
        assert router.post(CHAT, json=ask(), headers=right).status_code == 200

    def test_has_no_embeddings_route(self, router: httpx.Client) -> None:
        response = router.post("/v1/embeddings", json={"input": "a"})
        assert (response.status_code, response.text) == (404, "Not Found")

    def test_whoami_tells_the_rights(
        self, provider: LoopbackProvider, router: httpx.Client
    ) -> None:
        assert router.get("/api/whoami-v2").json()["auth"]["accessToken"]["role"] == "write"
        provider.huggingface.role = "fineGrained"
        provider.huggingface.permissions = []
        token = router.get("/api/whoami-v2").json()["auth"]["accessToken"]
        assert token["fineGrained"]["scoped"][0]["permissions"] == []

    def test_schema_is_read_in_both_spellings(
        self, provider: LoopbackProvider, router: httpx.Client
    ) -> None:
        schema = {"type": "object", "properties": {"a": {"type": "string"}}}
        for wanted in (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
            {"type": "json_object", "value": schema},
        ):
            answer = router.post(CHAT, json=ask(response_format=wanted)).json()
            content = answer["choices"][0]["message"]["content"]
            assert json.loads(content) == {"a": "loopback"}

    @pytest.mark.anyio
    async def test_streams_to_the_asynchronous_client(self, provider: LoopbackProvider) -> None:
        provider.huggingface.any_model = True
        async with AsyncInferenceClient(
            base_url=provider.huggingface_url, api_key="hf_test"
        ) as client:
            stream = await client.chat_completion(HELLO, stream=True)
            texts = [chunk.choices[0].delta.content async for chunk in stream]
        assert "".join(text or "" for text in texts) == "You asked: hello there"

    @pytest.mark.parametrize("kind", sorted(ERRORS))
    def test_every_error_row(
        self, provider: LoopbackProvider, router: httpx.Client, kind: str
    ) -> None:
        provider.huggingface.fault = Fault(kind, headers={"x-extra": "1"})
        if kind == "switching_protocols":
            with pytest.raises(httpx.RemoteProtocolError, match="SWITCH_UPGRADE"):
                router.post(CHAT, json=ask())
            return
        response = router.post(CHAT, json=ask())
        row = ERRORS[kind]
        assert response.status_code == row.status
        assert response.headers["x-extra"] == "1"
        if isinstance(row.body, dict):
            assert response.json() == row.body
        else:
            expected = row.body if isinstance(row.body, bytes) else row.body.encode()
            assert response.content == expected

    @pytest.mark.parametrize("envelope", ["string", "object", "text", "html", "detail", "message"])
    def test_every_status_in_every_envelope(
        self, provider: LoopbackProvider, router: httpx.Client, envelope: str
    ) -> None:
        for status in (400, 405, 408, 409, 415, 451, 501, 520, 529, 599):
            provider.huggingface.fault = Fault("status", status=status, envelope=envelope)
            response = router.post(CHAT, json=ask())
            assert response.status_code == status
            assert ("json" in response.headers.get("content-type", "")) == (
                envelope not in ("text", "html")
            )

    @pytest.mark.parametrize(
        "value", ["1", "Wed, 21 Oct 2026 07:28:00 GMT", "-5", "soon", "9" * 400]
    )
    def test_retry_after_is_sent_as_given(
        self, provider: LoopbackProvider, hub: InferenceClient, value: str
    ) -> None:
        provider.huggingface.fault = Fault("rate_limit", headers={"Retry-After": value})
        with pytest.raises(HfHubHTTPError) as caught:
            hub.chat_completion(HELLO)
        assert caught.value.response.headers["retry-after"] == value

    def test_the_real_client_reads_string_and_object_errors(
        self, provider: LoopbackProvider, hub: InferenceClient
    ) -> None:
        provider.huggingface.faults += [Fault("model_not_supported"), Fault("out_of_credit"), None]
        with pytest.raises(BadRequestError, match="model_not_supported"):
            hub.chat_completion(HELLO)
        with pytest.raises(HfHubHTTPError, match="depleted your monthly"):
            hub.chat_completion(HELLO)
        assert hub.chat_completion(HELLO).choices[0].message.content
        assert [chat.status for chat in provider.huggingface.chats] == [400, 402, 200]


class TestDialects:
    @pytest.mark.parametrize("dialect", sorted(set(DIALECTS) - {"tgi2"}))
    def test_the_real_client_reads_each(
        self, provider: LoopbackProvider, hub: InferenceClient, dialect: str
    ) -> None:
        provider.huggingface.dialect = dialect
        provider.huggingface.answer("Grüße aus 東京 🗼 here")
        texts, finish = [], None
        try:
            for chunk in hub.chat_completion(HELLO, stream=True):
                for choice in chunk.choices:
                    texts.append(choice.delta.content or "")
                    finish = choice.get("finish_reason") or finish
        except json.JSONDecodeError:
            assert dialect == "cerebras", "only cerebras ends with a stray quote"
        assert "".join(texts) == "Grüße aus 東京 🗼 here"
        assert finish == ("eos" if dialect == "together" else "stop")

    def chunks(self, router: httpx.Client, **more: Any) -> list[Any]:
        lines = read_lines(router, CHAT, ask(stream=True, **more))
        data = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
        return [item if item == "[DONE]" else json.loads(item) for item in data]

    def test_tgi_2_sends_its_special_token_and_no_done(
        self, provider: LoopbackProvider, router: httpx.Client
    ) -> None:
        provider.huggingface.dialect = "tgi2"
        *_, last = self.chunks(router)
        assert last["choices"][0]["delta"]["content"] == "</s>"
        assert last["choices"][0]["finish_reason"] == "eos_token"
        assert last["object"] == "text_completion"

    def test_usage_is_where_the_dialect_has_it(
        self, provider: LoopbackProvider, router: httpx.Client
    ) -> None:
        include = {"stream_options": {"include_usage": True}}
        found = {}
        for name in ("tgi3", "openai", "together", "hyperbolic", "nebius"):
            provider.huggingface.dialect = name
            chunks = [chunk for chunk in self.chunks(router, **include) if chunk != "[DONE]"]
            places = [index for index, chunk in enumerate(chunks) if "usage" in chunk]
            found[name] = (len(places), [bool(chunks[place]["choices"]) for place in places[-1:]])
        assert found == {
            "tgi3": (1, [False]),
            "openai": (1, [False]),
            "together": (1, [True]),
            "hyperbolic": (5, [True]),
            "nebius": (0, []),
        }

    def test_cerebras_leaves_finish_reason_out_until_the_end(
        self, provider: LoopbackProvider, router: httpx.Client
    ) -> None:
        provider.huggingface.dialect = "cerebras"
        chunks = self.chunks(router)
        assert ["finish_reason" in chunk["choices"][0] for chunk in chunks] == [
            *[False] * (len(chunks) - 1),
            True,
        ]

    def test_novita_joins_the_last_token_and_the_finish(
        self, provider: LoopbackProvider, router: httpx.Client
    ) -> None:
        provider.huggingface.dialect = "novita"
        choice = self.chunks(router)[-2]["choices"][0]
        assert (choice["delta"]["content"], choice["finish_reason"]) == (" there", "stop")

    @pytest.mark.parametrize("kind", ["crlf", "comments", "split_utf8", "no_done"])
    def test_oddities_are_read_by_the_real_client(
        self, provider: LoopbackProvider, hub: InferenceClient, kind: str
    ) -> None:
        provider.huggingface.fault = Fault(kind)
        provider.huggingface.answer("Grüße aus 東京 🗼")
        stream = hub.chat_completion(HELLO, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in stream) == "Grüße aus 東京 🗼"

    def test_split_utf8_puts_chunk_borders_inside_characters(
        self, provider: LoopbackProvider, router: httpx.Client
    ) -> None:
        provider.huggingface.fault = Fault("split_utf8")
        provider.huggingface.answer("東京")
        with router.stream("POST", CHAT, json=ask(stream=True)) as response:
            pieces = list(response.iter_raw())
        broken = [piece for piece in pieces if "�" in piece.decode("utf-8", "replace")]
        assert broken

    def test_done_without_a_blank(self, provider: LoopbackProvider, router: httpx.Client) -> None:
        provider.huggingface.fault = Fault("done_glued")
        assert "data:[DONE]" in read_lines(router, CHAT, ask(stream=True))


class TestFeatureExtraction:
    @pytest.mark.parametrize(
        ("shape", "inputs", "expected"),
        [
            ("tei", "a b", (1, 384)),
            ("tei", ["a", "b"], (2, 384)),
            ("pooled", "a b", (384,)),
            ("pooled", ["a", "b"], (2, 384)),
            ("unpooled", "a b", (1, 4, 384)),
            ("unpooled", ["a", "b"], (2, 1, 3, 384)),
        ],
    )
    def test_shapes(
        self,
        provider: LoopbackProvider,
        router: httpx.Client,
        shape: str,
        inputs: Any,
        expected: tuple[int, ...],
    ) -> None:
        provider.huggingface.embedding_shape = shape
        assert np.array(router.post(EXTRACTION, json={"inputs": inputs}).json()).shape == expected

    def test_the_real_client(self, provider: LoopbackProvider) -> None:
        url = provider.huggingface_url + EXTRACTION
        with InferenceClient(model=url, api_key="hf_test") as client:
            vector = client.feature_extraction("red fox")
        assert vector.shape == (1, 384)
        assert provider.huggingface.embeddings[0].texts == ["red fox"]

    def test_unknown_model(self, router: httpx.Client) -> None:
        response = router.post("/hf-inference/models/no/such", json={"inputs": "a"})
        assert (response.status_code, error_of(response)) == (404, "Model no/such does not exist")

    @pytest.mark.parametrize("kind", sorted(EMBEDDING))
    def test_every_embedding_fault_changes_the_vectors(
        self, provider: LoopbackProvider, router: httpx.Client, kind: str
    ) -> None:
        healthy = router.post(EXTRACTION, json={"inputs": ["a", "b", "c"]}).json()
        provider.huggingface.embed_fault = Fault(kind)
        broken = router.post(EXTRACTION, json={"inputs": ["a", "b", "c"]}).json()
        assert broken != healthy
        counts = {"too_few": 2, "too_many": 4, "empty": 0}
        assert len(broken) == counts.get(kind, 3)


class TestTei:
    def test_embeds_and_describes_itself(self, router: httpx.Client) -> None:
        response = router.post("/embed", json={"inputs": "red fox"})
        assert np.array(response.json()).shape == (1, 384)
        assert response.headers["x-compute-tokens"] == "2"
        assert router.get("/info").json()["max_client_batch_size"] == 32
        assert router.get("/health").content == b""

    def test_refuses_a_large_batch(self, router: httpx.Client) -> None:
        response = router.post("/embed", json={"inputs": ["a"] * 33})
        assert response.status_code == 422
        assert response.json() == {
            "error": "batch size 33 > maximum allowed batch size 32",
            "error_type": "Validation",
        }

    def test_refuses_nothing_too_much_and_strangers(
        self, provider: LoopbackProvider, router: httpx.Client
    ) -> None:
        assert router.post("/embed", json={"inputs": []}).json()["error_type"] == "Empty"
        provider.huggingface.tei_permits = 2
        response = router.post("/embed", json={"inputs": ["a"] * 3})
        assert (response.status_code, response.json()["error_type"]) == (429, "Overloaded")
        provider.huggingface.token = "hf_right"
        response = router.post("/embed", json={"inputs": "a"})
        assert (response.status_code, response.content) == (401, b"")
        assert router.get("/health").status_code == 200

    def test_v1_embeddings_have_a_flat_error(
        self, provider: LoopbackProvider, router: httpx.Client
    ) -> None:
        provider.huggingface.openai_embeddings = True
        answer = router.post("/v1/embeddings", json={"input": ["a", "b"]}).json()
        assert [row["index"] for row in answer["data"]] == [0, 1]
        provider.huggingface.embed_faults.append(Fault("shuffled"))
        shuffled = router.post("/v1/embeddings", json={"input": ["a", "b"]}).json()
        assert shuffled["data"] == answer["data"][::-1]
        refused = router.post("/v1/embeddings", json={"input": ["a"] * 33})
        assert set(refused.json()) == {"message", "code", "type"}

    def test_endpoint_wakes_up(self, provider: LoopbackProvider, router: httpx.Client) -> None:
        provider.huggingface.probe_faults += [Fault("scaled_to_zero"), Fault("bad_gateway"), None]
        assert [router.get("/health").status_code for _ in range(3)] == [503, 502, 200]


def outcome(client: httpx.Client, path: str, body: dict[str, Any], patience: float = LONG) -> Any:
    """The error class, or the body of a 200."""
    try:
        response = client.post(path, json=body, timeout=httpx.Timeout(LONG, read=patience))
    except httpx.HTTPError as error:
        return type(error)
    assert response.status_code == 200
    return response.content


FLAWS = (ValueError, RecursionError, KeyError, TypeError, IndexError, AttributeError)


def strictly_read(content: bytes) -> Any:
    """The text or the vectors of a whole answer; raises when it is not flawless."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a name occurs twice")
        return dict(pairs)

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    document = json.loads(content, parse_constant=constant, object_pairs_hook=unique)
    if isinstance(document, dict) and "embeddings" in document:
        document = document["embeddings"]
    if isinstance(document, list):
        vectors = np.array(document, dtype=float)
        if vectors.ndim != 2:
            raise ValueError("vectors were expected")
        return vectors
    message = document["choices"][0]["message"] if "choices" in document else document["message"]
    message["content"].encode()
    if "\0" in message["content"]:
        raise ValueError("NUL")
    return message["content"]


class TestFaults:
    def test_an_unknown_name_is_refused(self) -> None:
        with pytest.raises(ValueError, match="unknown fault 'no_such'"):
            Fault("no_such")

    @pytest.mark.parametrize("kind", sorted(CONNECTION))
    def test_no_answer_before_the_header(
        self, provider: LoopbackProvider, http: httpx.Client, kind: str
    ) -> None:
        provider.ollama.fault = Fault(kind)
        hangs = kind in ("hang", "half_header")
        result = outcome(http, "/api/chat", ask_native(), patience=0.3 if hangs else LONG)
        if kind in ("http_9", "many_headers", "length_and_chunked"):
            assert result in (b"{}", httpx.RemoteProtocolError), "httpx may read these"
        else:
            assert issubclass(result, httpx.TransportError)
        expected = {
            "reset": httpx.ReadError,
            "close": httpx.RemoteProtocolError,
            "hang": httpx.ReadTimeout,
            "half_header": httpx.ReadTimeout,
        }
        assert result is expected.get(kind, result)

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("kind", sorted(BODY))
    def test_no_body_fault_is_a_healthy_answer(
        self, provider: LoopbackProvider, kind: str, stream: bool
    ) -> None:
        sides = [
            (provider.huggingface_url + CHAT, ask(stream=stream)),
            (provider.ollama_url + "/api/chat", ask_native(stream=stream)),
            (provider.huggingface_url + EXTRACTION, {"inputs": ["a", "b"]}),
            (provider.ollama_url + "/api/embed", {"model": "all-minilm", "input": "a"}),
        ]
        for side in (provider.huggingface, provider.ollama):
            side.fault = side.embed_fault = Fault(kind)
        with httpx.Client(timeout=LONG, verify=False, trust_env=False) as client:
            for url, body in sides:
                content = client.post(url, json=body).content
                assert content, url
                with pytest.raises(FLAWS):
                    strictly_read(content)

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("kind", sorted(TRANSFER - {"gzip_bomb", "slow_first_byte"}))
    def test_transfer_faults(
        self, provider: LoopbackProvider, http: httpx.Client, kind: str, stream: bool
    ) -> None:
        provider.ollama.fault = Fault(kind, seconds=0.2)
        expected: dict[str, Any] = {
            "corrupt_gzip": httpx.DecodingError,
            "length_too_long": httpx.RemoteProtocolError,
            "reset_in_body": httpx.ReadError,
            "empty_body": b"",
        }
        if kind in ("infinite_body", "dribble"):
            few, started = 4, time.monotonic()
            self.read_bytes(http, stream, 1_000_000 if kind == "infinite_body" else few)
            if kind == "dribble":
                assert time.monotonic() - started >= 0.2 * (few - 1)
            return
        result = outcome(http, "/api/chat", ask_native(stream=stream))
        assert result == expected.get(kind, result)
        if kind == "bom":
            assert result.startswith(b"\xef\xbb\xbf{")

    def read_bytes(self, client: httpx.Client, stream: bool, enough: int) -> None:
        """Read so many bytes of an answer, and leave."""
        with client.stream("POST", "/api/chat", json=ask_native(stream=stream)) as response:
            seen = 0
            for piece in response.iter_raw():
                seen += len(piece)
                if seen >= enough:
                    return
        raise AssertionError(f"it ended after {seen} bytes")

    def test_a_gzip_bomb_is_small_on_the_wire(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        provider.ollama.fault = Fault("gzip_bomb", size=10_000_000)
        with http.stream("POST", "/api/chat", json=ask_native()) as response:
            assert int(response.headers["content-length"]) < 20_000
            assert sum(map(len, response.iter_bytes())) >= 9_000_000

    def test_slow_first_byte(self, provider: LoopbackProvider, http: httpx.Client) -> None:
        provider.ollama.fault = Fault("slow_first_byte", seconds=0.1)
        start = time.monotonic()
        assert http.post("/api/chat", json=ask_native()).status_code == 200
        assert time.monotonic() - start >= 0.1

    @pytest.mark.parametrize("side", ["huggingface", "ollama"])
    @pytest.mark.parametrize("after", [0, 1, 5])
    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("stream_reset", httpx.ReadError),
            ("line_reset", httpx.ReadError),
            ("stream_close", httpx.RemoteProtocolError),
            ("bad_chunk_size", httpx.RemoteProtocolError),
            ("stream_stall", httpx.ReadTimeout),
            ("stream_end", None),
            ("bad_line", None),
            ("error_event", None),
        ],
    )
    def test_streams_break_after_n_tokens(
        self, provider: LoopbackProvider, side: str, after: int, kind: str, expected: Any
    ) -> None:
        served = provider.huggingface if side == "huggingface" else provider.ollama
        served.answer(SIX_WORDS)
        served.fault = Fault(kind, after=after)
        path, body = (
            (CHAT, ask(stream=True)) if side == "huggingface" else ("/api/chat", ask_native())
        )
        got, error = b"", None
        # Who waits for what never comes needs time to read what came before.
        limits = httpx.Timeout(LONG, read=1.0 if kind == "stream_stall" else LONG)
        with httpx.Client(
            base_url=served.url, timeout=limits, verify=False, trust_env=False
        ) as client:
            try:
                with client.stream("POST", path, json=body) as response:
                    for piece in response.iter_bytes():
                        got += piece
            except httpx.HTTPError as caught:
                error = type(caught)
        assert error is expected
        words = SIX_WORDS.split()
        assert [word.encode() in got for word in words[:after]] == [True] * after
        whole = b'"content":' in got and f' {words[after]}"'.encode() in got
        assert not whole
        assert b'"stop"' not in got
        provider.settle()
        assert served.chats[0].finished == (expected is None)

    def test_empty_and_role_only_streams(
        self, provider: LoopbackProvider, router: httpx.Client
    ) -> None:
        provider.huggingface.dialect = "openai"
        provider.huggingface.faults += [Fault("empty_stream"), Fault("role_only")]
        assert read_lines(router, CHAT, ask(stream=True)) == []
        (line, _) = read_lines(router, CHAT, ask(stream=True))
        choice = json.loads(line.removeprefix("data: "))["choices"][0]
        assert choice["delta"] == {"role": "assistant", "content": ""}

    def test_error_events_are_read_by_the_real_clients(
        self, provider: LoopbackProvider, hub: InferenceClient, native: ollama.Client
    ) -> None:
        for side in (provider.huggingface, provider.ollama):
            side.fault = Fault("error_event", after=1)
        with pytest.raises(ollama.ResponseError) as caught:
            list(native.chat("qwen3:8b", HELLO, stream=True))
        assert caught.value.status_code == -1
        with pytest.raises(Exception, match="Request failed during generation"):
            list(hub.chat_completion(HELLO, stream=True))

    def test_real_clients_take_a_cut_stream_for_an_answer(
        self, provider: LoopbackProvider, hub: InferenceClient, native: ollama.Client
    ) -> None:
        """Why the caller must look for finish_reason and done."""
        for side in (provider.huggingface, provider.ollama):
            side.fault = Fault("stream_end", after=2)
        pieces = list(native.chat("qwen3:8b", HELLO, stream=True))
        assert ([p.done for p in pieces], pieces[-1].done_reason) == ([False, False], None)
        chunks = list(hub.chat_completion(HELLO, stream=True))
        assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None]

    def test_endless_comments_and_a_giant_line(
        self, provider: LoopbackProvider, router: httpx.Client
    ) -> None:
        provider.huggingface.faults += [
            Fault("endless_comments", seconds=0.001),
            Fault("giant_line", size=3_000_000),
        ]
        with router.stream("POST", CHAT, json=ask(stream=True)) as response:
            lines = response.iter_lines()
            assert [next(lines) for _ in range(4)] == [": keep-alive", ""] * 2
        longest = max(map(len, read_lines(router, CHAT, ask(stream=True))))
        assert longest >= 2_000_000

    def test_probes_fail_on_their_own(self, provider: LoopbackProvider, http: httpx.Client) -> None:
        provider.ollama.probe_fault = Fault("null")
        assert http.get("/api/tags").json() is None
        assert http.post("/api/chat", json=ask_native()).status_code == 200

    def test_the_same_connection_serves_after_an_error(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        provider.ollama.faults += [Fault("status", status=503), None]
        assert [http.post("/api/chat", json=ask_native()).status_code for _ in range(2)] == [
            503,
            200,
        ]


class TestLifecycle:
    def test_stopped_is_refused_and_comes_back_on_the_same_port(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        assert http.get("/api/version").status_code == 200
        provider.ollama.stop()
        for _ in range(2):
            with pytest.raises(httpx.ConnectError):
                http.get("/api/version")
        assert provider.ollama.connections == 0
        provider.ollama.start()
        assert http.get("/api/version").status_code == 200
        assert provider.ollama.connections == 1

    def test_a_client_that_leaves_is_seen(self, provider: LoopbackProvider) -> None:
        for side, path in ((provider.huggingface, CHAT), (provider.ollama, "/api/chat")):
            side.answer(Reply(SIX_WORDS, token_delay=3600))
            body = ask(stream=True) if path == CHAT else ask_native()
            with (
                httpx.Client(
                    base_url=side.url, timeout=LONG, verify=False, trust_env=False
                ) as client,
                client.stream("POST", path, json=body) as response,
            ):
                next(response.iter_bytes())
            provider.settle()
            assert (side.chats[0].cancelled, side.chats[0].finished) == (True, False)

    def test_a_client_that_leaves_a_queue_frees_its_place(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        provider.ollama.num_parallel = 1
        provider.ollama.answer(Reply("ok", delay=3600))
        for _ in range(2):
            with pytest.raises(httpx.ReadTimeout):
                http.post("/api/chat", json=ask_native(), timeout=httpx.Timeout(LONG, read=0.1))
        until(lambda: len(provider.ollama.chats) == 2)
        provider.settle()
        assert [chat.cancelled for chat in provider.ollama.chats] == [True, True]
        provider.ollama.answer("ok")
        assert http.post("/api/chat", json=ask_native()).status_code == 200

    def test_an_unscripted_question_reaches_the_test(
        self, provider: LoopbackProvider, http: httpx.Client
    ) -> None:
        provider.ollama.respond = scripted({"capital": "Paris"})
        assert http.post("/api/chat", json=ask_native()).status_code == 500
        (complaint,) = provider.unexpected
        assert "no answer scripted for: 'hello there'" in complaint
        provider.ollama.unexpected.clear()

    def test_answers_in_turn(self, provider: LoopbackProvider, native: ollama.Client) -> None:
        provider.ollama.answer(["first", Reply("second", input_tokens=7, output_tokens=9)])
        assert native.chat("qwen3:8b", HELLO).message.content == "first"
        second = native.chat("qwen3:8b", HELLO)
        assert (second.prompt_eval_count, second.eval_count) == (7, 9)

    def test_pace(self, provider: LoopbackProvider, native: ollama.Client) -> None:
        provider.ollama.answer(Reply(SIX_WORDS, tokens_per_second=5, first_token_delay=0.05))
        start = time.monotonic()
        times = [time.monotonic() - start for _ in native.chat("qwen3:8b", HELLO, stream=True)]
        assert times[0] >= 0.05
        assert times[-1] >= 1.05
        assert times[-1] - times[0] >= 0.03, "not all at once at the end"

    def test_runs_in_a_process_of_its_own(self, tmp_path: Path) -> None:
        script = {
            "huggingface": {"answers": {"hello": "good day"}, "any_model": True},
            "ollama": {"models": ["llama3"], "probe_fault": {"kind": "loading"}},
        }
        (tmp_path / "script.json").write_text(json.dumps(script), "utf-8")
        command = [sys.executable, "-m", "tests.providers", "--script", "script.json"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
        ) as process:
            assert process.stdout
            try:
                lines = [process.stdout.readline().strip() for _ in range(2)]
                urls = dict(line.split("=", 1) for line in lines)
                url = urls["HUGGINGFACE_BASE_URL"] + CHAT
                answer = httpx.post(url, json=ask(), timeout=LONG).json()
                assert answer["choices"][0]["message"]["content"] == "good day"
                tags = httpx.get(urls["OLLAMA_HOST"] + "/api/tags", timeout=LONG)
                assert tags.status_code == 503
            finally:
                process.terminate()
        assert process.returncode == 0


class TestSurroundings:
    def test_the_environment_is_clean(self, tmp_path: Path) -> None:
        assert [name for name in os.environ if name.startswith(("HF_", "OLLAMA_"))] == []
        assert os.environ["HOPTRAIL_HOME"] == str(tmp_path / "home")
        assert Path.home() == tmp_path / "user"
        assert Path.cwd() == tmp_path

    def test_nothing_leaves_the_machine(self, outside_connections: list[str]) -> None:
        with socket.socket() as sock, pytest.raises(OSError, match="tried to reach 192"):
            sock.connect(("192.0.2.1", 80))
        with pytest.raises(httpx.ConnectError):
            httpx.get("http://router.huggingface.co/v1/models", verify=False, trust_env=False)
        assert outside_connections == ["192.0.2.1", "router.huggingface.co"]
        outside_connections.clear()

    @pytest.mark.anyio
    async def test_nothing_leaves_the_machine_by_the_event_loop(
        self, outside_connections: list[str]
    ) -> None:
        async with httpx.AsyncClient(verify=False, trust_env=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get("http://192.0.2.1/")
        assert outside_connections
        outside_connections.clear()
