"""Whether the server is alive and can answer; what it is, its page, its OpenAPI document."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Annotated

from fastapi import Header, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from hoptrail.backend import Availability
from hoptrail.errors import RetrievalError
from hoptrail.server.authorisation import Authorisation
from hoptrail.server.problems import refusals
from hoptrail.server.routing import complete, open_router, router
from hoptrail.server.served import Served, Serving
from hoptrail.viewer import server_page, server_policy

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


@open_routes.get(
    "/",
    summary="What is this?",
    response_model=Welcome,
    responses={
        **refusals(401),
        200: {
            "description": "What this server is; to a browser, the page that looks at its runs.",
            "content": {"text/html": {"schema": {"type": "string"}}},
        },
    },
)
async def welcome(request: Request, accept: Annotated[str, Header()] = "*/*") -> Response:
    """Say what this server is; to a browser, with the page that looks at its runs.

    The page holds nothing of the runs, so it needs no token: a browser could not send one. What
    it asks for afterwards does.
    """
    vary = {"Vary": "Accept"}
    if _prefers_html(accept):
        headers = {**vary, "Content-Security-Policy": server_policy()}
        return HTMLResponse(server_page(), headers=headers)
    authorisation: Authorisation = request.app.state.authorisation
    authorisation.check(request.scope)
    told = Welcome(version=version("hoptrail"), links=_LINKS)
    return JSONResponse(told.model_dump(), headers=vary)


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


_LINKS = {
    "openapi": "/openapi.json",
    "health": "/healthz",
    "readiness": "/readyz",
    "ask": "/reasoning/multi-hop",
    "runs": "/runs",
    "models": "/v1/models",
    "memory": "/memory",
    "client": "/client/hoptrail.js",
}
_SUMMARY = "Multi-hop question answering over whichever of Hugging Face and Ollama is up."


def _prefers_html(accept: str) -> bool:
    """Say whether somebody asks for HTML by its name, and for no JSON rather."""
    wanted = dict(map(_weighed, accept.lower().split(",")))
    html = wanted.get("text/html", 0.0)
    return html > 0 and html >= wanted.get("application/json", 0.0)


def _weighed(choice: str) -> tuple[str, float]:
    kind, *parameters = (part.strip() for part in choice.split(";"))
    weight = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    try:
        return kind, float(weight)
    except ValueError:
        return kind, 0.0


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
        documents=assembly.documents,
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
