"""The older system's routes: their shapes, who answers, and what happens when nobody can."""

from __future__ import annotations

import json
from collections.abc import Iterator
from threading import Event
from typing import Any

import httpx
import pytest

from hoptrail import Hoptrail, Settings, load_settings
from hoptrail.embeddings import HashEmbedder
from tests.providers import Fault, LoopbackProvider, Reply, unit_vector
from tests.providers.script import Call
from tests.raw import connected
from tests.raw import post as request_of
from tests.serving import Server, served
from tests.test_server_clients import wait_for

KEY = "hf_CanaryKeyThatNobodyMaySee"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
TALK = [{"role": "user", "content": "Která řeka? 🌊"}]
FAILURES = {
    "reset": Fault("reset"),
    "500": Fault("server_error_html"),
    "401": Fault("bad_token"),
    "429": Fault("rate_limit", headers={"Retry-After": "30"}),
    "loading": Fault("loading"),
    "wrong vectors": Fault("nan_vectors"),
}


def settings_of(provider: LoopbackProvider, **given: Any) -> Settings:
    flags = {
        "token": KEY,
        "huggingface_base_url": provider.huggingface_url,
        "ollama_host": provider.ollama_url,
        "backends": "huggingface,ollama,extractive",
        "embedders": "huggingface,ollama,hash",
        # What a client's leaving ends, nothing else ends before.
        "first_byte_timeout": 3600.0,
        "idle_timeout": 3600.0,
    }
    return load_settings(**(flags | given))


@pytest.fixture
def server(provider: LoopbackProvider) -> Iterator[Server]:
    provider.ollama.models = ["qwen3:8b", "all-minilm"]
    with served(provider, build=lambda: Hoptrail(settings=settings_of(provider))) as server:
        yield server


def post(server: Server, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, timeout=30)


def get(server: Server, path: str) -> httpx.Response:
    return httpx.get(f"{server.url}{path}", timeout=30)


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Read server-sent events: the name, and the data as JSON."""
    told = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if "data" in fields:
            told.append((fields.get("event", "message"), json.loads(fields["data"])))
    return told


def wait_until_idle(server: Server, provider: LoopbackProvider) -> None:
    """Wait until the server has nothing under way, and asks nobody."""
    wait_for(lambda: server.live == 0)
    provider.settle(30)


def leave_when_asked(server: Server, provider: LoopbackProvider, path: str, **body: Any) -> Call:
    """Ask, and leave when the provider is being asked; give the call that it is asked by."""
    side = provider.huggingface

    def under_way() -> list[Call]:
        calls: list[Call] = [*side.chats, *side.embeddings]
        return [call for call in calls if call.ended_at is None]

    with connected(server.port) as client:
        client.sendall(request_of(path, body))
        wait_for(lambda: bool(under_way()))
        (call,) = under_way()
    return call


class TestEmbedding:
    def test_a_text_has_the_older_systems_shape_and_says_where_it_comes_from(
        self, server: Server
    ) -> None:
        response = post(server, "/huggingface/embedding", text="Háj ve stínu, 雪")
        assert response.status_code == 200
        told = response.json()
        assert told["embedding"] == pytest.approx(unit_vector("Háj ve stínu, 雪", MINILM), abs=1e-6)
        assert (told["dimensions"], told["model"]) == (384, MINILM)
        assert (told["backend"], told["fallback"]) == ("huggingface", False)
        assert told["space"].startswith(f"huggingface:{MINILM}:")
        assert response.headers["deprecation"].startswith("@")
        assert response.headers["link"] == '</v1/embeddings>; rel="successor-version"'

    def test_a_batch_keeps_the_order(self, server: Server) -> None:
        texts = [f"text {number}" for number in range(70)]
        told = post(server, "/huggingface/embedding/batch", texts=texts).json()
        assert told["dimensions"] == 384
        for vector, text in zip(told["embeddings"], texts, strict=True):
            assert vector == pytest.approx(unit_vector(text, MINILM), abs=1e-6)

    @pytest.mark.parametrize("kind", FAILURES)
    def test_without_huggingface_the_next_embedder_answers_and_is_named(
        self, server: Server, provider: LoopbackProvider, kind: str
    ) -> None:
        provider.huggingface.embed_fault = FAILURES[kind]
        told = post(server, "/huggingface/embedding", text="a river").json()
        assert (told["backend"], told["model"], told["fallback"]) == ("ollama", "all-minilm", True)
        assert told["space"].startswith("ollama:all-minilm:")

    def test_the_last_to_answer_is_hashing(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.stop()
        provider.ollama.stop()
        told = post(server, "/huggingface/embedding/batch", texts=["a river", "řeka"]).json()
        assert (told["backend"], told["model"], told["fallback"]) == ("hash", "hash", True)
        expected = HashEmbedder()._rows(["a river", "řeka"])
        assert told["dimensions"] == len(expected[0])
        for vector, row in zip(told["embeddings"], expected, strict=True):
            assert vector == pytest.approx(row.tolist(), abs=1e-6)

    def test_a_batch_that_breaks_in_its_middle_is_done_anew_in_one_space(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        """The first 32 texts have vectors already: none of them is given beside another's."""
        assert post(server, "/huggingface/embedding", text="a").json()["backend"] == "huggingface"
        broken = Fault("server_error_html")
        provider.huggingface.embed_faults.extend([None, broken, broken, broken])
        texts = [f"text {number}" for number in range(70)]
        told = post(server, "/huggingface/embedding/batch", texts=texts).json()
        assert (told["backend"], len(told["embeddings"])) == ("ollama", 70)
        asked = [text for call in provider.ollama.embeddings for text in call.texts]
        assert set(texts) <= set(asked)

    def test_a_named_model_is_asked_at_huggingface(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        told = post(server, "/huggingface/embedding", text="a", model="BAAI/bge-m3").json()
        assert (told["dimensions"], told["model"]) == (1024, "BAAI/bge-m3")
        assert told["fallback"] is False

    def test_a_named_model_is_never_replaced_by_another(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.embed_fault = Fault("server_error_html")
        response = post(server, "/huggingface/embedding", text="a", model=MINILM)
        assert response.status_code == 503
        assert response.json()["error"]["type"] == "backend_unavailable"
        assert not provider.ollama.embeddings

    def test_a_named_model_that_huggingface_lacks_is_the_clients_mistake(
        self, server: Server
    ) -> None:
        for path, texts in (("embedding", {"text": "a"}), ("embedding/batch", {"texts": ["a"]})):
            response = post(server, f"/huggingface/{path}", model="no/such", **texts)
            assert response.status_code == 404
            assert response.json()["error"]["type"] == "model_not_found"
            assert "'no/such'" in response.json()["error"]["message"]

    def test_a_model_name_cannot_send_the_key_elsewhere(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        response = post(server, "/huggingface/embedding", text="a", model="../../api/whoami-v2")
        assert response.status_code == 422
        assert not provider.huggingface.calls

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"text": ""},
            {"text": " \n "},
            {"text": None},
            {"text": ["a"]},
            {"text": "x" * 32_769},
        ],
        ids=lambda body: str(body)[:30],
    )
    def test_a_text_that_is_none_is_refused(
        self, server: Server, provider: LoopbackProvider, body: dict[str, Any]
    ) -> None:
        response = post(server, "/huggingface/embedding", **body)
        assert response.status_code == 422
        assert response.json()["error"]["message"]
        assert not provider.huggingface.embeddings

    @pytest.mark.parametrize(
        "texts", [[], ["a", ""], ["a"] * 257, "one"], ids=["empty", "blank", "many", "no list"]
    )
    def test_a_batch_that_is_none_is_refused(
        self, server: Server, provider: LoopbackProvider, texts: Any
    ) -> None:
        response = post(server, "/huggingface/embedding/batch", texts=texts)
        assert response.status_code == 422
        assert not provider.huggingface.embeddings

    def test_a_client_that_leaves_ends_the_call(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        assert post(server, "/huggingface/embedding", text="a").status_code == 200
        provider.huggingface.embed_fault = Fault("hang")
        call = leave_when_asked(server, provider, "/huggingface/embedding", text="b")
        provider.settle(30)
        assert call.cancelled


class TestChat:
    def test_whole_it_is_one_object(self, server: Server, provider: LoopbackProvider) -> None:
        provider.huggingface.answer("Vltava 🌊.")
        response = post(
            server,
            "/huggingface/chat",
            messages=TALK,
            model="Qwen/Qwen3-8B",
            temperature=0.5,
            max_tokens=20,
            stream=False,
        )
        told = response.json()
        assert (told["text"], told["model"]) == ("Vltava 🌊.", "Qwen/Qwen3-8B")
        assert told["backend"] == "huggingface"
        assert told["usage"]["output_tokens"] == 2
        assert response.headers["x-hoptrail-backend"] == "huggingface"
        assert "/v1/chat/completions" in response.headers["link"]
        (call,) = provider.huggingface.chats
        assert call.messages == TALK
        assert (call.options["temperature"], call.options["max_tokens"]) == (0.5, 20)

    def test_streamed_it_is_text_and_done(self, server: Server, provider: LoopbackProvider) -> None:
        seen = Event()
        provider.huggingface.answer(Reply("Vltava, ač pomalu.", hold=seen.is_set, hold_after=2))
        url = f"{server.url}/huggingface/chat"
        with httpx.stream("POST", url, json={"messages": TALK}, timeout=30) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["x-hoptrail-backend"] == "huggingface"
            assert response.headers["deprecation"].startswith("@")
            lines = response.iter_lines()
            read = [next(lines)]
            seen.set()
            read += lines
        told = events_of("\n".join(read))
        assert {name for name, _ in told} == {"message"}
        assert told[-1][1] == {"done": True}
        assert len(told) > 2
        assert all(set(data) == {"text"} for _, data in told[:-1])
        assert "".join(data["text"] for _, data in told[:-1]) == "Vltava, ač pomalu."

    @pytest.mark.parametrize("kind", ["stream_close", "stream_end", "error_event"])
    def test_a_stream_that_is_cut_ends_with_an_error_and_is_not_done(
        self, server: Server, provider: LoopbackProvider, kind: str
    ) -> None:
        provider.huggingface.answer(Reply("one two three four", token_delay=0.05))
        provider.huggingface.fault = Fault(kind, after=2)
        told = events_of(post(server, "/huggingface/chat", messages=TALK, stream=True).text)
        assert told[0][1]["text"].startswith("one")
        name, problem = told[-1]
        assert name == "error"
        assert problem["error"]["type"] in {"backend_unavailable", "invalid_response"}
        assert not any("done" in data for _, data in told)
        assert not provider.ollama.chats

    @pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
    @pytest.mark.parametrize(
        ("fault", "status", "kind", "fix"),
        [
            (FAILURES["401"], 503, "backend_refused", "does not accept the key"),
            (Fault("out_of_credit"), 503, "backend_refused", "billing"),
            (FAILURES["429"], 503, "backend_busy", None),
            (FAILURES["loading"], 503, "backend_busy", None),
            (FAILURES["500"], 503, "backend_unavailable", None),
            (Fault("error_body"), 502, "invalid_response", None),
            (Fault("template"), 422, "request_refused", None),
        ],
        ids=["401", "402", "429", "loading", "500", "200 with an error", "422"],
    )
    def test_a_failure_before_the_first_piece_is_a_status(
        self,
        server: Server,
        provider: LoopbackProvider,
        stream: bool,
        fault: Fault,
        status: int,
        kind: str,
        fix: str | None,
    ) -> None:
        provider.huggingface.fault = fault
        response = post(server, "/huggingface/chat", messages=TALK, stream=stream)
        assert response.status_code == status
        error = response.json()["error"]
        assert error["type"] == kind
        assert (fix in error["fix"]) if fix else error["fix"] is None
        assert ("retry-after" in response.headers) == (kind == "backend_busy")

    @pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
    def test_a_named_model_that_huggingface_lacks_is_the_clients_mistake(
        self, server: Server, provider: LoopbackProvider, stream: bool
    ) -> None:
        asked = {"messages": TALK, "model": "no/such", "stream": stream}
        for _ in range(2):  # the second time it is not asked any more
            response = post(server, "/huggingface/chat", **asked)
            assert response.status_code == 404
            assert response.json()["error"]["type"] == "model_not_found"
        # The model of the settings is the server's own business.
        provider.huggingface.fault = Fault("model_not_supported")
        assert post(server, "/huggingface/chat", messages=TALK, stream=stream).status_code == 503
        asked["model"] = provider.huggingface.models[0]
        assert post(server, "/huggingface/chat", **asked).status_code == 404

    def test_who_is_to_wait_is_told_so_again_without_a_call(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.fault = FAILURES["429"]
        for _ in range(2):
            response = post(server, "/huggingface/chat", messages=TALK, stream=False)
            assert response.json()["error"]["type"] == "backend_busy"
            assert 20 < int(response.headers["retry-after"]) <= 30
        assert len(provider.huggingface.chats) == 1

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"messages": []},
            {"messages": [{"role": "wizard", "content": "x"}]},
            {"messages": [{"role": "user"}]},
            {"messages": [{"role": "user", "content": " "}]},
            {"messages": TALK, "temperature": 3},
            {"messages": TALK, "max_tokens": 0},
            {"messages": TALK, "model": "two words"},
        ],
        ids=str,
    )
    def test_what_cannot_be_asked_is_refused(
        self, server: Server, provider: LoopbackProvider, body: dict[str, Any]
    ) -> None:
        assert post(server, "/huggingface/chat", **body).status_code == 422
        assert not provider.huggingface.chats

    @pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
    def test_a_client_that_leaves_before_the_first_piece_ends_the_call(
        self, server: Server, provider: LoopbackProvider, stream: bool
    ) -> None:
        provider.huggingface.answer(Reply("late", delay=3600))
        body = {"messages": TALK, "stream": stream}
        call = leave_when_asked(server, provider, "/huggingface/chat", **body)
        wait_until_idle(server, provider)
        assert call.cancelled

    def test_a_client_that_leaves_a_stream_ends_the_call(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.answer(Reply("word " * 6000, token_delay=0.05))
        url = f"{server.url}/huggingface/chat"
        with httpx.stream("POST", url, json={"messages": TALK}, timeout=30) as response:
            assert next(response.iter_lines()).startswith("data: ")
        wait_until_idle(server, provider)
        assert provider.huggingface.chats[0].cancelled

    def test_one_more_than_may_be_is_told_to_wait(self, provider: LoopbackProvider) -> None:
        provider.huggingface.answer(Reply("word " * 6000, token_delay=0.05))
        settings = settings_of(provider, max_runs=1)
        with served(provider, build=lambda: Hoptrail(settings=settings)) as server:
            url = f"{server.url}/huggingface/chat"
            with httpx.stream("POST", url, json={"messages": TALK}, timeout=30) as response:
                lines = response.iter_lines()  # held: dropping it would leave the stream
                assert next(lines).startswith("data: ")
                for stream in (True, False):
                    more = post(server, "/huggingface/chat", messages=TALK, stream=stream)
                    assert more.status_code == 429
                    assert int(more.headers["retry-after"]) >= 1
            wait_until_idle(server, provider)


class TestStatus:
    def test_it_says_what_would_be_asked(self, server: Server) -> None:
        response = get(server, "/huggingface/status")
        told = response.json()
        assert (told["available"], told["has_api_key"]) == (True, True)
        assert (told["model"], told["embedding_model"]) == ("openai/gpt-oss-20b", MINILM)
        assert told["host"] == "127.0.0.1"
        assert "deprecation" in response.headers

    def test_without_a_key_it_says_what_to_do(self, provider: LoopbackProvider) -> None:
        settings = load_settings(embedders="hash", backends="huggingface")
        with served(provider, build=lambda: Hoptrail(settings=settings)) as server:
            told = get(server, "/huggingface/status").json()
            assert (told["available"], told["has_api_key"]) == (False, False)
            assert "HF_TOKEN" in told["fix"]
            for stream in (True, False):
                response = post(server, "/huggingface/chat", messages=TALK, stream=stream)
                assert response.status_code == 503
                assert "HF_TOKEN" in response.json()["error"]["fix"]
            response = post(server, "/huggingface/embedding", text="a", model=MINILM)
            assert response.status_code == 503
            assert "HF_TOKEN" in response.json()["error"]["message"]


class TestRedix:
    def ask(self, server: Server, **body: Any) -> list[tuple[str, dict[str, Any]]]:
        response = post(server, "/redix/ask", **body)
        assert response.status_code == 200, response.text
        return events_of(response.text)

    def test_it_streams_text_and_says_at_the_end_who_answered(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.answer(Reply("Vltava, ač pomalu.", token_delay=0.05))
        told = self.ask(server, message="Která řeka?")
        assert "".join(data.get("text", "") for _, data in told) == "Vltava, ač pomalu."
        done = told[-1][1]
        assert done["done"] is True
        assert (done["backend"], done["model"]) == ("huggingface", "openai/gpt-oss-20b")
        assert (done["degraded"], done["thread_id"]) == (False, None)
        assert get(server, f"/runs/{done['run_id']}").status_code == 200

    @pytest.mark.parametrize(
        "body",
        [
            {"message": "Which river?"},
            {"question": "Which river?"},
            {"prompt": "Which river?"},
            {"messages": [{"role": "user", "content": "Which river?"}]},
            {"message": "Which river?", "messages": [{"role": "user", "content": "Which river?"}]},
            {"message": "Which river?", "session_id": "a/b c", "user": "anna", "history": []},
        ],
        ids=lambda body: "+".join(body),
    )
    def test_every_older_clients_body_is_understood(
        self, server: Server, provider: LoopbackProvider, body: dict[str, Any]
    ) -> None:
        provider.huggingface.answer("The Vltava.")
        told = post(server, "/redix/ask", stream=False, **body).json()
        assert told["text"] == "The Vltava."
        assert set(told) == {
            *("text", "backend", "model", "degraded", "abstained", "run_id", "thread_id"),
            *("citations", "remembered", "recalled", "warnings"),
        }
        talk = provider.huggingface.chats[-1].messages
        assert [each["content"] for each in talk if each["role"] == "user"] == ["Which river?"]

    def test_what_was_said_before_may_be_sent_along(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        said = [("user", "One."), ("assistant", "Two."), ("user", "Three.")]
        messages = [{"role": role, "content": text} for role, text in said]
        self.ask(server, messages=messages)
        talk = [(m["role"], m["content"]) for m in provider.huggingface.chats[-1].messages]
        assert talk[-3:] == said

    def test_a_thread_is_kept_by_the_server(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.answer("Two.")
        self.ask(server, message="One.", thread_id="kitchen")
        self.ask(server, message="Three.", session_id="kitchen")
        talk = [m["content"] for m in provider.huggingface.chats[-1].messages]
        assert talk[-3:] == ["One.", "Two.", "Three."]
        self.ask(server, message="Four.", thread_id="cellar")
        assert "One." not in provider.huggingface.chats[-1].prompt

    def test_it_remembers_recalls_and_forgets_on_request(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.answer("Noted.")
        said = self.ask(server, message="My cat is called Ofelie.", user="anna")
        assert said[-1][1]["remembered"] == ["My cat is called Ofelie."]
        asked = self.ask(server, message="What is my cat called?", user="anna")
        assert asked[-1][1]["recalled"] == ["My cat is called Ofelie."]
        assert "Ofelie" in provider.huggingface.chats[-1].prompt
        assert not self.ask(server, message="What is my cat called?", user="bob")[-1][1]["recalled"]
        gone = self.ask(server, message="Forget my cat.", user="anna")
        assert gone[-1][1]["backend"] == "memory"
        facts = get(server, "/memory?user=anna").json()["facts"]
        assert facts == []

    def test_ollama_answers_when_huggingface_cannot(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.fault = FAILURES["401"]
        provider.ollama.answer("The Elbe.")
        told = self.ask(server, message="Which river?")
        assert "".join(data.get("text", "") for _, data in told) == "The Elbe."
        assert (told[-1][1]["backend"], told[-1][1]["model"]) == ("ollama", "qwen3:8b")

    def test_a_cut_answer_is_taken_back_and_begun_anew(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.answer(Reply("Old text that is void now.", token_delay=0.05))
        provider.huggingface.fault = Fault(
            "stream_close", after=4
        )  # a reset may lose what was sent
        provider.ollama.answer("The Elbe.")
        text = ""
        told = self.ask(server, message="Which river?")
        for _, data in told:
            text = "" if data.get("restart") else text + data.get("text", "")
        assert text == "The Elbe."
        restarts = [data["why"] for _, data in told if data.get("restart")]
        assert "ollama:qwen3:8b goes on" in restarts[-1]
        assert told[-1][1]["backend"] == "ollama"

    def test_an_answer_that_nobody_ends_is_an_error_and_not_done(
        self, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.answer(Reply("one two three four", token_delay=0.05))
        provider.huggingface.fault = Fault("stream_end", after=2)
        settings = settings_of(provider, backends="huggingface")
        with served(provider, build=lambda: Hoptrail(settings=settings)) as server:
            told = self.ask(server, message="Which river?")
        assert told[0][1]["text"].startswith("one")
        assert told[-1][0] == "error"
        assert not any("done" in data for _, data in told)

    def test_without_any_model_the_built_in_answers_and_is_labelled(
        self, server: Server, provider: LoopbackProvider
    ) -> None:
        provider.huggingface.stop()
        provider.ollama.stop()
        told = post(server, "/redix/ask", message="Which river?", stream=False).json()
        assert (told["backend"], told["degraded"]) == ("extractive", True)
        assert told["text"]

    @pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
    def test_nobody_left_is_a_status(self, provider: LoopbackProvider, stream: bool) -> None:
        provider.huggingface.fault = FAILURES["401"]
        settings = settings_of(provider, backends="huggingface")
        with served(provider, build=lambda: Hoptrail(settings=settings)) as server:
            response = post(server, "/redix/ask", message="Which river?", stream=stream)
            assert response.status_code == 503
            assert response.json()["error"]["type"] == "all_backends_failed"
            assert "doctor" in response.json()["error"]["fix"]

    @pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
    def test_a_client_that_leaves_ends_the_run_and_its_call(
        self, server: Server, provider: LoopbackProvider, stream: bool
    ) -> None:
        provider.huggingface.answer(Reply("late", delay=3600))
        body = {"message": "Which river?", "stream": stream}
        call = leave_when_asked(server, provider, "/redix/ask", **body)
        wait_until_idle(server, provider)
        assert call.cancelled

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"message": ""},
            {"message": " "},
            {"messages": []},
            {"messages": [{"role": "assistant", "content": "Me last."}]},
            {"messages": [{"role": "wizard", "content": "x"}]},
            {"message": "a", "user": ""},
            {"message": "a", "thread_id": ""},
            {"message": "x" * 100_001},
        ],
        ids=lambda body: str(body)[:40],
    )
    def test_what_says_nothing_is_refused(
        self, server: Server, provider: LoopbackProvider, body: dict[str, Any]
    ) -> None:
        assert post(server, "/redix/ask", **body).status_code == 422
        assert not provider.huggingface.chats


class TestTheKey:
    @pytest.mark.parametrize("status", [200, 400, 401, 402, 403, 404, 413, 422, 429, 500, 503])
    def test_it_is_in_no_answer_whatever_huggingface_says(
        self, server: Server, provider: LoopbackProvider, status: int
    ) -> None:
        body = {"error": {"message": f"{'x' * 285} you sent Bearer {KEY} to us", "code": KEY}}
        fault = Fault("status", status=status, body=body, headers={"Retry-After": "30"})
        side = provider.huggingface
        side.fault = side.embed_fault = side.probe_fault = fault
        provider.ollama.stop()
        answers = [
            post(server, "/huggingface/chat", messages=TALK, stream=True),
            post(server, "/huggingface/chat", messages=TALK, stream=False),
            post(server, "/huggingface/chat", messages=TALK, stream=False, model=f"a/{status}"),
            post(server, "/huggingface/embedding", text="a"),
            post(server, "/huggingface/embedding", text="a", model=MINILM),
            post(server, "/huggingface/embedding/batch", texts=["a"], model=MINILM),
            post(server, "/huggingface/embedding", text=""),
            get(server, "/huggingface/status"),
            post(server, "/redix/ask", message="Which river?", stream=True),
            post(server, "/redix/ask", message="Which river?", stream=False),
        ]
        answers.append(get(server, f"/runs/{answers[-1].json()['run_id']}"))
        for answer in answers:
            assert KEY[:9] not in answer.text
            assert KEY[:9] not in str(answer.headers)
        assert answers[0].status_code >= 400


def test_every_route_declares_what_it_may_answer(server: Server) -> None:
    paths = server.app.openapi()["paths"]
    for path in ("/huggingface/embedding", "/huggingface/embedding/batch", "/huggingface/chat"):
        operation = paths[path]["post"]
        assert operation["deprecated"]
        assert {"200", "413", "422", "502", "503"} <= set(operation["responses"])
    assert "429" in paths["/huggingface/chat"]["post"]["responses"]
    content = paths["/huggingface/chat"]["post"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/event-stream"}
