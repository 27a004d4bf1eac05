"""The studio in a browser: Gradio pages mounted on the FastAPI app."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from danqing.studio.service import Studio
    from danqing.studio.settings import Settings


def mount(app: FastAPI, studio: Studio, settings: Settings) -> FastAPI:
    """Mount the studio's pages at `/`; every other route of `app` must be registered before.

    Args:
        app: The server's application.
        studio: The service that paints and remembers.
        settings: Limits of uploads.

    Returns:
        The same application.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    from danqing.web.app import mount_pages

    return mount_pages(app, studio, settings)
