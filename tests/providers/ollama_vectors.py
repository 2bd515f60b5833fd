"""What Ollama's three embedding endpoints answer and refuse."""

from __future__ import annotations

from typing import Any

from tests.providers.dialect import embedding_list
from tests.providers.fault import EMBEDDING
from tests.providers.models import Loaded, ModelStore
from tests.providers.script import EmbeddingRequest, count_tokens
from tests.providers.vectors import normalised, raw_vector

WINDOW = 256
"""Trained context of all-minilm, in tokens; two of them are the model's own."""


def embed(call: EmbeddingRequest, loaded: Loaded) -> dict[str, Any]:
    """The answer of ``/api/embed``: unit vectors."""
    load = int(loaded.take_load_seconds() * 1e9)
    document = {
        "model": call.model,
        "embeddings": _vectors(call, unit=True),
        "total_duration": load + 14_143_917,
        "load_duration": load + 1_019_500,
        "prompt_eval_count": sum(min(count_tokens(text) + 2, WINDOW) for text in call.texts),
    }
    return {name: value for name, value in document.items() if value != 0}


def legacy(call: EmbeddingRequest, _: Loaded) -> dict[str, Any]:
    """The answer of ``/api/embeddings``: one vector, not normalised."""
    vectors = _vectors(call, unit=False)
    return {"embedding": vectors[0] if vectors else []}


def openai(call: EmbeddingRequest, _: Loaded) -> dict[str, Any]:
    """The answer of ``/v1/embeddings``."""
    return embedding_list(call, _vectors(call, unit=True))


def refusal(call: EmbeddingRequest, store: ModelStore, *, modern: bool) -> tuple[int, str] | None:
    """What a healthy Ollama refuses, as (status, text); ``modern`` is 0.30 or later."""
    if not all(isinstance(text, str) for text in call.texts):
        return 400, "invalid input type"
    if not store.has(call.model):
        return 404, f'model "{call.model}" not found, try pulling it first'
    if "embedding" not in store.capabilities(call.model):
        text = "This server does not support embeddings. Start it with `--embeddings`"
        return 501, text if modern else "this model does not support embeddings"
    status = 500 if call.path == "/api/embeddings" else 400
    if call.body.get("truncate") is False and any(map(_too_long, call.texts)):
        return status, "the input length exceeds the context length"
    if call.fault and call.fault.kind in ("nan_vectors", "infinite_vectors"):
        return status, "embedding contains NaN or Inf values"
    return None


def _too_long(text: str) -> bool:
    return count_tokens(text) > WINDOW - 2


def _vectors(call: EmbeddingRequest, *, unit: bool) -> Any:
    """The vectors of the first tokens of each text, changed as the call's fault says."""
    vectors = []
    for text in call.texts:
        vector = raw_vector(" ".join(text.split()[: WINDOW - 2]), call.model)
        vector = vector[: call.body.get("dimensions")]
        vectors.append((normalised(vector) if unit else vector).tolist())
    change = EMBEDDING.get(call.fault.kind) if call.fault else None
    return change(vectors) if change and vectors else vectors
