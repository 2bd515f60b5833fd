"""What an error is to an HTTP client: a status, a type, a sentence and the way out."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from hoptrail.characters import whole
from hoptrail.errors import (
    AllBackendsFailed,
    BackendError,
    BudgetExceeded,
    ChangeImpossible,
    FactNotFound,
    FactRefused,
    HoptrailError,
    InvalidResponse,
    ModelNotFound,
    NoBackend,
    RequestRefused,
    RunBusy,
    RunCancelled,
    RunNotFound,
    RunOfAnother,
    SettingsError,
    ShuttingDown,
    TooManyRuns,
)
from hoptrail.server.gone import ClientGone

_STATUSES: tuple[tuple[type[HoptrailError], int], ...] = (
    (RunNotFound, 404),
    (ModelNotFound, 404),
    (FactNotFound, 404),
    (RunBusy, 409),
    (RunOfAnother, 409),
    (RunCancelled, 409),
    (ChangeImpossible, 422),
    (RequestRefused, 422),
    (SettingsError, 422),
    (FactRefused, 422),
    (TooManyRuns, 429),
    (InvalidResponse, 502),
    (BackendError, 503),
    (AllBackendsFailed, 503),
    (NoBackend, 503),
    (ShuttingDown, 503),
)
"""The first class that fits decides; whatever fits none is 500."""

_WHY = {
    400: "the request is not well formed",
    401: "a bearer token is missing or wrong",
    403: "the page that asks is of an origin that is not allowed",
    404: "there is no such thing",
    405: "the path exists, the method does not",
    408: "the request did not arrive in time",
    409: "the run is being worked on, asks another question, or was stopped",
    413: "the body is too large",
    414: "the address is too long",
    415: "the body is not sent as JSON",
    421: "the Host is not this server's",
    422: "what was sent cannot be used",
    429: "too many runs are under way",
    431: "the headers are too large",
    500: "an error of the server's own",
    502: "a backend gave no complete answer",
    503: "no backend can answer now, or the server is full or stopping",
    504: "the run's time was up",
}


_NO_VALUE = "none_required"
_PHRASES = {413: "content too large", 414: "uri too long", 422: "unprocessable content"}
"""Statuses that Python 3.13 calls otherwise than 3.12: a type is a promise."""


class ProblemDetail(BaseModel):
    """What went wrong. ``fix`` says what to do, ``retry_after`` when to ask again.

    ``code`` and ``param`` stand in every error of OpenAI's; their clients look for them.
    """

    type: str = Field(examples=["no_backend"])
    message: str = Field(examples=["no backend is up"])
    fix: str | None = Field(None, examples=["`hoptrail doctor` says what each backend lacks"])
    retry_after: float | None = Field(None, description="Seconds")
    code: None = None
    param: None = None


class Problem(BaseModel):
    """An error, as every route tells it."""

    error: ProblemDetail


class Refusal(Exception):
    """A request is turned away with a status of HTTP's own."""

    def __init__(
        self,
        status: int,
        message: str,
        fix: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.fix, self.headers = status, fix, dict(headers or {})

    @property
    def problem(self) -> Problem:
        """The JSON of it."""
        return Problem(
            error=ProblemDetail(type=_type_of(self.status), message=str(self), fix=self.fix)
        )

    def response(self) -> JSONResponse:
        """Give what the client gets."""
        return JSONResponse(self.problem.model_dump(), self.status, self.headers)


def _type_of(status: int) -> str:
    phrase = _PHRASES.get(status) or HTTPStatus(status).phrase
    return phrase.lower().replace(" ", "_").replace("-", "_")


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare error statuses for ``responses=`` of a route."""
    return {
        status: {"model": Problem, "description": _WHY[status].capitalize() + "."}
        for status in statuses
    }


def status_of(error: HoptrailError) -> int:
    """Give the status of an error."""
    if isinstance(error, BudgetExceeded) and error.limit == "deadline":
        return 504
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def problem_of(error: HoptrailError) -> Problem:
    """Give the JSON of an error."""
    kind = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
    detail = ProblemDetail(
        type=kind, message=whole(str(error)), fix=_fix(error), retry_after=_retry_after(error)
    )
    return Problem(error=detail)


def problem_response(error: HoptrailError) -> JSONResponse:
    """Give what the client gets for an error."""
    problem, headers = problem_of(error), {}
    if problem.error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(problem.error.retry_after))
    if isinstance(error, BudgetExceeded):
        # OpenAI's clients would spend it again, twice, without a word.
        headers["x-should-retry"] = "false"
    return JSONResponse(problem.model_dump(), status_of(error), headers)


def tell_problems(app: FastAPI) -> None:
    """Let every error that rises out of an endpoint become a problem."""
    handlers: dict[type[Exception], Any] = {
        HoptrailError: _of_hoptrail,
        Refusal: _of_refusal,
        RequestValidationError: _of_validation,
        HTTPException: _of_http,
        ClientGone: _of_gone,
        Exception: _of_bug,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _of_hoptrail(_request: Request, error: HoptrailError) -> JSONResponse:
    return problem_response(error)


async def _of_refusal(_request: Request, error: Refusal) -> JSONResponse:
    return error.response()


async def _of_validation(_request: Request, error: RequestValidationError) -> JSONResponse:
    return Refusal(422, _explained(error.errors())).response()


async def _of_http(request: Request, error: HTTPException) -> JSONResponse:
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _methods(request)
    fix = "`GET /openapi.json` lists every route" if error.status_code in (404, 405) else None
    return Refusal(error.status_code, str(error.detail).lower(), fix, headers).response()


async def _of_gone(_request: Request, _gone: ClientGone) -> Response:
    return Response(status_code=499)  # nginx's number; nobody is there to read it


async def _of_bug(_request: Request, _error: Exception) -> JSONResponse:
    # What happened is for the server's log: a message may hold what is nobody else's.
    return Refusal(500, "an error of the server's own; its log says more").response()


def _methods(request: Request) -> str:
    """Give all methods of a path: Starlette tells those of the first route it finds alone."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    path = next(route.path for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    methods = [route.methods or () for route in routes if route.path == path]
    return ", ".join(sorted(set().union(*methods)))


def _fix(error: HoptrailError) -> str | None:
    if isinstance(error, NoBackend | AllBackendsFailed):
        return "`hoptrail doctor` says what each backend lacks"
    if isinstance(error, BackendError):
        return error.fix or None
    if isinstance(error, RunOfAnother):
        return "leave out run_id, or ask that question"
    return None


def _retry_after(error: HoptrailError) -> float | None:
    causes = error.causes if isinstance(error, AllBackendsFailed) else (error,)
    told = [getattr(cause, "retry_after", None) for cause in causes]
    return min((seconds for seconds in told if seconds is not None), default=None)


def _explained(errors: Sequence[Mapping[str, Any]]) -> str:
    """Say where each mistake is and what it is; values are not repeated."""
    # A parameter that may be left out is one of two kinds, of which None cannot be sent.
    optional = {each["loc"][:-1] for each in errors if each["type"] == _NO_VALUE}
    sent = [each for each in errors if each["type"] != _NO_VALUE]
    told = (f"{_place(each['loc'], optional)}: {_mistake(each)}" for each in sent[:8])
    return "; ".join(map(whole, told))


def _place(where: Sequence[object], optional: Collection[Sequence[object]]) -> str:
    shown = where[:-1] if where[:-1] in optional else where
    return ".".join(str(part)[:80] for part in shown[:8])


def _mistake(error: Mapping[str, Any]) -> str:
    if error["type"] == "json_invalid":
        return f"no usable JSON: {error['ctx']['error']}"
    return str(error["msg"]).removeprefix("Value error, ")
