"""What Text Embeddings Inference refuses, and what it says of itself."""

from __future__ import annotations

from typing import Any

from tests.providers.script import EmbeddingRequest
from tests.providers.stream import packed
from tests.providers.wire import JSON

BATCH = 32

Refusal = tuple[int, bytes, str | None]
"""Status, body, content type."""


def refusal(
    call: EmbeddingRequest, token: str | None, permits: int | None, *, flat: bool = False
) -> Refusal | None:
    """The answer to a call that TEI refuses; ``flat`` is the form of its ``/v1/embeddings``."""
    size = len(call.texts)
    if token is not None and call.headers.get("authorization") != f"Bearer {token}":
        return 401, b"", None
    if not size:
        return _error(400, "Empty", "`inputs` cannot be empty", flat=flat)
    if size > BATCH:
        text = f"batch size {size} > maximum allowed batch size {BATCH}"
        return _error(422, "Validation", text, flat=flat)
    if permits is not None and size > permits:
        return _error(429, "Overloaded", "Model is overloaded", flat=flat)
    return None


def _error(status: int, kind: str, text: str, *, flat: bool) -> Refusal:
    body: dict[str, Any] = {"error": text, "error_type": kind}
    if flat:
        body = {"message": text, "code": status, "type": kind}
    return status, packed(body), JSON


def information(model: str) -> dict[str, Any]:
    """The answer of ``/info``."""
    return {
        "model_id": model,
        "model_sha": None,
        "model_dtype": "float32",
        "served_model_name": model,
        "model_type": {"embedding": {"pooling": "mean"}},
        "max_concurrent_requests": 512,
        "max_input_length": 256,
        "max_batch_tokens": 16384,
        "max_batch_requests": None,
        "max_client_batch_size": BATCH,
        "auto_truncate": True,
        "tokenization_workers": 2,
        "version": "1.9.3",
        "sha": None,
        "docker_label": None,
    }
