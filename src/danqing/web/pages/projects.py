"""The Projects page: one document for all projects and for each; its own JavaScript asks the API for the rest."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse

from danqing.web.answers import language_of
from danqing.web.components.header import header_html
from danqing.web.i18n import say

# Nothing of ours is inline, so nothing inline may run; pictures of drafts come as data:, uploads as blob:.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_DOCUMENT = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<base href="{base}">
<link rel="stylesheet" href="web/static/danqing.css">
<link rel="stylesheet" href="web/static/projects.css">
<link rel="icon" href="web/static/seal.svg" type="image/svg+xml">
<script type="module" src="web/projects/main.js"></script>
</head>
<body>
<div class="gradio-container dq-projects"><div>{header}</div><main id="dp-main"></main></div>
</body>
</html>
"""
ProjectId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,64}$")]


def projects_page() -> APIRouter:
    """`/projects` and `/projects/{id}`."""
    router = APIRouter(prefix="/projects", include_in_schema=False)

    @router.get("")
    def projects(request: Request) -> HTMLResponse:
        return _document(request, base="./")

    @router.get("/")
    def projects_again(request: Request) -> HTMLResponse:
        return _document(request, base="../")

    @router.get("/{project_id}")
    def project(project_id: ProjectId, request: Request) -> HTMLResponse:
        _ = project_id  # the page's JavaScript reads it from the address
        return _document(request, base="../")

    return router


def _document(request: Request, *, base: str) -> HTMLResponse:
    """The page; `base` leads from its address to the studio's root, so that a proxy may put it under any path."""
    language = language_of(request)
    page = _DOCUMENT.format(
        language=language, title=say(language, "p.title"), base=base, header=header_html("nav.projects")
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": _CSP, "Cache-Control": "no-cache"})
