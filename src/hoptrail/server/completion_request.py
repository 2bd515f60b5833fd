"""What OpenAI clients send to have a chat completed, and what of it cannot be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, field_validator

_MESSAGES: dict[str, type[BaseMessage]] = {
    "user": HumanMessage,
    "assistant": AIMessage,
    "system": SystemMessage,
    "developer": SystemMessage,
}


def _unless(harmless: Callable[[object], bool], why: str) -> BeforeValidator:
    def check(value: object) -> object:
        if value is None or harmless(value):
            return value
        raise ValueError(why)

    return BeforeValidator(check)


def _none(why: str) -> BeforeValidator:
    return _unless(lambda value: value == [], why)


_NO_TOOLS = "these models call no tools of the client: leave it out, or give the server tools"
_ONE = "one answer is given: leave it out or ask for 1"
_NO_PROBABILITIES = "no probabilities are known of an answer written in several steps"
_ONLY_TEXT = "only text is answered"
_FREE_TEXT = "the answer is free text with citations: ask for no other format"


class TextPart(BaseModel):
    """A piece of a message."""

    type: Annotated[
        Literal["text"],
        _unless(lambda value: value == "text", "only text is understood, no image, audio or file"),
    ]
    text: str


class CompletionTurn(BaseModel):
    """One message of the conversation; ``developer`` counts as ``system``."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """The whole text of the message."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class TextFormat(BaseModel):
    """The form of the answer: text."""

    type: Literal["text"]


class StreamOptions(BaseModel):
    """What a stream also tells."""

    model_config = ConfigDict(strict=True)

    include_usage: bool | None = None


class CompletionRequest(BaseModel):
    """A chat to complete.

    What would change the kind of answer and cannot be done (tools, several answers, images, an
    output schema) is refused. What only tunes a model (``temperature``, ``max_tokens``, …) is
    not passed on; `ignored` names it, and so does the response.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    model: str = Field(description="A model id of GET /v1/models", examples=["hoptrail/multi-hop"])
    messages: list[CompletionTurn] = Field(
        min_length=1,
        description="The last one is the question; hoptrail/chat reads the others too",
        examples=[[{"role": "user", "content": "Which river flows through Salzburg?"}]],
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(
        None,
        max_length=200,
        description="Whose memory hoptrail/chat reads and adds to; without one, nobody's",
    )
    n: Annotated[Literal[1] | None, _unless(lambda value: value == 1, _ONE)] = None
    tools: Annotated[list[JsonValue] | None, Field(max_length=0), _none(_NO_TOOLS)] = None
    functions: Annotated[list[JsonValue] | None, Field(max_length=0), _none(_NO_TOOLS)] = None
    logprobs: Annotated[
        Literal[False] | None, _unless(lambda value: value is False, _NO_PROBABILITIES)
    ] = None
    modalities: Annotated[
        Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None,
        _unless(lambda value: value == ["text"], _ONLY_TEXT),
    ] = None
    audio: Annotated[None, _unless(lambda _: False, _ONLY_TEXT)] = None
    response_format: Annotated[
        TextFormat | None, _unless(lambda value: value == {"type": "text"}, _FREE_TEXT)
    ] = None

    @field_validator("messages")
    @classmethod
    def _ends_with_a_question(cls, messages: list[CompletionTurn]) -> list[CompletionTurn]:
        if messages[-1].role != "user" or not messages[-1].text.strip():
            raise ValueError("the last message must be the user's question")
        return messages

    @property
    def question(self) -> str:
        """The text of the last message."""
        return self.messages[-1].text

    @property
    def history(self) -> list[BaseMessage]:
        """The messages before it, those without text left out."""
        earlier = self.messages[:-1]
        return [_MESSAGES[turn.role](content=turn.text) for turn in earlier if turn.text]

    @property
    def remembered(self) -> str | None:
        """Whose memory it is; nobody's when the user has no name."""
        return (self.user or "").strip() or None

    @property
    def ignored(self) -> list[str]:
        """The parameters that were sent and have no effect here."""
        extra = self.model_extra or {}
        return sorted(name for name, value in extra.items() if value is not None)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)
