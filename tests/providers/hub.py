"""Documents of the Hub and the router that describe models and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def model_list(models: Sequence[str]) -> dict[str, Any]:
    """The router's ``/v1/models``."""
    return {"object": "list", "data": [_model_row(model) for model in models]}


def _model_row(model: str) -> dict[str, Any]:
    provider = {
        "provider": "loopback",
        "status": "live",
        "context_length": 131072,
        "pricing": {"input": 0.1, "output": 0.1},
        "supports_tools": True,
        "supports_structured_output": True,
        "is_model_author": False,
    }
    return {
        "id": model,
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": model.partition("/")[0],
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "providers": [provider],
    }


def whoami(role: str, permissions: Sequence[str]) -> dict[str, Any]:
    """The Hub's ``/api/whoami-v2`` of a token with this role."""
    token: dict[str, Any] = {
        "displayName": "loopback",
        "role": role,
        "createdAt": "2026-01-01T00:00:00.000Z",
    }
    if role == "fineGrained":
        entity = {"_id": "0", "type": "user", "name": "loopback"}
        token["fineGrained"] = {
            "canReadGatedRepos": True,
            "global": [],
            "scoped": [{"entity": entity, "permissions": list(permissions)}],
        }
    return {
        "type": "user",
        "id": "0",
        "name": "loopback",
        "fullname": "Loopback",
        "email": "loopback@example.org",
        "emailVerified": True,
        "isPro": False,
        "canPay": False,
        "periodEnd": None,
        "avatarUrl": "",
        "orgs": [],
        "auth": {"type": "access_token", "accessToken": token},
    }


def model_info(model: str, *, chat: bool) -> dict[str, Any]:
    """The Hub's ``/api/models/{id}`` with its provider mapping."""
    task = "conversational" if chat else "feature-extraction"
    mapping = {"status": "live", "providerId": model, "task": task, "isModelAuthor": False}
    return {
        "_id": "0",
        "id": model,
        "modelId": model,
        "private": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "pipeline_tag": "text-generation" if chat else "feature-extraction",
        "inference": "warm",
        "inferenceProviderMapping": {"hf-inference": mapping},
    }
