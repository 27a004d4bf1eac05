"""The Training page: one document for sets, methods and runs."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from danqing.web.pages.document import Page

_PAGE = Page(
    title="tr.title",
    entry="nav.training",
    script="training",
    styles=("danqing", "projects", "training"),
    classes="dq-projects dq-training",
    main="dt-main",
    pictures="'self' data:",  # of a mask that is being painted
)


def training_page() -> APIRouter:
    """`/training`; what it shows stands behind `#` in the address."""
    router = APIRouter(prefix="/training", include_in_schema=False)

    @router.get("")
    def training(request: Request) -> HTMLResponse:
        return _PAGE.answer(request, base="./")

    @router.get("/")
    def training_again(request: Request) -> HTMLResponse:
        return _PAGE.answer(request, base="../")

    return router
