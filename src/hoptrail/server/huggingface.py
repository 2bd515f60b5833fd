"""The older system's routes to Hugging Face: vectors, chat, status.

Texts without a ``model`` are embedded by the first embedder that is up, and the answer says which,
and in which space. A ``model`` that is named is asked at Hugging Face or nowhere: vectors of
another space in its place would be compared with the wrong ones. The chat is Hugging Face's alone;
``/redix/ask`` is the one with somebody to fall back on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field

from hoptrail.errors import BackendError, BackendRefused, ModelNotFound, RequestRefused
from hoptrail.huggingface_client import (
    HuggingFaceAnswer,
    HuggingFaceClient,
    HuggingFaceStatus,
    Piece,
    get_huggingface_client,
    numbers,
)
from hoptrail.secrecy import HiddenStream, Secrets
from hoptrail.server.event_stream import EventStream, Frame, frame
from hoptrail.server.gone import cancelled_when_gone
from hoptrail.server.problems import refusals
from hoptrail.server.routing import router
from hoptrail.server.served import Served, Serving
from hoptrail.server.stream_schema import PROBLEM, either, holding, stream_of
from hoptrail.server.succession import succeeded_by
from hoptrail.space import Embedder, EmbeddingSpace

routes = router("Hugging Face", "/huggingface")

LONGEST_TEXT = 32_768
MOST_TEXTS = 256
MOST_MESSAGES = 1_000

_NO_SUCH_MODEL = (400, 404)
"""A refused 400 is ``model_not_supported``: every other one says that the request is wrong."""

_OF_VECTORS = succeeded_by("/v1/embeddings")
_OF_CHAT = succeeded_by("/v1/chat/completions")
_OF_STATUS = succeeded_by("/readyz")
_MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_SPACE = f"huggingface:{_MINILM}:0f1e2d3c4b5a"

Text = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT, pattern=r"\S")]
ModelName = Annotated[
    str | None,
    Field(max_length=200, description="A model of Hugging Face's; without one, the settings'"),
]


class EmbeddingRequest(BaseModel):
    """A text to embed."""

    model_config = ConfigDict(
        strict=True, json_schema_extra={"examples": [{"text": "The Vltava flows through Prague."}]}
    )

    text: Text
    model: ModelName = None


class EmbeddingBatchRequest(BaseModel):
    """Texts to embed, all in one space."""

    model_config = ConfigDict(
        strict=True, json_schema_extra={"examples": [{"texts": ["The Vltava.", "The Elbe."]}]}
    )

    texts: list[Text] = Field(min_length=1, max_length=MOST_TEXTS)
    model: ModelName = None


class Provenance(BaseModel):
    """Where vectors come from. Only vectors of one ``space`` may be compared."""

    dimensions: int = Field(examples=[384])
    model: str = Field(description="`hash` when no model did it", examples=[_MINILM])
    backend: str = Field(examples=["huggingface"])
    space: str = Field(description="The embedding space's id", examples=[_SPACE])
    fallback: bool = Field(description="Whether it was another than Hugging Face")


class EmbeddingReply(Provenance):
    """The unit vector of a text."""

    embedding: list[float] = Field(examples=[[0.0125, -0.0467, 0.0301]])


class EmbeddingBatchReply(Provenance):
    """One unit vector per text, in order."""

    embeddings: list[list[float]] = Field(examples=[[[0.0125, -0.0467], [0.0301, 0.0522]]])


class ChatTurn(BaseModel):
    """One message."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=1_000_000)


class HuggingFaceChatRequest(BaseModel):
    """A chat with one of Hugging Face's models."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [{"messages": [{"role": "user", "content": "Name one river."}]}]
        },
    )

    messages: list[ChatTurn] = Field(min_length=1, max_length=MOST_MESSAGES)
    model: ModelName = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    stream: bool = Field(True, description="Server-sent events, or one JSON object")

    def pieces(self, client: HuggingFaceClient) -> AsyncGenerator[Piece, None]:
        """Ask for the answer piece by piece."""
        return client.stream_chat(self._talk, self.model, self.temperature, self.max_tokens)

    async def answer(self, client: HuggingFaceClient) -> AsyncGenerator[HuggingFaceAnswer, None]:
        """Ask for the answer, and give it whole."""
        yield await client.chat(self._talk, self.model, self.temperature, self.max_tokens)

    @property
    def _talk(self) -> list[dict[str, str]]:
        return [{"role": each.role, "content": each.content} for each in self.messages]


class TokenUsage(BaseModel):
    """What it cost, where Hugging Face told."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


class HuggingFaceChatReply(BaseModel):
    """A whole answer."""

    text: str = Field(examples=["The Kemijoki."])
    model: str = Field(examples=["openai/gpt-oss-20b"])
    backend: str = Field(examples=["huggingface"])
    usage: TokenUsage
    finish_reason: str | None = Field(None, examples=["stop"])


@routes.post("/embedding", deprecated=True, responses=refusals(404, 502, 503))
async def embed_one(
    asked: EmbeddingRequest, request: Request, response: Response, served: Serving
) -> EmbeddingReply:
    """Embed a text: at Hugging Face, or else by the next embedder, and say by which."""
    async with cancelled_when_gone(request):
        found = await _embedded(served, [asked.text], asked.model)
    response.headers.update(_OF_VECTORS)
    return EmbeddingReply(embedding=found.rows[0], **found.provenance)


@routes.post("/embedding/batch", deprecated=True, responses=refusals(404, 502, 503))
async def embed_batch(
    asked: EmbeddingBatchRequest, request: Request, response: Response, served: Serving
) -> EmbeddingBatchReply:
    """Embed texts: all at Hugging Face, or else all by the next embedder, and say by which."""
    async with cancelled_when_gone(request):
        found = await _embedded(served, asked.texts, asked.model)
    response.headers.update(_OF_VECTORS)
    return EmbeddingBatchReply(embeddings=found.rows, **found.provenance)


@routes.post(
    "/chat",
    deprecated=True,
    response_model=HuggingFaceChatReply,
    responses={
        200: stream_of(
            "The answer, as events or as JSON.",
            either(holding(text={"type": "string"}), holding(done=True), PROBLEM),
            'data: {"text":"The Kemijoki."}\n\ndata: {"done":true}\n\n',
        ),
        **refusals(404, 429, 502, 503),
    },
)
async def chat(
    asked: HuggingFaceChatRequest, request: Request, response: Response, served: Serving
) -> HuggingFaceChatReply | Response:
    """Chat with Hugging Face, and nobody else.

    Streamed, it sends ``{"text": …}`` for each piece and ``{"done": true}`` after a whole answer;
    one that breaks off ends with an ``error`` event instead.
    """
    client = get_huggingface_client(served.settings)
    headers = {**_OF_CHAT, "X-Hoptrail-Backend": "huggingface"}
    if asked.stream:
        pieces = served.runs.own(_hidden(asked.pieces(client), served.settings.secrets))
        return EventStream(_frames(pieces, asked.model), headers=headers)
    async with (
        aclosing(served.runs.own(asked.answer(client))) as answers,
        cancelled_when_gone(request),
    ):
        with _named(asked.model):
            answer = await anext(answers)
    response.headers.update(headers)
    return HuggingFaceChatReply(
        text=served.settings.secrets.hide(answer.text),
        model=answer.model,
        backend=answer.backend,
        usage=TokenUsage(**answer.usage),
        finish_reason=answer.finish_reason,
    )


@routes.get("/status", deprecated=True)
async def status(response: Response, served: Serving) -> HuggingFaceStatus:
    """Say whether Hugging Face could answer now, and if not, why and what to do."""
    response.headers.update(_OF_STATUS)
    return await get_huggingface_client(served.settings).status()


@dataclass(frozen=True)
class _Embedded:
    rows: list[list[float]]
    space: EmbeddingSpace

    @property
    def provenance(self) -> dict[str, object]:
        backend = self.space.backend
        return {
            "dimensions": self.space.dimensions,
            "model": "hash" if backend == "hash" else self.space.model,
            "backend": backend,
            "space": self.space.id,
            "fallback": backend != "huggingface",
        }


async def _embedded(served: Served, texts: Sequence[str], model: str | None) -> _Embedded:
    if model:
        with _named(model):
            return await _by(get_huggingface_client(served.settings).embedder(model), texts)
    chain = served.trail.assembly.embedders
    while True:
        embedder = await chain.first()
        try:
            return await _by(embedder, texts)
        except RequestRefused:
            raise
        except BackendError:
            continue  # it is benched now: the next decision passes it over


async def _by(embedder: Embedder, texts: Sequence[str]) -> _Embedded:
    vectors = await embedder.embed(texts, "passage")
    return _Embedded(numbers(vectors), await embedder.space())


async def _hidden(
    pieces: AsyncGenerator[Piece, None], secrets: Secrets
) -> AsyncGenerator[Piece, None]:
    """Give pieces without a key of ours that a model says."""
    hidden = HiddenStream(secrets)
    async with aclosing(pieces):
        async for piece in pieces:
            text = piece.get("text")
            if shown := hidden.feed(text) if isinstance(text, str) else hidden.rest():
                yield {"text": shown}
            if text is None:
                yield piece


async def _frames(
    pieces: AsyncGenerator[Piece, None], model: str | None
) -> AsyncGenerator[Frame, None]:
    async with aclosing(pieces):
        with _named(model):
            async for piece in pieces:
                yield frame(piece)


@contextmanager
def _named(model: str | None) -> Iterator[None]:
    """Tell whoever named a model that Hugging Face lacks it: that is no failure of the server's.

    Raises:
        ModelNotFound: it does.
    """
    try:
        yield
    except BackendRefused as error:
        if model and error.status in _NO_SUCH_MODEL:
            raise ModelNotFound(model) from error
        raise
