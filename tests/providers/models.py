"""Ollama's models: what is installed, what each can do, what is loaded."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.providers.vectors import width_of

FIVE_MINUTES = 300.0
NEVER = 290 * 365.25 * 86400
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
GO_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)


def go_json(document: Any) -> bytes:
    """Compact JSON as Go's encoder writes it."""
    encoded = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    for character, escape in GO_ESCAPES:
        encoded = encoded.replace(character, escape)
    return encoded


def rfc3339(at: float | None = None) -> str:
    """A time as Ollama writes it: UTC, nanoseconds without trailing zeros, ``Z``."""
    nanoseconds = time.time_ns() if at is None else int(at * 1e9)
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def full_name(name: str) -> str:
    """The displayed short form of a model name: it always has its tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def keep_alive_seconds(value: Any) -> float:
    """Seconds a model stays: a number, or a Go duration such as 1h30m; negative is never."""
    if value is None:
        return FIVE_MINUTES
    if isinstance(value, int | float):
        return float(value) if value >= 0 else NEVER
    parts = re.findall(r"([\d.]+)(ms|s|m|h)", value)
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    return NEVER if value.startswith("-") else seconds


@dataclass
class Loaded:
    """A model in memory."""

    name: str
    context: int
    load_seconds: float
    expires_at: float

    def take_load_seconds(self) -> float:
        """What the load took, told to the first call only."""
        seconds, self.load_seconds = self.load_seconds, 0.0
        return seconds


class ModelStore:
    """The models of one server. Names are compared with their tag and without case."""

    def __init__(self, names: Sequence[str]) -> None:
        self.installed = [full_name(name) for name in names]
        self._loaded: dict[str, Loaded] = {}

    def has(self, name: str) -> bool:
        """Whether this model is installed."""
        return full_name(name).lower() in (installed.lower() for installed in self.installed)

    def capabilities(self, name: str) -> list[str]:
        """What a model can do, guessed from its name."""
        family = full_name(name).lower()
        if any(part in family for part in ("embed", "minilm", "bge", "arctic")):
            return ["embedding"]
        thinks = any(part in family for part in ("qwen3", "deepseek-r1", "gpt-oss", "thinking"))
        return ["completion", "tools", *(["thinking"] if thinks else [])]

    def load(self, name: str, context: int, seconds: float) -> Loaded:
        """Put a model into memory."""
        loaded = Loaded(name, context, seconds, time.time() + FIVE_MINUTES)
        self._loaded[name.lower()] = loaded
        return loaded

    def loaded(self, name: str, context: int | None = None) -> Loaded | None:
        """The model in memory, or None when it must be loaded first (again, with ``context``)."""
        loaded = self._loaded.get(full_name(name).lower())
        if loaded is None or loaded.expires_at <= time.time():
            return None
        return loaded if context in (None, loaded.context) else None

    def keep(self, name: str, keep_alive: Any) -> None:
        """Start the timer of a model again; 0 unloads it."""
        seconds = keep_alive_seconds(keep_alive)
        if seconds == 0:
            self._loaded.pop(name.lower(), None)
        elif loaded := self._loaded.get(name.lower()):
            loaded.expires_at = time.time() + seconds

    def tags(self, *, with_capabilities: bool) -> dict[str, Any]:
        """The answer of ``/api/tags``."""
        rows = [self._row(name) for name in self.installed]
        if with_capabilities:
            for row in rows:
                row["capabilities"] = self.capabilities(row["name"])
        return {"models": rows}

    def ps(self) -> dict[str, Any]:
        """The answer of ``/api/ps``, longest expiry first."""
        now = time.time()
        present = [loaded for loaded in self._loaded.values() if loaded.expires_at > now]
        present.sort(key=lambda loaded: loaded.expires_at, reverse=True)
        return {"models": [self._ps_row(loaded) for loaded in present]}

    def show(self, name: str) -> dict[str, Any]:
        """The answer of ``/api/show``."""
        architecture = "bert" if "embedding" in self.capabilities(name) else "llama"
        information: dict[str, Any] = {"general.architecture": architecture}
        information[f"{architecture}.context_length"] = 512 if architecture == "bert" else 40960
        information[f"{architecture}.embedding_length"] = width_of(full_name(name))
        if architecture == "bert":
            information["bert.pooling_type"] = 1
        return {
            "modelfile": f"FROM {full_name(name)}\n",
            "template": "{{ .Prompt }}",
            "details": self._details(name),
            "model_info": information,
            "capabilities": self.capabilities(name),
            "modified_at": "2026-05-04T14:56:49.277302595Z",
        }

    def _row(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "model": name,
            "modified_at": "2026-05-04T14:56:49.277302595Z",
            "size": 3_826_793_677,
            "digest": hashlib.sha256(name.encode()).hexdigest(),
            "details": self._details(name),
        }

    def _ps_row(self, loaded: Loaded) -> dict[str, Any]:
        row = self._row(loaded.name)
        del row["modified_at"]
        row |= {"expires_at": rfc3339(loaded.expires_at), "size_vram": 0}
        return {**row, "context_length": loaded.context}

    def _details(self, name: str) -> dict[str, Any]:
        family = "bert" if "embedding" in self.capabilities(name) else "llama"
        return {
            "parent_model": "",
            "format": "gguf",
            "family": family,
            "families": [family],
            "parameter_size": "8.2B",
            "quantization_level": "Q4_K_M",
        }
