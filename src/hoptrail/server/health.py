"""Whether the server is alive, and whether it can answer; what it is, and its OpenAPI document."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

from fastapi import Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from hoptrail.backend import Availability
from hoptrail.errors import RetrievalError
from hoptrail.server.routing import complete, open_router, router
from hoptrail.server.served import Served, Serving

open_routes = open_router("health")
routes = router("health")


class Alive(BaseModel):
    """The server is alive."""

    status: str = Field("ok", examples=["ok"])


class Ready(BaseModel):
    """How everything stands; ``reasons`` say what stands in the way of an answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "ready": True,
                    "reasons": [],
                    "backends": [{"backend": "ollama", "model": "qwen3:8b", "state": "up"}],
                    "embedders": [{"backend": "hash", "state": "up"}],
                    "documents": "notes",
                    "live_runs": 0,
                }
            ]
        }
    )

    ready: bool
    reasons: list[str]
    backends: list[Availability]
    embedders: list[Availability]
    documents: str
    live_runs: int


class Welcome(BaseModel):
    """What this server is, and where to look further."""

    name: str = "hoptrail"
    version: str = Field(examples=["0.1.0"])
    links: dict[str, str] = Field(examples=[{"openapi": "/openapi.json"}])


@open_routes.get("/healthz", summary="Is the server alive?")
async def healthz() -> Alive:
    """Say so while it is."""
    return Alive()


@routes.get(
    "/readyz",
    summary="Can the server answer?",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "It cannot; `reasons` say why."}},
)
async def readyz(serving: Serving) -> Response:
    """Say how each backend and embedder stands, and whether the documents can be searched."""
    found = await _found(serving)
    return JSONResponse(found.model_dump(mode="json"), 200 if found.ready else 503)


@routes.get("/", summary="What is this?")
async def welcome() -> Welcome:
    """Say what this server is."""
    links = {
        "openapi": "/openapi.json",
        "health": "/healthz",
        "readiness": "/readyz",
        "ask": "/reasoning/multi-hop",
        "runs": "/runs",
        "models": "/v1/models",
        "memory": "/memory",
        "client": "/client/hoptrail.js",
    }
    return Welcome(version=version("hoptrail"), links=links)


@routes.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> JSONResponse:
    """Give the OpenAPI document."""
    return JSONResponse(openapi_document(request))


def openapi_document(request: Request) -> dict[str, object]:
    """Give the OpenAPI document of the app, made once."""
    app = request.app
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=_SUMMARY, routes=app.routes
        )
        complete(document, guarded=app.state.authorisation.needed)
        app.openapi_schema = document
    made: dict[str, object] = app.openapi_schema
    return made


_SUMMARY = "Multi-hop question answering over whichever of Hugging Face and Ollama is up."


async def _found(serving: Served) -> Ready:
    assembly = serving.trail.assembly
    async with asyncio.TaskGroup() as group:
        backends = group.create_task(_backends(serving))
        embedders = group.create_task(assembly.embedders.status())
        documents = group.create_task(_documents_problem(serving))
    reasons = [*documents.result()]
    if serving.runs.stopping:
        reasons.append("the server is being stopped")
    if assembly.model is None and not any(each.up for each in backends.result()):
        reasons.append("no backend is up")
    return Ready(
        ready=not reasons,
        reasons=reasons,
        backends=backends.result(),
        embedders=embedders.result(),
        documents=assembly.parts.documents,
        live_runs=len(serving.runs),
    )


async def _backends(serving: Served) -> list[Availability]:
    assembly = serving.trail.assembly
    return await assembly.router.availability() if assembly.model is None else []


async def _documents_problem(serving: Served) -> list[str]:
    corpus = serving.trail.assembly.corpus
    if corpus is None:
        return []
    try:
        await corpus.open()
    except RetrievalError as error:
        return [str(error)]
    return []
