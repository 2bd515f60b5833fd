"""The loopback Ollama."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.providers.dialect import DIALECTS, completion, event_stream
from tests.providers.emission import Stream, fail_early, pause, send_document, send_stream
from tests.providers.fault import EMBEDDING
from tests.providers.models import Loaded, ModelStore, full_name, go_json, rfc3339
from tests.providers.script import ChatRequest, EmbeddingRequest, Reply, count_tokens
from tests.providers.side import Route, Side
from tests.providers.vectors import normalised, raw_vector
from tests.providers.wire import JSON, Exchange

TEXT = "text/plain"
JSON_UTF8 = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
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
        self.gates: dict[str, asyncio.Semaphore] = {}
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
        if not await self._probe(exchange):
            await exchange.send(200, b"Ollama is running", TEXT)

    async def _version(self, exchange: Exchange) -> None:
        await self._describe(exchange, {"version": self.version})

    async def _tags(self, exchange: Exchange) -> None:
        await self._describe(
            exchange, self.store.tags(with_capabilities=self.version_at_least(0, 30))
        )

    async def _ps(self, exchange: Exchange) -> None:
        await self._describe(exchange, self.store.ps())

    async def _v1_models(self, exchange: Exchange) -> None:
        rows = [
            {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "library"}
            for name in self.models
        ]
        await self._describe(exchange, {"object": "list", "data": rows or None})

    async def _show(self, exchange: Exchange) -> None:
        body = exchange.request.json()
        name = body.get("model") or body.get("name") or ""
        if not name:
            await self._refuse(exchange, 400, "model is required")
        elif not self.store.has(name):
            if not await self._probe(exchange):
                await self._refuse(exchange, 404, f"model '{full_name(name)}' not found")
        else:
            await self._describe(exchange, self.store.show(name))

    async def _describe(self, exchange: Exchange, document: dict[str, Any]) -> None:
        if not await self._probe(exchange):
            await exchange.send(200, go_json(document), JSON_UTF8)

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
        for option in INTEGER_OPTIONS:
            if not isinstance(chat.options.get(option, 0), int):
                return 500, f'option "{option}" must be of type integer'
        if chat.format is not None and chat.format != "json" and not isinstance(chat.format, dict):
            return 500, "llama-server returned an error: invalid grammar"
        return None

    @asynccontextmanager
    async def _slot(self, call: ChatRequest | EmbeddingRequest) -> AsyncIterator[Loaded | None]:
        """Wait for the load and for a free slot, silently; None when too many wait already."""
        name = full_name(call.model)
        loaded = self.store.loaded(name)
        if loaded is None and self._waiting_for_load >= self.max_queue:
            yield None
            return
        loaded = loaded or await self._load(name, call)
        gate = self.gates.setdefault(name, asyncio.Semaphore(self.num_parallel or 1_000_000))
        async with gate:
            try:
                yield loaded
            finally:
                self.store.keep(name, call.body.get("keep_alive"))

    async def _load(self, name: str, call: ChatRequest | EmbeddingRequest) -> Loaded:
        self._waiting_for_load += 1
        try:
            async with self._load_gate:
                if (loaded := self.store.loaded(name)) is not None:
                    return loaded
                await pause(self.load_delay)
                options = call.body.get("options") or {}
                context = options.get("num_ctx", self.default_context)
                return self.store.load(name, context, self.load_delay)
        finally:
            self._waiting_for_load -= 1

    async def _only_load(self, exchange: Exchange, chat: ChatRequest) -> None:
        reason = "unload" if chat.body.get("keep_alive") in (0, "0", "0s") else "load"
        document = {"model": chat.model, "created_at": rfc3339(), **_text(chat, "")}
        document |= {"done": True, "done_reason": reason}
        await exchange.send(200, go_json(document), JSON_UTF8)

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
        last = self._last(chat, reply, loaded)
        if not chat.stream:
            await pause(reply.first_token_delay + reply.pace * max(len(reply.tokens) - 1, 0))
            document = {**last, **_text(chat, reply.text, _extras(chat, reply))}
            await send_document(exchange, go_json(document), chat.fault, JSON_UTF8)
            return
        await send_stream(exchange, _ndjson(chat, reply, last), reply, chat.fault)

    def _last(self, chat: ChatRequest, reply: Reply, loaded: Loaded) -> dict[str, Any]:
        """The final object: reason and statistics; what is zero is left out."""
        window = chat.options.get("num_ctx", loaded.context)
        asked = count_tokens(chat.prompt) if reply.input_tokens is None else reply.input_tokens
        if chat.truncated:
            asked = window - max((window - 4) // 2, 1)
        given = len(reply.tokens) if reply.output_tokens is None else reply.output_tokens
        load = loaded.take_load_seconds()
        busy, spent = reply.delay + reply.first_token_delay, reply.pace * given
        statistics = {
            "total_duration": int((load + busy + spent) * 1e9) + 1_000_000,
            "load_duration": int(load * 1e9) + 900_000,
            "prompt_eval_count": asked,
            "prompt_eval_duration": int(busy * 1e9),
            "eval_count": given,
            "eval_duration": int(spent * 1e9),
        }
        return {
            "model": chat.model,
            "created_at": rfc3339(),
            **_text(chat, ""),
            "done": True,
            "done_reason": reply.finish_reason,
            **{name: value for name, value in statistics.items() if value},
        }

    async def _embed(self, exchange: Exchange) -> None:
        call = self._embedding_call(exchange, exchange.request.json().get("input"))
        with self._recorded(call, exchange) as fault:
            if await fail_early(exchange, fault) or await self._embed_refused(exchange, call):
                return
            async with self._slot(call) as loaded:
                if loaded is None:
                    await self._refuse(exchange, 503, BUSY)
                    return
                await self._send_embeddings(exchange, call, loaded)

    async def _send_embeddings(
        self, exchange: Exchange, call: EmbeddingRequest, loaded: Loaded
    ) -> None:
        window = min((call.body.get("options") or {}).get("num_ctx", loaded.context), 256) - 2
        counts = [count_tokens(text) for text in call.texts]
        if call.body.get("truncate") is False and any(count > window for count in counts):
            await self._refuse(exchange, 400, "the input length exceeds the context length")
            return
        vectors: Any = [self._vector(text, window, call) for text in call.texts]
        change = EMBEDDING.get(call.fault.kind) if call.fault else None
        document = {
            "model": call.model,
            "embeddings": change(vectors) if change and vectors else vectors,
            "total_duration": 14_143_917,
            "load_duration": int(loaded.take_load_seconds() * 1e9) + 1_019_500,
            "prompt_eval_count": sum(min(count, window) + 2 for count in counts),
        }
        document = {name: value for name, value in document.items() if value != 0}
        await send_document(exchange, go_json(document), call.fault, JSON_UTF8)

    def _vector(self, text: str, window: int, call: EmbeddingRequest) -> list[float]:
        """The first ``window`` tokens of a text as a unit vector of the wanted width."""
        vector = raw_vector(" ".join(text.split()[:window]), call.model)
        numbers: list[float] = normalised(vector[: call.body.get("dimensions")]).tolist()
        return numbers

    async def _legacy_embed(self, exchange: Exchange) -> None:
        call = self._embedding_call(exchange, exchange.request.json().get("prompt"))
        with self._recorded(call, exchange) as fault:
            if await fail_early(exchange, fault) or await self._embed_refused(exchange, call):
                return
            async with self._slot(call):
                vectors: Any = [raw_vector(text, call.model).tolist() for text in call.texts]
                change = EMBEDDING.get(call.fault.kind) if call.fault else None
                vectors = change(vectors) if change and vectors else vectors
                document = {"embedding": vectors[0] if vectors else []}
                await send_document(exchange, go_json(document), fault, JSON_UTF8)

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

    async def _embed_refused(self, exchange: Exchange, call: EmbeddingRequest) -> bool:
        """Answer what a healthy Ollama refuses; False when the call is fine."""
        legacy = call.path == "/api/embeddings"
        if not all(isinstance(text, str) for text in call.texts):
            await self._refuse(exchange, 400, "invalid input type")
        elif not self.store.has(call.model):
            text = f'model "{call.model}" not found, try pulling it first'
            await self._refuse(exchange, 404, text)
        elif "embedding" not in self.store.capabilities(call.model):
            modern = self.version_at_least(0, 30)
            text = "This server does not support embeddings. Start it with `--embeddings`"
            text = text if modern else "this model does not support embeddings"
            await self._refuse(exchange, 501, text)
        elif call.fault and call.fault.kind == "nan_vectors":
            text = "embedding contains NaN or Inf values"
            await self._refuse(exchange, 500 if legacy else 400, text)
        else:
            return False
        return True


def _text(chat: ChatRequest, text: str, extras: dict[str, Any] | None = None) -> dict[str, Any]:
    """A piece of the answer where the endpoint puts it; the text is always present."""
    if chat.path == "/api/generate":
        return {"response": text, **(extras or {})}
    return {"message": {"role": "assistant", "content": text, **(extras or {})}}


def _extras(chat: ChatRequest, reply: Reply) -> dict[str, Any]:
    """Thinking and tool calls of an answer in one piece."""
    extras: dict[str, Any] = {}
    if reply.reasoning and chat.body.get("think") is not False:
        extras["thinking"] = reply.reasoning
    if reply.tool_calls:
        extras["tool_calls"] = [
            {
                "id": f"call_{index:08d}",
                "function": {"index": index, "name": name, "arguments": dict(arguments)},
            }
            for index, (name, arguments) in enumerate(reply.tool_calls)
        ]
    return extras


def _ndjson(chat: ChatRequest, reply: Reply, last: dict[str, Any]) -> Stream:
    """The answer as Ollama streams it: thinking, text, tool calls, statistics."""

    def line(text: str, extras: dict[str, Any] | None = None) -> bytes:
        piece = {"model": chat.model, "created_at": rfc3339(), **_text(chat, text, extras)}
        return go_json({**piece, "done": False})

    extras = _extras(chat, reply)
    calls = extras.pop("tool_calls", None)
    tokens = [line(token) for token in reply.tokens]
    if calls:
        tokens.append(line("", {"tool_calls": calls}))
    return Stream(
        content_type=NDJSON,
        frame=lambda payload: payload + b"\n",
        opening=[line("", extras)] if extras else [],
        tokens=tokens,
        closing=[go_json(last)],
        error=b'{"error":"an error was encountered while running the model: unexpected EOF"}\n',
        late_header=True,
    )
