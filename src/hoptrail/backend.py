"""What the router needs of a backend, whoever's it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import BaseModel, ConfigDict


class Availability(BaseModel):
    """What a probe found, cheap enough to be asked before every run.

    ``detail`` says what was seen, ``fix`` what to do about it. ``models`` are those the
    backend says it has.
    """

    model_config = ConfigDict(frozen=True)

    backend: str
    model: str | None = None
    state: Literal["up", "down", "loading", "unconfigured", "misconfigured", "model_missing"]
    detail: str = ""
    fix: str = ""
    models: tuple[str, ...] = ()
    ms: float = 0.0

    @property
    def up(self) -> bool:
        """Whether a call has a chance to be answered now."""
        return self.state == "up"


class CallOptions(BaseModel):
    """How one call is to be made. Seconds throughout; None means the backend's own default.

    ``output_schema`` constrains the output where the backend can; ``tools`` are in OpenAI form,
    ``tool_choice`` is ``auto``, ``required``, ``none`` or a tool's name, where the backend
    knows it. ``max_tokens`` replaces the backend's own limit on what is written; the
    ``output_budget`` is never exceeded, whatever else allows more.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    output_schema: dict[str, object] | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    tools: tuple[dict[str, object], ...] = ()
    tool_choice: str | None = None
    output_budget: int | None = None

    def most_output(self, own: int | None) -> int | None:
        """Give how many tokens may be written, where the backend's ``own`` limit is this."""
        wished = own if self.max_tokens is None else self.max_tokens
        limits = [each for each in (wished, self.output_budget) if each is not None]
        return min(limits, default=None)


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How long a call may take, in seconds.

    ``first_token`` is up to the first piece of a stream, ``idle`` between two pieces (comments
    that only keep a connection alive are no pieces), ``total`` for the whole answer.
    """

    connect: float = 3.0
    first_token: float = 30.0
    idle: float = 20.0
    total: float = 300.0


DEFAULT_LIMITS = CallLimits()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a backend's model picks its words, unless a call says otherwise.

    None is the server's default. ``temperature`` 0 with a fixed ``seed`` is reproducible as far
    as the server is.
    """

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None


SERVER_SAMPLING = Sampling()


class Backend(ABC):
    """One place that answers: a vendor's client behind one door.

    Both calls raise only `hoptrail.errors.BackendError`, and give a result only when the answer
    is complete (finish reason seen, not empty of both text and tool calls). They do not retry.
    A chunk or message carries the model that answered in ``response_metadata["model_name"]``
    and the tokens in ``usage_metadata`` where the vendor tells them.
    """

    name: str
    """``huggingface``, ``ollama``, ``local`` or ``extractive``."""
    model: str | None
    """The model this backend will ask, or None when the backend decides."""
    server: str = ""
    """The ``host:port`` it asks; empty for one in this process."""
    degraded: bool = False
    """Whether its answers are to be labelled degraded (no language model)."""
    limits: CallLimits = DEFAULT_LIMITS
    """How long the router lets a call take."""

    @abstractmethod
    async def probe(self) -> Availability:
        """Say whether a call could be answered, without spending anything."""

    @abstractmethod
    def stream(
        self, messages: Sequence[BaseMessage], options: CallOptions
    ) -> AsyncIterator[ChatGenerationChunk]:
        """Stream the answer; ends only after the proof that it is complete."""

    @abstractmethod
    async def generate(self, messages: Sequence[BaseMessage], options: CallOptions) -> ChatResult:
        """Give the whole answer."""
