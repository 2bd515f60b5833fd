"""A Transformers chat model in this very process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from functools import cached_property
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from hoptrail.backend import Availability, Backend, CallLimits, CallOptions
from hoptrail.connections import PerLoop
from hoptrail.errors import BackendRefused, InvalidResponse

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_NEEDED = ("transformers", "torch")


class LocalBackend(Backend):
    """A chat model loaded from the Hub's cache or a folder, asked one question at a time.

    It runs in a thread and gives its answer in one piece; a cancelled call lets go of the
    answer, but the thread finishes it.
    """

    name = "local"
    limits = CallLimits(first_token=300.0)

    def __init__(self, model: str | None = None, *, max_tokens: int = 1024) -> None:
        self.model = model
        self._max_tokens = max_tokens
        self._one_at_a_time = Lock()
        # Waiting is done here, not in threads of the pool that everybody shares.
        self._line = PerLoop(asyncio.Lock)

    async def probe(self) -> Availability:
        """Say whether a model is set and the libraries are there; nothing is loaded."""
        detail = fix = ""
        if self.model is None:
            detail, fix = "no model set", "set HOPTRAIL_LOCAL_MODEL to a model or a folder"
        elif missing := [name for name in _NEEDED if find_spec(name) is None]:
            detail = f"{' and '.join(missing)} not installed"
            fix = f'pip install "hoptrail[local]" {" ".join(missing)}'
        state = "unconfigured" if detail else "up"
        fields = {"backend": self.name, "model": self.model, "state": state}
        return Availability.model_validate(fields | {"detail": detail, "fix": fix})

    async def stream(
        self, messages: Sequence[BaseMessage], options: CallOptions
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        """Give the answer as one chunk."""
        result = await self.generate(messages, options)
        metadata = {"model_name": self.model, "finish_reason": "stop"}
        message = AIMessageChunk(content=result.generations[0].text, response_metadata=metadata)
        yield ChatGenerationChunk(message=message)

    async def generate(self, messages: Sequence[BaseMessage], options: CallOptions) -> ChatResult:
        """Give the whole answer."""
        found = await self.probe()
        if not found.up:
            message = f"{found.detail} ({found.fix})"
            raise BackendRefused(message, backend=self.name, model=self.model)
        try:
            async with self._line.get():
                result = await asyncio.to_thread(self._answer, list(messages), options)
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            message = f"the model cannot be run: {error}"
            raise BackendRefused(message, backend=self.name, model=self.model) from error
        if not result.generations[0].text.strip():
            raise InvalidResponse("the answer is empty", backend=self.name, model=self.model)
        return result

    def _answer(self, messages: list[BaseMessage], options: CallOptions) -> ChatResult:
        wished = {"max_new_tokens": options.most_output(self._max_tokens)}
        sampled = bool(options.temperature)
        heat = {"temperature": options.temperature} if sampled else {}
        with self._one_at_a_time:
            settings = {"do_sample": sampled, **wished, **heat}
            return self._chat._generate(messages, pipeline_kwargs=settings)

    @cached_property
    def _chat(self) -> BaseChatModel:
        from langchain_huggingface import ChatHuggingFace, HuggingFacePipeline

        pipeline = HuggingFacePipeline.from_model_id(
            model_id=self.model or "",
            task="text-generation",
            pipeline_kwargs={"return_full_text": False},
        )
        return ChatHuggingFace(llm=pipeline)
