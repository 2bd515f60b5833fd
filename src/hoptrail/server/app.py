"""The app: one trail behind all its HTTP routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.routing import Route

from hoptrail.errors import SettingsError
from hoptrail.server import (
    browser,
    comparisons,
    completions,
    health,
    huggingface,
    memories,
    models,
    reasoning,
    redix,
    reruns,
    runs,
    vectors,
)
from hoptrail.server.authorisation import Authorisation, Guarded
from hoptrail.server.gate import Gate
from hoptrail.server.live_runs import LiveRuns
from hoptrail.server.problems import tell_problems
from hoptrail.server.served import Served
from hoptrail.server.visitors import Visitors, is_loopback
from hoptrail.trail import Hoptrail

if TYPE_CHECKING:
    from hoptrail.mcp_transport import McpEndpoint

_ROUTES = (
    *completions.routes.routes,
    *models.routes.routes,
    *vectors.routes.routes,
    *reasoning.routes.routes,
    *runs.routes.routes,
    *reruns.routes.routes,
    *comparisons.routes.routes,
    *huggingface.routes.routes,
    *redix.routes.routes,
    *memories.routes.routes,
    *browser.routes.routes,
    *health.routes.routes,
    *health.open_routes.routes,
)


def create_app(trail: Hoptrail, *, host: str = "127.0.0.1") -> FastAPI:
    """Give the app that serves a trail; ``host`` is the address it will be reached at.

    The trail stays its owner's, who closes it.

    Raises:
        SettingsError: others can reach the address, and no token is set.
    """
    settings = trail.assembly.settings
    if settings.api_token is None and not is_loopback(host):
        raise SettingsError(f"{host} can be reached by others: set HOPTRAIL_API_TOKEN first")
    served = Served(trail, LiveRuns(settings.max_runs))
    endpoint = _mcp_endpoint(served)
    app = FastAPI(
        title="Hoptrail",
        version=version("hoptrail"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(served, endpoint),
    )
    app.state.served = served
    app.state.authorisation = Authorisation(settings)
    visitors = Visitors(host, settings.allowed_hosts, settings.allowed_origins)
    app.add_middleware(Gate, visitors=visitors)
    # Not include_router: it finds each route twice for every request.
    app.router.routes.extend(_ROUTES)
    if endpoint is not None:
        app.router.routes.append(Route("/mcp", Guarded(endpoint, app.state.authorisation)))
    tell_problems(app)
    return app


def _mcp_endpoint(served: Served) -> McpEndpoint | None:
    """Give the MCP door where the extra for it is installed."""
    if find_spec("mcp") is None:
        return None
    from hoptrail.mcp_transport import McpEndpoint  # noqa: PLC0415 # an extra

    return McpEndpoint(served.trail, served.runs.own)


def _lifespan(
    served: Served, endpoint: McpEndpoint | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(served.runs.open())
            if endpoint is not None:
                await stack.enter_async_context(endpoint.running())
            yield

    return lifespan
