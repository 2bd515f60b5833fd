"""The loopback Hugging Face: router, serverless feature extraction, TEI and the Hub's probes."""

from __future__ import annotations

from typing import Any

from tests.providers import tei
from tests.providers.dialect import DIALECTS, Dialect, completion, embedding_list, event_stream
from tests.providers.emission import fail_early, send_document, send_stream
from tests.providers.fault import EMBEDDING
from tests.providers.hub import model_info, model_list, whoami
from tests.providers.script import ChatRequest, EmbeddingRequest, count_tokens
from tests.providers.side import Route, Side
from tests.providers.stream import held, packed, pause
from tests.providers.vectors import normalised, raw_vector, unit_vector
from tests.providers.wire import Exchange

CHAT_PATH = "/v1/chat/completions"
PIPELINES = ("/pipeline/feature-extraction", "/pipeline/sentence-similarity")
TEXT = "text/plain; charset=utf-8"
SERVED = {"x-inference-provider": "loopback", "x-request-id": "Root=1-loopback"}
NOT_SAMPLING = {"model", "messages", "stream", "response_format"}


class HuggingFace(Side):
    """Stands in for ``router.huggingface.co`` and for a dedicated endpoint (TEI)."""

    name = "huggingface"

    def reset(self) -> None:
        """Forget all records, faults, models and scripts."""
        super().reset()
        self.models: list[str] = [
            "meta-llama/Llama-3.1-8B-Instruct",
            "Qwen/Qwen3-8B",
            "openai/gpt-oss-20b",
            "openai/gpt-oss-120b",
        ]
        self.any_model = False
        """Serve every chat model, as a dedicated endpoint does."""
        self.embedding_models: list[str] = [
            "sentence-transformers/all-MiniLM-L6-v2",
            "BAAI/bge-small-en-v1.5",
            "BAAI/bge-m3",
        ]
        self.embedding_shape = "tei"
        """``tei`` (always a list of vectors), ``pooled`` (one text gives one flat vector) or
        ``unpooled`` (a vector per token)."""
        self.dialect: str | Dialect = "tgi3"
        self.token: str | None = None
        """When set, the only accepted key."""
        self.role = "write"
        """The role of the token in whoami: ``read``, ``write`` or ``fineGrained``."""
        self.permissions: list[str] = ["inference.serverless.write"]
        self.openai_embeddings = False
        """Serve ``/v1/embeddings`` as TEI does; the router answers 404."""
        self.tei_permits: int | None = None
        """How many texts TEI has room for before it answers 429."""

    def _routes(self) -> dict[tuple[str, str], Route]:
        return {
            ("POST", CHAT_PATH): self._chat,
            ("GET", "/v1/models"): self._list_models,
            ("GET", "/api/whoami-v2"): self._whoami,
            ("POST", "/embed"): self._tei_embed,
            ("POST", "/v1/embeddings"): self._v1_embeddings,
            ("GET", "/info"): self._info,
            ("GET", "/health"): self._health,
            ("GET", "/ping"): self._health,
        }

    async def _elsewhere(self, exchange: Exchange) -> None:
        method, path = exchange.request.method, exchange.request.path
        if method == "POST" and path.endswith(CHAT_PATH):
            await self._chat(exchange)
        elif method == "POST" and path.startswith("/hf-inference/models/"):
            await self._feature_extraction(exchange)
        elif method == "GET" and path.startswith("/v1/models/"):
            await self._one_model(exchange, path.removeprefix("/v1/models/"))
        elif method == "GET" and path.startswith("/api/models/"):
            await self._model_info(exchange, path.removeprefix("/api/models/"))
        else:
            await exchange.send(404, b"Not Found", TEXT)

    def _known_token(self, exchange: Exchange) -> bool:
        sent = exchange.request.headers.get("authorization", "")
        return self.token is None or sent == f"Bearer {self.token}"

    async def _chat(self, exchange: Exchange) -> None:
        body = exchange.request.json()
        chat = ChatRequest(
            backend=self.name,
            path=exchange.request.path,
            model=str(body.get("model", "")),
            headers=exchange.request.headers,
            body=body,
            messages=body.get("messages", []),
            stream=bool(body.get("stream", False)),
            options={name: value for name, value in body.items() if name not in NOT_SAMPLING},
            response_format=body.get("response_format"),
        )
        with self._recorded(chat, exchange) as fault:
            if await fail_early(exchange, fault) or await self._refused(exchange, chat):
                return
            await self._answer(exchange, chat)

    async def _refused(self, exchange: Exchange, chat: ChatRequest) -> bool:
        """Answer what a healthy router refuses; False when the call is fine."""
        if not self._known_token(exchange):
            await self._refuse(exchange, 401, "Invalid username or password.")
        elif "messages" not in chat.body:
            text = "Failed to deserialize the JSON body into the target type: missing field"
            await exchange.send(422, f"{text} `messages`".encode(), TEXT)
        elif not self.any_model and chat.model.partition(":")[0] not in self.models:
            await exchange.send(400, packed(_not_supported(chat.model)))
        else:
            return False
        return True

    async def _answer(self, exchange: Exchange, chat: ChatRequest) -> None:
        reply = self._reply(chat)
        dialect = DIALECTS[self.dialect] if isinstance(self.dialect, str) else self.dialect
        await pause(reply.delay)
        if chat.stream:
            stream = event_stream(chat, reply, dialect)
            stream.headers = SERVED
            await send_stream(exchange, stream, reply, chat.fault)
            return
        await pause(reply.first_token_delay + reply.pace * max(len(reply.tokens) - 1, 0))
        await held(exchange, reply)
        document = packed(completion(chat, reply, dialect))
        await send_document(exchange, document, chat.fault, headers=SERVED)

    async def _feature_extraction(self, exchange: Exchange) -> None:
        model = exchange.request.path.removeprefix("/hf-inference/models/")
        for pipeline in PIPELINES:
            model = model.removesuffix(pipeline)
        call, single = self._embedding_call(exchange, model, "inputs")
        with self._recorded(call, exchange) as fault:
            if await fail_early(exchange, fault):
                return
            if not self._known_token(exchange):
                await self._refuse(exchange, 401, "Invalid username or password.")
            elif model not in self.embedding_models:
                await self._refuse(exchange, 404, f"Model {model} does not exist")
            else:
                vectors = self._vectors(call)
                result = _shaped(vectors, call.texts, self.embedding_shape, single=single)
                await send_document(exchange, packed(result), fault, headers=SERVED)

    async def _tei_embed(self, exchange: Exchange) -> None:
        call, _ = self._embedding_call(exchange, self.embedding_models[0], "inputs")
        with self._recorded(call, exchange) as fault:
            if await fail_early(exchange, fault):
                return
            if refusal := tei.refusal(call, self.token, self.tei_permits):
                await exchange.send(*refusal)
                return
            tokens = str(sum(map(count_tokens, call.texts)))
            headers = {"x-compute-type": "cpu", "x-compute-tokens": tokens, "x-total-time": "1"}
            await send_document(exchange, packed(self._vectors(call)), fault, headers=headers)

    async def _v1_embeddings(self, exchange: Exchange) -> None:
        if not self.openai_embeddings:
            await exchange.send(404, b"Not Found", TEXT)
            return
        call, _ = self._embedding_call(exchange, self.embedding_models[0], "input")
        with self._recorded(call, exchange) as fault:
            if await fail_early(exchange, fault):
                return
            if refusal := tei.refusal(call, self.token, self.tei_permits, flat=True):
                await exchange.send(*refusal)
                return
            document = embedding_list(call, self._vectors(call))
            await send_document(exchange, packed(document), fault)

    def _embedding_call(
        self, exchange: Exchange, model: str, key: str
    ) -> tuple[EmbeddingRequest, bool]:
        body = exchange.request.json()
        inputs = body.get(key, [])
        call = EmbeddingRequest(
            backend=self.name,
            path=exchange.request.path,
            model=model,
            headers=exchange.request.headers,
            body=body,
            texts=[inputs] if isinstance(inputs, str) else list(inputs),
        )
        return call, isinstance(inputs, str)

    def _vectors(self, call: EmbeddingRequest) -> Any:
        """The vectors of a call, changed as its fault says."""
        width = call.body.get("dimensions")
        plain = call.body.get("normalize") is False
        vectors = [
            raw_vector(text, call.model).tolist() if plain else unit_vector(text, call.model)
            for text in call.texts
        ]
        if width:
            vectors = [normalised(raw_vector(t, call.model)[:width]).tolist() for t in call.texts]
        change = EMBEDDING.get(call.fault.kind) if call.fault else None
        return change(vectors) if change else vectors

    async def _list_models(self, exchange: Exchange) -> None:
        await self._describe(exchange, 200, packed(model_list(self.models)))

    async def _one_model(self, exchange: Exchange, model: str) -> None:
        if model in self.models:
            row = model_list([model])["data"][0]
            await self._describe(exchange, 200, packed({"data": row}))
        else:
            await self._describe(exchange, 404, packed(_not_supported(model)))

    async def _whoami(self, exchange: Exchange) -> None:
        sent = exchange.request.headers.get("authorization", "")
        if sent.startswith("Bearer ") and self._known_token(exchange):
            document = whoami(self.role, self.permissions)
            await self._describe(exchange, 200, packed(document))
        else:
            error = {"error": "Invalid username or password."}
            await self._describe(exchange, 401, packed(error))

    async def _model_info(self, exchange: Exchange, model: str) -> None:
        if model in self.models or model in self.embedding_models:
            document = model_info(model, chat=model in self.models)
            await self._describe(exchange, 200, packed(document))
        else:
            await self._describe(exchange, 404, packed({"error": "Repository not found"}))

    async def _info(self, exchange: Exchange) -> None:
        await self._describe(exchange, 200, packed(tei.information(self.embedding_models[0])))

    async def _health(self, exchange: Exchange) -> None:
        await self._describe(exchange, 200, b"", None)


def _not_supported(model: str) -> dict[str, Any]:
    return {
        "error": {
            "message": f"The requested model '{model}' is not supported by any provider you have "
            "enabled.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_supported",
        }
    }


def _shaped(vectors: Any, texts: list[str], shape: str, *, single: bool) -> Any:
    """Nest vectors as the back end in question does."""
    if shape == "tei":
        return vectors
    if shape == "pooled":
        return vectors[0] if single and vectors else vectors
    by_token = [[v] * (count_tokens(t) + 2) for v, t in zip(vectors, texts, strict=False)]
    return by_token if single else [[tokens] for tokens in by_token]
