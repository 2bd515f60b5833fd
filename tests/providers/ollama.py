"""The loopback Ollama."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.providers import ndjson, ollama_vectors
from tests.providers.dialect import DIALECTS, completion, event_stream
from tests.providers.emission import fail_early, send_document, send_stream
from tests.providers.models import (
    Loaded,
    ModelStore,
    full_name,
    go_json,
    keep_alive_seconds,
)
from tests.providers.script import ChatRequest, EmbeddingRequest, count_tokens
from tests.providers.side import Route, Side
from tests.providers.stream import held, pause
from tests.providers.wire import JSON, Exchange

TEXT = "text/plain"
JSON_UTF8 = "application/json; charset=utf-8"
BUSY = "server busy, please try again.  maximum pending requests exceeded"
INTEGER_OPTIONS = ("num_ctx", "num_predict", "num_keep", "num_batch", "seed", "top_k")


class Ollama(Side):
    """Stands in for an Ollama server."""

    name = "ollama"

    def reset(self) -> None:
        """Forget all records, faults, models and scripts."""
        super().reset()
        self.version = "0.32.15"
        self.store = ModelStore(["qwen3:8b", "llama3.2:3b", "all-minilm:latest"])
        self.num_parallel: int | None = None
        """Calls a loaded model serves at a time; further ones wait without a sign. None: no
        limit (a real Ollama has 1)."""
        self.load_delay = 0.0
        """Seconds a model takes to load; no byte is sent meanwhile."""
        self.max_queue = 512
        """Calls that may wait for a load; further ones get 503."""
        self.default_context = 4096
        self.overflow = "silent"
        """A prompt over num_ctx: ``silent`` (half the window is kept, 200), ``native`` (400 with
        JSON in the text), ``text`` (400, a plain text)."""
        self._gates: dict[tuple[str, int], asyncio.Semaphore] = {}
        self._load_gate = asyncio.Lock()
        self._waiting_for_load = 0

    @property
    def models(self) -> list[str]:
        """The installed models, with their tags."""
        return self.store.installed

    @models.setter
    def models(self, names: list[str]) -> None:
        self.store = ModelStore(names)

    def _routes(self) -> dict[tuple[str, str], Route]:
        return {
            ("GET", "/"): self._root,
            ("HEAD", "/"): self._root,
            ("GET", "/api/version"): self._version,
            ("GET", "/api/tags"): self._tags,
            ("GET", "/api/ps"): self._ps,
            ("GET", "/v1/models"): self._v1_models,
            ("POST", "/api/show"): self._show,
            ("POST", "/api/chat"): self._chat,
            ("POST", "/api/generate"): self._generate,
            ("POST", "/v1/chat/completions"): self._v1_chat,
            ("POST", "/api/embed"): self._embed,
            ("POST", "/api/embeddings"): self._legacy_embed,
            ("POST", "/v1/embeddings"): self._v1_embed,
        }

    async def _elsewhere(self, exchange: Exchange) -> None:
        known = {path for _, path in self.routes}
        if exchange.request.path in known:
            await exchange.send(405, b"405 method not allowed", TEXT)
        else:
            await exchange.send(404, b"404 page not found", TEXT)

    async def _refuse(self, exchange: Exchange, status: int, message: str) -> None:
        if exchange.request.path.startswith("/v1/"):
            kinds = {400: "invalid_request_error", 404: "not_found_error"}
            kind = kinds.get(status, "api_error")
            error: Any = {"message": message, "type": kind, "param": None, "code": None}
        else:
            error = message
        await exchange.send(status, go_json({"error": error}), JSON)

    async def _root(self, exchange: Exchange) -> None:
        await self._describe(exchange, 200, b"Ollama is running", TEXT)

    async def _version(self, exchange: Exchange) -> None:
        await self._tell(exchange, {"version": self.version})

    async def _tags(self, exchange: Exchange) -> None:
        modern = self.version_at_least(0, 30)
        await self._tell(exchange, self.store.tags(with_capabilities=modern))

    async def _ps(self, exchange: Exchange) -> None:
        await self._tell(exchange, self.store.ps())

    async def _v1_models(self, exchange: Exchange) -> None:
        rows = [
            {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "library"}
            for name in self.models
        ]
        await self._tell(exchange, {"object": "list", "data": rows or None})

    async def _show(self, exchange: Exchange) -> None:
        body = exchange.request.json()
        name = body.get("model") or body.get("name") or ""
        if not name:
            await self._tell(exchange, {"error": "model is required"}, 400)
        elif not self.store.has(name):
            await self._tell(exchange, {"error": f"model '{full_name(name)}' not found"}, 404)
        else:
            await self._tell(exchange, self.store.show(name))

    async def _tell(self, exchange: Exchange, document: Any, status: int = 200) -> None:
        await self._describe(exchange, status, go_json(document), JSON_UTF8)

    async def _chat(self, exchange: Exchange) -> None:
        body = exchange.request.json()
        await self._serve(exchange, self._chat_request(exchange, body, body.get("messages") or []))

    async def _generate(self, exchange: Exchange) -> None:
        body = exchange.request.json()
        prompt = body.get("prompt") or ""
        messages = [{"role": "user", "content": prompt}] if prompt else []
        if prompt and body.get("system"):
            messages.insert(0, {"role": "system", "content": body["system"]})
        await self._serve(exchange, self._chat_request(exchange, body, messages))

    async def _serve(self, exchange: Exchange, chat: ChatRequest) -> None:
        with self._recorded(chat, exchange) as fault:
            if await fail_early(exchange, fault) or await self._refused(exchange, chat):
                return
            async with self._slot(chat) as loaded:
                if loaded is None:
                    await self._refuse(exchange, 503, BUSY)
                elif not chat.messages:
                    await self._only_load(exchange, chat)
                elif not await self._overflowed(exchange, chat, loaded):
                    await self._answer(exchange, chat, loaded)

    async def _v1_chat(self, exchange: Exchange) -> None:
        body = exchange.request.json()
        chat = self._chat_request(exchange, body, body.get("messages") or [])
        chat.stream = bool(body.get("stream", False))
        chat.options, chat.response_format = {}, body.get("response_format")
        with self._recorded(chat, exchange) as fault:
            if await fail_early(exchange, fault):
                return
            if not chat.messages:
                await self._refuse(exchange, 400, "[] is too short - 'messages'")
                return
            if await self._refused(exchange, chat):
                return
            async with self._slot(chat):
                await self._v1_answer(exchange, chat)

    async def _v1_answer(self, exchange: Exchange, chat: ChatRequest) -> None:
        reply = self._reply(chat)
        dialect = DIALECTS["ollama" if self.version_at_least(0, 32, 6) else "ollama_old"]
        await pause(reply.delay)
        if not chat.stream:
            await send_document(exchange, go_json(completion(chat, reply, dialect)), chat.fault)
            return
        stream = event_stream(chat, reply, dialect)
        nothing = {"id": dialect.id, "object": dialect.object, "model": "", "choices": []}
        stream.error = stream.frame(go_json(nothing))
        await send_stream(exchange, stream, reply, chat.fault)

    def version_at_least(self, *wanted: int) -> bool:
        """Whether the simulated server is at least this version."""
        parts = self.version.partition("-")[0].split(".")
        return tuple(int(part) for part in parts) >= wanted

    def _chat_request(
        self, exchange: Exchange, body: dict[str, Any], messages: list[dict[str, Any]]
    ) -> ChatRequest:
        return ChatRequest(
            backend=self.name,
            path=exchange.request.path,
            model=str(body.get("model") or ""),
            headers=exchange.request.headers,
            body=body,
            messages=messages,
            stream=bool(body.get("stream", True)),
            options=body.get("options") or {},
            format=body.get("format") or None,
        )

    async def _refused(self, exchange: Exchange, chat: ChatRequest) -> bool:
        """Answer what a healthy Ollama refuses; False when the call is fine."""
        if refusal := self._refusal(chat):
            await self._refuse(exchange, *refusal)
        return refusal is not None

    def _refusal(self, chat: ChatRequest) -> tuple[int, str] | None:
        if not chat.model:
            return 400, "model is required"
        if not self.store.has(chat.model):
            return 404, f"model '{chat.model}' not found"
        able = self.store.capabilities(chat.model)
        if "completion" not in able:
            verb = "generate" if chat.path == "/api/generate" else "chat"
            return 400, f'"{chat.model}" does not support {verb}'
        if chat.body.get("tools") and "tools" not in able:
            return 400, f"registry.ollama.ai/library/{full_name(chat.model)} does not support tools"
        if chat.body.get("think") and "thinking" not in able:
            return 400, f'"{chat.model}" does not support thinking'
        return _malformed(chat)

    @asynccontextmanager
    async def _slot(self, call: ChatRequest | EmbeddingRequest) -> AsyncIterator[Loaded | None]:
        """Wait for the load and for a free slot, silently; None when too many wait already."""
        name = full_name(call.model)
        context = (call.body.get("options") or {}).get("num_ctx")
        loaded = self.store.loaded(name, context)
        if loaded is None and self._waiting_for_load >= self.max_queue:
            yield None
            return
        loaded = loaded or await self._load(name, context)
        async with self._gate(name):
            try:
                yield loaded
            finally:
                self.store.keep(name, call.body.get("keep_alive"))

    def _gate(self, name: str) -> asyncio.Semaphore:
        room = self.num_parallel or 1_000_000
        return self._gates.setdefault((name, room), asyncio.Semaphore(room))

    async def _load(self, name: str, context: int | None) -> Loaded:
        self._waiting_for_load += 1
        try:
            async with self._load_gate:
                loaded = self.store.loaded(name, context)
                if loaded is None:
                    await pause(self.load_delay)
                    context = context or self.default_context
                    loaded = self.store.load(name, context, self.load_delay)
                return loaded
        finally:
            self._waiting_for_load -= 1

    async def _only_load(self, exchange: Exchange, chat: ChatRequest) -> None:
        gone = keep_alive_seconds(chat.body.get("keep_alive")) == 0
        reason = {"done_reason": "unload" if gone else "load"}
        answer = {**ndjson.document(chat, "", done=True), **reason}
        await exchange.send(200, go_json(answer), JSON_UTF8)

    async def _overflowed(self, exchange: Exchange, chat: ChatRequest, loaded: Loaded) -> bool:
        """Deal with a prompt that is too long; True when that was the answer."""
        window = chat.options.get("num_ctx", loaded.context)
        count = count_tokens(chat.prompt)
        if count <= window:
            return False
        if self.overflow == "native":
            inner = {
                "code": 400,
                "message": f"request ({count} tokens) exceeds the available context size "
                f"({window} tokens), try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": count,
                "n_ctx": window,
            }
            await self._refuse(exchange, 400, go_json({"error": inner}).decode())
            return True
        if self.overflow == "text" or chat.body.get("truncate") is False:
            await self._refuse(exchange, 400, "the input length exceeds the context length")
            return True
        chat.truncated = True
        return False

    async def _answer(self, exchange: Exchange, chat: ChatRequest, loaded: Loaded) -> None:
        reply = self._reply(chat)
        await pause(reply.delay)
        kept = self._kept(chat.options.get("num_ctx", loaded.context))
        statistics = ndjson.statistics(chat, reply, loaded, kept=kept)
        if chat.stream:
            stream = ndjson.lines(chat, reply, statistics)
            await send_stream(exchange, stream, reply, chat.fault)
            return
        await pause(reply.first_token_delay + reply.pace * max(len(reply.tokens) - 1, 0))
        await held(exchange, reply)
        answer = go_json(ndjson.whole(chat, reply, statistics))
        await send_document(exchange, answer, chat.fault, JSON_UTF8)

    def _kept(self, window: int) -> int:
        """Tokens that a silent truncation leaves of a prompt."""
        return window - max((window - 4) // 2, 1) if self.version_at_least(0, 30) else window

    async def _embed(self, exchange: Exchange) -> None:
        await self._serve_embedding(exchange, "input", ollama_vectors.embed)

    async def _legacy_embed(self, exchange: Exchange) -> None:
        await self._serve_embedding(exchange, "prompt", ollama_vectors.legacy)

    async def _v1_embed(self, exchange: Exchange) -> None:
        if not exchange.request.json().get("input"):
            await self._refuse(exchange, 400, "invalid input")
        else:
            await self._serve_embedding(exchange, "input", ollama_vectors.openai)

    async def _serve_embedding(
        self, exchange: Exchange, key: str, shape: Callable[[EmbeddingRequest, Loaded], Any]
    ) -> None:
        call = self._embedding_call(exchange, exchange.request.json().get(key))
        with self._recorded(call, exchange) as fault:
            if await fail_early(exchange, fault):
                return
            modern = self.version_at_least(0, 30)
            if refusal := ollama_vectors.refusal(call, self.store, modern=modern):
                await self._refuse(exchange, *refusal)
                return
            async with self._slot(call) as loaded:
                if loaded is None:
                    await self._refuse(exchange, 503, BUSY)
                    return
                await send_document(exchange, go_json(shape(call, loaded)), fault, JSON_UTF8)

    def _embedding_call(self, exchange: Exchange, given: Any) -> EmbeddingRequest:
        body = exchange.request.json()
        texts = [given] if isinstance(given, str) and given else given or []
        return EmbeddingRequest(
            backend=self.name,
            path=exchange.request.path,
            model=str(body.get("model") or ""),
            headers=exchange.request.headers,
            body=body,
            texts=texts if isinstance(texts, list) else [texts],
        )


def _malformed(chat: ChatRequest) -> tuple[int, str] | None:
    """What is wrong with options, format or keep_alive, as (status, text)."""
    for option in INTEGER_OPTIONS:
        if not isinstance(chat.options.get(option, 0), int):
            return 500, f'option "{option}" must be of type integer'
    if chat.format is not None and chat.format != "json" and not isinstance(chat.format, dict):
        return 500, "llama-server returned an error: invalid grammar"
    kept = chat.body.get("keep_alive")
    if isinstance(kept, str) and kept.strip("-").isdigit() and kept != "0":
        return 400, f'time: missing unit in duration "{kept}"'
    return None
