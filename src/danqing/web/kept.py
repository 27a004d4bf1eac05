"""The pages' own files at addresses that change with them, so that browsers keep them for good.

Without this a browser guesses how long a script stays good by its age, and runs yesterday's beside today's page after
an update. `/web/files/{version}/…` is what the pages name: kept for good where the version is that of this server. A
page that was opened before an update asks for an older version and gets today's file, which no browser keeps.
Gradio's own files under `/assets` have a digest in their names; it only does not say so to the browser.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.staticfiles import StaticFiles

from danqing.web.answers import PREFIX
from danqing.web.assets import CANVAS, PROJECTS, STATIC, TRAINING

if TYPE_CHECKING:
    import os

    from fastapi import FastAPI
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOLDERS = {"static": STATIC, "canvas": CANVAS, "projects": PROJECTS, "training": TRAINING}
_FOR_GOOD = "private, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
_GRADIO = "/assets/"


@cache
def version() -> str:
    """Sixteen hex digits that change with any of the files; a server sees changes when it starts again."""
    total = hashlib.sha256()
    for name, folder in FOLDERS.items():
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            total.update(f"{name}/{file.relative_to(folder).as_posix()}\0".encode())
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]


def address(path: str) -> str:
    """Where a page finds one of the files, as `canvas/main.js`, from the studio's root."""
    return f"{PREFIX.lstrip('/')}/files/{version()}/{path}"


def add_files(app: FastAPI) -> None:
    """Serve the files under their version, and under their plain names to whoever asks each time."""
    for name, folder in FOLDERS.items():
        files = _Files(directory=folder)
        app.mount(f"{PREFIX}/files/{{version}}/{name}", files, name=f"danqing-kept-{name}")
        app.mount(f"{PREFIX}/{name}", files, name=f"danqing-{name}")


class _Files(StaticFiles):
    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        answer = super().file_response(full_path, stat_result, scope, status_code)
        is_current = scope.get("path_params", {}).get("version") == version()
        answer.headers["Cache-Control"] = _FOR_GOOD if is_current else _ASK_AGAIN
        return answer


class KeepsGradio:
    """ASGI middleware: browsers keep Gradio's own files, whose names change with what is in them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and add to an answer that carries such a file."""

        async def said(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in {200, 304}:
                MutableHeaders(scope=message).setdefault("Cache-Control", _FOR_GOOD)
            await send(message)

        is_file = scope["type"] == "http" and _below(scope).startswith(_GRADIO)
        await self._app(scope, receive, said if is_file else send)


def _below(scope: Scope) -> str:
    """The path below the prefix that a proxy put before the studio."""
    return str(scope["path"]).removeprefix(str(scope.get("root_path", "")))
