"""The Training page: one document for sets, methods and runs; its own JavaScript asks the API for the rest."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from danqing.web.answers import language_of
from danqing.web.components.header import header_html
from danqing.web.i18n import say

# Nothing of ours is inline, so nothing inline may run.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
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
<link rel="stylesheet" href="web/static/training.css">
<link rel="icon" href="web/static/seal.svg" type="image/svg+xml">
<script type="module" src="web/training/main.js"></script>
</head>
<body>
<div class="gradio-container dq-projects dq-training"><div>{header}</div><main id="dt-main"></main></div>
</body>
</html>
"""


def training_page() -> APIRouter:
    """`/training`; what it shows stands behind `#` in the address."""
    router = APIRouter(prefix="/training", include_in_schema=False)

    @router.get("")
    def training(request: Request) -> HTMLResponse:
        return _document(request, base="./")

    @router.get("/")
    def training_again(request: Request) -> HTMLResponse:
        return _document(request, base="../")

    return router


def _document(request: Request, *, base: str) -> HTMLResponse:
    """The page; `base` leads from its address to the studio's root, so that a proxy may put it under any path."""
    language = language_of(request)
    page = _DOCUMENT.format(
        language=language, title=say(language, "tr.title"), base=base, header=header_html("nav.training")
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": _CSP, "Cache-Control": "no-cache"})
