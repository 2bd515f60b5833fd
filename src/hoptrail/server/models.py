"""``/v1/models``: what an OpenAI client may ask, each graph a model."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel

from hoptrail.errors import ModelNotFound
from hoptrail.run import GraphName
from hoptrail.server.problems import refusals
from hoptrail.server.routing import router

routes = router("OpenAI", "/v1")

GRAPHS: dict[str, GraphName] = {
    "hoptrail/multi-hop": "multi-hop",
    "hoptrail/iterative": "iterative",
    "hoptrail/chat": "chat",
}
EMBEDDINGS = "hoptrail/embeddings"
_ALL = (*GRAPHS, EMBEDDINGS)


ModelId = Annotated[str, Path(examples=["hoptrail/multi-hop"], description="A model's id")]


class Model(BaseModel):
    """One model, as OpenAI's clients read it; ``created`` is not known."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "hoptrail"


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]


@routes.get("/models")
async def list_models() -> ModelList:
    """Give the graphs, and the embeddings, as models."""
    return ModelList(data=[Model(id=name) for name in _ALL])


@routes.get("/models/{model:path}", responses=refusals(404))
async def get_model(model: ModelId) -> Model:
    """Give one model."""
    if model not in _ALL:
        raise ModelNotFound(model, _ALL)
    return Model(id=model)


def graph_of(model: str) -> GraphName:
    """Give the graph that answers for a model.

    Raises:
        ModelNotFound: no graph does.
    """
    if model not in GRAPHS:
        raise ModelNotFound(model, tuple(GRAPHS))
    return GRAPHS[model]
