"""Canaries: keys that are worth nothing, and every form in which one could get out."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import cache
from urllib.parse import quote

CANARIES = {
    "token": 'hf_c4n4ry/HF+t0ken="Zq7',
    "ollama_token": 'oll-c4n4ry/OLL+t0ken="Wk3',
    "api_token": "c4n4ry-D00R-t0ken-Rm9",
    "login": "hf_c4n4rySAVED+l0gin/Xb5",
    "otlp_headers": "c4n4ry.SP4NS.t0ken.Lp2",
    "proxy": "c4n4ry-PR0XY-p4ss-Ty6",
    "client": "c4n4ry-CLI3NT-h3ader-Vd8",
    "cookie": "c4n4ry-C00KIE-v4lue-Nf4",
}
"""A key for each place that holds one; the odd characters of some change in every encoding."""

_HALF = 12
"""Characters of a key that are still one: enough to find it by, or to guess the rest."""


def leaks(sink: str | bytes) -> list[str]:
    """Give which canaries are in a sink, and in what form."""
    data = sink.encode("utf-8", "surrogatepass") if isinstance(sink, str) else sink
    return [
        f"{name}, {form}" for name, forms in _all_forms() for form, told in forms if told in data
    ]


def leaks_in(**sinks: str | bytes) -> dict[str, list[str]]:
    """Give the leaks of each sink that has any."""
    return {name: found for name, sink in sinks.items() if (found := leaks(sink))}


@cache
def _all_forms() -> tuple[tuple[str, tuple[tuple[str, bytes], ...]], ...]:
    return tuple((name, tuple(_forms(key))) for name, key in CANARIES.items())


def _forms(key: str) -> Iterator[tuple[str, bytes]]:
    raw = key.encode()
    yield "raw", raw
    yield "its beginning", raw[:_HALF]
    yield "its end", raw[-_HALF:]
    yield "reversed", raw[::-1]
    yield "url-encoded", quote(key, safe="").encode()
    yield "JSON-escaped", json.dumps(key)[1:-1].encode()
    yield "JSON-escaped twice", json.dumps(json.dumps(key))[3:-3].encode()
    for shift in range(3):
        # The letters that do not depend on what stands before and after.
        encoded = base64.b64encode(b"\0" * shift + raw)
        start, end = (shift * 8 + 5) // 6, (len(raw) + shift) * 8 // 6
        yield f"base64, shifted by {shift}", encoded[start:end]
        yield f"base64url, shifted by {shift}", encoded[start:end].translate(_URL)


_URL = bytes.maketrans(b"+/", b"-_")
