"""Text that is safe to show: no terminal control sequence of a document or a model survives."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hoptrail.trace import Usage

_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor, screen
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, …
    r"|\x1b[ -/]*[0-~]?"  # the short ones
)
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]"
    r"|[\u202a-\u202e\u2066-\u2069]"  # they reorder what stands beside them
    r"|[\ud800-\udfff]"  # half a character cannot be encoded
)
_ELLIPSIS = "…"


def plain(text: str) -> str:
    """Give a text without control sequences and control characters, line breaks kept."""
    text = _SEQUENCES.sub("", text.replace("\r\n", "\n"))
    return _CONTROLS.sub("", text).expandtabs(4)


def one_line(text: str, longest: int | None = None) -> str:
    """Give a text on one line, cut to ``longest`` characters with an ellipsis."""
    line = " ".join(plain(text).split())
    if longest is not None and len(line) > longest:
        return line[: max(0, longest - 1)].rstrip() + _ELLIPSIS
    return line


def json_text(value: object, indent: int | None = 2) -> str:
    """Give a value as JSON in which every control character is escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _CONTROLS.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def duration(ms: float) -> str:
    """Give a duration as a person says it: ``8 ms``, ``2.4 s``, ``3 min 05 s``."""
    if ms < 999.5:
        return f"{ms:.0f} ms"
    if ms < 59_950:
        return f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    return f"{minutes} min {seconds:02d} s"


def amount(number: int, noun: str) -> str:
    """Give a number with its noun: ``1 passage``, ``5 passages``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def model_name(backend: str, model: str | None) -> str:
    """Give a model as it is asked for: ``ollama:qwen3:8b``."""
    return plain(f"{backend}:{model}" if model and model != backend else backend)


def spent(usage: Usage) -> str:
    """Say what a run spent on language models."""
    tokens = f"{usage.input_tokens:,} + {usage.output_tokens:,} tokens"
    return f"{amount(usage.llm_calls, 'LLM call')} · {tokens}"
