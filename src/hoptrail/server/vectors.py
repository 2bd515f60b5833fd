"""``/v1/embeddings``: vectors of one space, and which one it is."""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, Literal

from fastapi import Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import to_json

from hoptrail.embeddings import EmbedderChain
from hoptrail.errors import AllBackendsFailed, BackendError, ModelNotFound, RequestRefused
from hoptrail.server.gone import cancelled_when_gone
from hoptrail.server.models import EMBEDDINGS
from hoptrail.server.problems import refusals
from hoptrail.server.routing import router
from hoptrail.server.served import Serving
from hoptrail.space import Embedder, EmbeddingSpace, TextKind, Vectors

routes = router("OpenAI", "/v1")

_MOST_TEXTS = 2048
_CHARACTERS_PER_TOKEN = 4


def _texts_only(value: object) -> object:
    if isinstance(value, list) and any(isinstance(each, int | list) for each in value):
        raise ValueError("send texts: tokens of one model mean nothing to another")
    return value


class EmbeddingsRequest(BaseModel):
    """Texts to embed. ``dimensions`` cannot be chosen: another width than the model's is refused.

    ``model`` is ``hoptrail/embeddings`` (the first embedder that is up), an embedder's model,
    ``backend:model``, or the ``space`` of an earlier response: vectors are comparable within one
    space only. ``input_type`` is no field of OpenAI's; some models embed queries differently.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    model: str = Field(examples=[EMBEDDINGS])
    input: Annotated[
        str | Annotated[list[str], Field(min_length=1, max_length=_MOST_TEXTS)],
        BeforeValidator(_texts_only),
    ] = Field(examples=["The river Salzach flows through Salzburg."])
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    input_type: TextKind = "passage"

    @property
    def texts(self) -> list[str]:
        """The texts, one or more."""
        return [self.input] if isinstance(self.input, str) else self.input


class EmbeddingRow(BaseModel):
    """One vector: numbers, or their little-endian float32 bytes in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens, estimated from the texts' length: embedders do not tell."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingNote(BaseModel):
    """Who embedded, and in which space; send ``space`` as ``model`` to stay in it."""

    backend: str
    model: str
    space: str
    dimensions: int


class EmbeddingList(BaseModel):
    """Vectors in the order of their texts; ``model`` is ``backend:model``."""

    object: Literal["list"] = "list"
    data: list[EmbeddingRow]
    model: str
    usage: EmbeddingUsage
    hoptrail: EmbeddingNote


@routes.post("/embeddings", response_model=EmbeddingList, responses=refusals(404, 415, 502))
async def embed(asked: EmbeddingsRequest, request: Request, served: Serving) -> Response:
    """Embed texts; all vectors of a response are of one space."""
    async with cancelled_when_gone(request):
        embedder = await _embedder(served.trail.assembly.embedders, asked.model)
        space = await embedder.space()
        _check_width(asked, space)
        vectors = await embedder.embed(asked.texts, asked.input_type)
        body = await asyncio.to_thread(_body, asked, space, vectors)
    return Response(body, media_type="application/json")


async def _embedder(chain: EmbedderChain, model: str) -> Embedder:
    """Give the embedder of a name; never one of another name in its place."""
    if model == EMBEDDINGS:
        return await chain.first()
    named = [each for each in chain.members if _goes_by(each, model)]
    if not named:
        known = [f"{each.backend}:{each.model}" for each in chain.members]
        raise ModelNotFound(model, (EMBEDDINGS, *known))
    causes: list[BackendError] = []
    for embedder in named:
        try:
            space = await embedder.space()
        except BackendError as error:
            causes.append(error)
        else:
            if model in (embedder.model, _name(embedder), space.id):
                return embedder
    if causes:
        raise AllBackendsFailed(causes)
    raise ModelNotFound(model, (EMBEDDINGS, *map(_name, named)))


def _name(embedder: Embedder) -> str:
    return f"{embedder.backend}:{embedder.model}"


def _goes_by(embedder: Embedder, model: str) -> bool:
    return model in (embedder.model, _name(embedder)) or model.startswith(f"{_name(embedder)}:")


def _check_width(asked: EmbeddingsRequest, space: EmbeddingSpace) -> None:
    if asked.dimensions not in (None, space.dimensions):
        raise RequestRefused(
            f"this model's vectors have {space.dimensions} dimensions: leave `dimensions` out",
            backend=space.backend,
            model=space.model,
        )


def _body(asked: EmbeddingsRequest, space: EmbeddingSpace, vectors: Vectors) -> bytes:
    """Give an `EmbeddingList` as JSON, row by row: other threads get their turn between two."""
    tokens = sum(map(len, asked.texts)) // _CHARACTERS_PER_TOKEN
    told = EmbeddingList(
        data=[],
        model=f"{space.backend}:{space.model}",
        usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
        hoptrail=EmbeddingNote(
            backend=space.backend, model=space.model, space=space.id, dimensions=space.dimensions
        ),
    )
    rows = [_row(index, vector, asked.encoding_format) for index, vector in enumerate(vectors)]
    rest = told.model_dump_json(exclude={"data"}).encode()
    return b'{"data":[' + b",".join(rows) + b"]," + rest[1:]


def _row(index: int, vector: Vectors, encoding: str) -> bytes:
    if encoding == "base64":
        embedding: object = base64.b64encode(vector.astype("<f4").tobytes()).decode()
    else:
        embedding = vector.tolist()
    return to_json({"object": "embedding", "index": index, "embedding": embedding})
