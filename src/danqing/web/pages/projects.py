"""The Projects page: one document for all projects and for each."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse

from danqing.web.pages.document import Page

_PAGE = Page(
    title="p.title",
    entry="nav.projects",
    script="projects",
    styles=("danqing", "projects"),
    classes="dq-projects",
    main="dp-main",
    pictures="'self' data: blob:",  # of drafts, and of what is uploaded
)
ProjectId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,64}$")]


def projects_page() -> APIRouter:
    """`/projects` and `/projects/{id}`."""
    router = APIRouter(prefix="/projects", include_in_schema=False)

    @router.get("")
    def projects(request: Request) -> HTMLResponse:
        return _PAGE.answer(request, base="./")

    @router.get("/")
    def projects_again(request: Request) -> HTMLResponse:
        return _PAGE.answer(request, base="../")

    @router.get("/{project_id}")
    def project(project_id: ProjectId, request: Request) -> HTMLResponse:
        _ = project_id  # the page's JavaScript reads it from the address
        return _PAGE.answer(request, base="../")

    return router
