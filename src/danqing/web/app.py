"""Mounting the pages: routes, theme, head, one Blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from danqing.web.kept import KeepsGradio, address
from danqing.web.pages.paint import build
from danqing.web.pages.projects import projects_page
from danqing.web.pages.training import training_page
from danqing.web.routes import add_routes
from danqing.web.theme import DanqingTheme

if TYPE_CHECKING:
    from fastapi import FastAPI

    from danqing.studio.service import Studio
    from danqing.studio.settings import Settings

_HEAD = """
<link rel="stylesheet" href="{danqing}">
<link rel="stylesheet" href="{explore}">
<link rel="icon" href="{seal}" type="image/svg+xml">
<meta name="color-scheme" content="light dark">
"""


def mount_pages(app: FastAPI, studio: Studio, settings: Settings) -> FastAPI:
    """Mount the pages at `/` (see `danqing.web.mount`)."""
    add_routes(app, studio, settings.upload_max_bytes)
    app.include_router(projects_page())
    app.include_router(training_page())
    app.add_middleware(KeepsGradio)
    blocks = build(studio)
    names = {"danqing": "danqing.css", "explore": "explore.css", "seal": "seal.svg"}
    head = _HEAD.format(**{key: address(f"static/{name}") for key, name in names.items()})
    return gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=DanqingTheme(),
        head=head,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        max_file_size=settings.upload_max_bytes,
    )
