"""The fence around what others wrote: no text of a prompt can end the message it stands in.

A server writes a conversation into the chat template of its model, and most then read the
template's own marks wherever they stand: a passage with ``<|im_end|>`` in it would end the user's
message, and could begin one of the system's. So each such mark gets a space, which makes it text.
"""

from __future__ import annotations

import re

_NAMES = (
    "s|bos|eos|pad|unk|cls|sep|mask|sop|eop|eod|start_of_turn|end_of_turn|end_of_utterance"
    "|start_of_image|end_of_image|tools?|tool_calls?|tool_response|function_calls?|think|thinking"
    r"|(?:extra_id|special|reserved|unused)_?\d{1,6}"
)
_MARK = re.compile(
    r"<(?=[|｜])"  # <|im_end|> and its like; DeepSeek writes the bar wide
    rf"|<(?=/?(?:{_NAMES})>)"
    r"|<(?=</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_\w{1,20}|ARGS|THINK|IMG|gMASK)\])",
    re.IGNORECASE,
)


def fenced(text: str) -> str:
    """Give a text in which nothing is a mark of a chat template; nearly every text as it is."""
    return _MARK.sub(r"\g<0> ", text) if "<" in text or "[" in text else text
