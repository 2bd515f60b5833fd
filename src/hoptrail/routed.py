"""The chunk the router streams: added up, it never joins what two attempts wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.outputs import ChatGenerationChunk

RESTARTED = "attempt_restarted"


class RoutedMessageChunk(AIMessageChunk):
    """A piece of an answer, or the news that the answer starts anew.

    The news is an empty chunk whose ``response_metadata["attempt_restarted"]`` holds ``from``,
    ``to`` and ``why``. Adding chunks drops everything before the last of them, so that whoever
    gathers a stream, LangChain itself included, gets the text of one attempt.
    """

    @classmethod
    def lc_id(cls) -> list[str]:
        """Be stored as the plain chunk that it is to everybody else."""
        return AIMessageChunk.lc_id()

    def __add__(self, other: Any) -> AIMessageChunk:  # type: ignore[override]  # Any: as its base
        """Add one chunk, or all that are left; the latter gives a plain chunk.

        LangChain turns a gathered chunk into a message of its class's first parent, which has
        to be ``AIMessage``.
        """
        several = isinstance(other, list | tuple)
        chunks = [self, *(other if several else [other])]
        start = max((at for at, chunk in enumerate(chunks) if restarts(chunk)), default=0)
        if several:
            return add_ai_message_chunks(plain(chunks[start]), *chunks[start + 1 :])
        return add_ai_message_chunks(*chunks[start:])


def restarts(message: AIMessageChunk) -> bool:
    """Say whether everything before this chunk is void."""
    return RESTARTED in message.response_metadata


def plain(message: AIMessageChunk) -> AIMessageChunk:
    """Give the chunk as LangChain's own class."""
    return AIMessageChunk.model_construct(**message.__dict__)


def routed(chunk: ChatGenerationChunk) -> ChatGenerationChunk:
    """Make a backend's chunk the router's, in place: no model is built for each token."""
    object.__setattr__(chunk.message, "__class__", RoutedMessageChunk)
    return chunk


def gathered(chunks: Sequence[ChatGenerationChunk]) -> AIMessageChunk:
    """Give the one message of a whole stream."""
    first, *others = (chunk.message for chunk in chunks)
    whole = first + others
    assert isinstance(whole, AIMessageChunk)
    return whole
