"""Hugging Face: serverless feature extraction, Text Embeddings Inference, own endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from hoptrail.embeddings.batches import BatchedEmbedder
from hoptrail.embeddings.endpoint import Clients, Endpoint
from hoptrail.errors import BackendRefused, InvalidResponse, SettingsError
from hoptrail.space import TextKind

ROUTER = "https://router.huggingface.co"
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(eq=False)
class HuggingFaceEmbedder(BatchedEmbedder):
    """Embeds over HTTP, on ``base_url``'s serverless path or at an endpoint of your own.

    ``embedding_url`` may be a bare host (``/embed`` of Text Embeddings Inference is asked) or a
    full address, which is asked as it stands; one that ends in ``/embeddings`` or ``/v1`` is
    spoken to in OpenAI's form.

    It has a small client of its own because langchain's ``HuggingFaceEndpointEmbeddings`` takes
    no URL, has no time-out and sends any number of texts at once, while the servers take 32.

    A model that answers one vector per token is refused: a mean over tokens would need the
    attention mask, which the server keeps to itself.
    """

    backend = "huggingface"

    model: str = DEFAULT_MODEL
    token: str | None = field(default=None, repr=False)
    base_url: str = ROUTER
    embedding_url: str | None = None
    client: Clients = field(kw_only=True, repr=False)
    timeout: float = field(default=20.0, kw_only=True)

    def __post_init__(self) -> None:
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise SettingsError("the Hugging Face token holds characters no HTTP header may hold")
        self._url = _address(self.model, self.base_url, self.embedding_url)
        self._openai = self._url.path.endswith("/embeddings")
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        self._endpoint = Endpoint(self.backend, self.model, self.client, self.timeout, headers)

    async def _answer(self, texts: list[str], kind: TextKind) -> object:
        self._require_token()
        if self._openai:
            wanted = {"input": texts, "model": self.model, "encoding_format": "float"}
            return self._indexed(await self._ask_server(wanted))
        answer = await self._ask_server({"inputs": texts, "normalize": True, "truncate": True})
        return self._pooled(answer, len(texts))

    async def _ask_server(self, body: Mapping[str, object]) -> object:
        return await self._endpoint.ask("POST", str(self._url), body)

    def _require_token(self) -> None:
        if not self.token and self._url.host == httpx.URL(ROUTER).host:
            self._endpoint.fail(BackendRefused, "no Hugging Face token: set HF_TOKEN")

    def _pooled(self, answer: object, count: int) -> object:
        """Accept a list of vectors, and the flat vector old pipelines give for one text."""
        depth = _nesting(answer)
        if depth > 2:
            self._endpoint.fail(
                BackendRefused,
                f"{self.model} gives a vector per token, not per text; "
                "name a sentence-embedding model",
            )
        return [answer] if depth == 1 and count == 1 else answer

    def _indexed(self, answer: object) -> object:
        """Read OpenAI's form by its ``index`` fields, which need not be in order."""
        items = answer.get("data") if isinstance(answer, dict) else None
        try:
            found = {item["index"]: item["embedding"] for item in items or ()}
            return [found[index] for index in range(len(items or ()))]
        except (TypeError, KeyError):
            self._endpoint.fail(InvalidResponse, "the answer is not a list of indexed embeddings")


def _address(model: str, base_url: str, embedding_url: str | None) -> httpx.URL:
    if embedding_url is None:
        base = base_url.rstrip("/").removesuffix("/v1")
        return httpx.URL(f"{base}/hf-inference/models/{model}/pipeline/feature-extraction")
    url = httpx.URL(embedding_url.rstrip("/"))
    if url.path in ("", "/"):
        return url.copy_with(path="/embed")
    return url.copy_with(path=f"{url.path}/embeddings") if url.path.endswith("/v1") else url


def _nesting(answer: object) -> int:
    depth = 0
    while isinstance(answer, list) and answer:
        answer, depth = answer[0], depth + 1
    return depth
