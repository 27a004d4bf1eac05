"""Every error as `application/problem+json` (RFC 9457) with field, value, allowed and next step."""

from __future__ import annotations

import json
import logging
import math
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import InitErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from danqing.spec.complaints import from_validation_error
from danqing.spec.errors import DanqingError, InvalidRequestError

logger = logging.getLogger("danqing.server")

MEDIA_TYPE = "application/problem+json"
_SHOWN_VALUE_CHARS = 200
_DOORS = frozenset({"query", "path", "header", "body", "cookie"})


class Problem(BaseModel):
    """What went wrong and what to do about it."""

    type: str = Field(description="`urn:danqing:problem:<code>`")
    title: str
    status: int
    detail: str
    code: str
    field: str | None = Field(default=None, description="dotted path of the field that caused it")
    value: Any = Field(default=None, description="the offending value, shortened")
    allowed: str | None = None
    next_step: str | None = None


class ProblemResponse(Response):
    """A problem on the wire; a lone surrogate in a value is replaced, so that it cannot break the answer."""

    media_type = MEDIA_TYPE

    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(problem.model_dump(exclude_none=True), allow_nan=False, ensure_ascii=False).encode(
            "utf-8", "replace"
        )
        super().__init__(body, status_code=problem.status, headers={"Cache-Control": "no-store", **(headers or {})})


def problem_of(error: DanqingError) -> Problem:
    """The problem that tells of this error."""
    return Problem(
        type=f"urn:danqing:problem:{error.code}",
        title=error.code.replace("_", " ").capitalize(),
        status=error.http_status,
        detail=error.message,
        code=error.code,
        field=error.field,
        value=_shown(error.value),
        allowed=error.allowed,
        next_step=error.next_step,
    )


def problem_response(error: DanqingError) -> ProblemResponse:
    """The error as a response; a 401 also asks for the password, a 429 says how long to wait."""
    headers: dict[str, str] = {}
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        # A share's password is asked for on its page: no dialog of the browser may come up for it.
        basic = 'Basic realm="Danqing", charset="UTF-8"'
        headers["WWW-Authenticate"] = 'Danqing-Share realm="share"' if error.code == "share_locked" else basic
    wait_s = getattr(error, "wait_s", None)
    if wait_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
    return ProblemResponse(problem_of(error), headers)


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value if not isinstance(value, int) or abs(value) < 2**64 else _cut(repr(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return _cut(repr(cast("object", value)))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_VALUE_CHARS else f"{text[: _SHOWN_VALUE_CHARS - 1]}…"


def from_request_validation(error: RequestValidationError) -> InvalidRequestError:
    """Say the first complaint about a query, path, header or form field in our own form."""
    first: dict[str, Any] = dict(error.errors()[0])
    location = tuple(part for part in first["loc"] if part not in _DOORS)
    detail = InitErrorDetails(
        type=first["type"], loc=location, input=first.get("input"), ctx=dict(first.get("ctx") or {})
    )
    try:
        return from_validation_error(ValidationError.from_exception_data("request", [detail]))
    except KeyError:  # a kind of complaint that FastAPI made up itself
        name = ".".join(str(part) for part in location)
        return InvalidRequestError(f"{name or 'the request'}: {first['msg']}", field=name or None)


def _from_http(error: HTTPException, request: Request) -> DanqingError:
    if isinstance(error.__cause__, DanqingError):
        return error.__cause__
    plain = DanqingError(str(error.detail), value=request.url.path)
    plain.http_status = error.status_code
    plain.code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    if error.status_code == HTTPStatus.NOT_FOUND:
        plain.message = "there is nothing at this address"
        plain.next_step = "see /api/v1/openapi.json for every address"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        plain.message = f"this address does not take {request.method}"
        plain.field, plain.value = "method", request.method
        plain.allowed = ", ".join(_allowed_methods(request))
        plain.next_step = "use an allowed method"
    return plain


def _allowed_methods(request: Request) -> list[str]:
    """Every method some route takes at this path; Starlette itself names only those of the first route."""
    routes: list[BaseRoute] = request.app.routes
    return [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


async def _on_danqing(_: Request, error: Exception) -> Response:
    known = error if isinstance(error, DanqingError) else DanqingError(str(error))
    if known.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s: %s", type(known).__name__, known)
    return problem_response(known)


async def _on_validation(_: Request, error: Exception) -> Response:
    return problem_response(from_request_validation(cast("RequestValidationError", error)))


async def _on_http(request: Request, error: Exception) -> Response:
    http_error = cast("HTTPException", error)
    if http_error.status_code in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        return Response(status_code=http_error.status_code, headers=http_error.headers)
    problem = problem_of(_from_http(http_error, request))
    headers = dict(http_error.headers or {})
    if http_error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": problem.allowed or ""}
    return ProblemResponse(problem, headers)


class UnexpectedErrors:
    """ASGI middleware: an exception nobody foresaw is logged and told as a 500 without its traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; answer for it if it breaks before it answered."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            logger.info("the client left during %s %s", scope.get("method"), scope.get("path"))
        except Exception:
            if scope["type"] != "http":
                raise
            logger.exception("unexpected error at %s %s", scope.get("method"), scope.get("path"))
            if started:
                raise
            error = DanqingError(
                "something went wrong in Danqing itself", next_step="try again; the server's log has the details"
            )
            error.code = "internal"
            await problem_response(error)(scope, receive, send)


def install(app: FastAPI) -> None:
    """Make every error of this application a problem."""
    app.add_exception_handler(DanqingError, _on_danqing)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_middleware(UnexpectedErrors)


_DESCRIPTION = {
    "description": "What went wrong",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
RESPONSES: dict[int | str, dict[str, Any]] = {"4XX": _DESCRIPTION, "5XX": _DESCRIPTION}
