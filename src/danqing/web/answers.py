"""What the page's routes share: the language of an answer, refusals, the mark of a request from the page."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header, HTTPException, Request
from fastapi.responses import JSONResponse

from danqing.spec.errors import DanqingError
from danqing.spec.record import Record
from danqing.web.errors import explain
from danqing.web.i18n import LANGUAGES, negotiate

PREFIX = "/web"


def language_of(request: Request) -> str:
    """The page's language as it names it, else the best for the browser."""
    wanted = request.query_params.get("lang", "")
    return wanted if wanted in LANGUAGES else negotiate(request.headers.get("accept-language", ""))


def refused(error: DanqingError, request: Request) -> JSONResponse:
    """The error in the page's language."""
    return JSONResponse(explain(error, language_of(request)), status_code=error.http_status)


def from_page(x_danqing: Annotated[str, Header()] = "") -> None:
    """Hold to the header that a foreign site cannot send without the browser asking first.

    Raises:
        HTTPException: It is missing.
    """
    if x_danqing != "page":
        raise HTTPException(status_code=403, detail="send the header X-Danqing: page")


def summary(record: Record) -> dict[str, Any]:
    """What the history strip shows of a Record."""
    base = record.plan.base
    return {
        "id": record.id,
        "prompt": base.text.prompt,
        "width_px": record.width_px,
        "height_px": record.height_px,
        "seed": str(record.plan.seeds.seed),
        "deleted": record.deleted_at is not None,
    }
